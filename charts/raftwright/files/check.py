"""What `helm test` runs in the operator's image: the operator is ready, and RaftClusters are served and may be read.

It ends with an error that says what is not so. Arguments: the operator's address (host:port); then a namespace whose
RaftClusters the operator may read, or nothing where it may read all.
"""

import json
import os
import ssl
import sys
import time
import urllib.request
from pathlib import Path

CREDENTIALS = Path(os.environ.get("RAFTWRIGHT_CREDENTIALS", "/var/run/secrets/kubernetes.io/serviceaccount"))
PATIENCE_S = 30.0


def wait_until_ready(address: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}/readyz", timeout=5):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"the operator at {address} is not ready: {error}")
            time.sleep(1)


def count_clusters(namespace: str) -> int:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    if ":" in host:
        host = f"[{host}]"
    place = f"namespaces/{namespace}/" if namespace else ""
    request = urllib.request.Request(f"https://{host}:{port}/apis/raftwright.io/v1alpha1/{place}raftclusters")
    request.add_header("Authorization", f"Bearer {(CREDENTIALS / 'token').read_text().strip()}")
    context = ssl.create_default_context(cafile=str(CREDENTIALS / "ca.crt"))
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return len(json.load(answer)["items"])
    except OSError as error:
        sys.exit(f"RaftClusters cannot be read: {error}")


if __name__ == "__main__":
    wait_until_ready(sys.argv[1])
    found = count_clusters(sys.argv[2] if len(sys.argv) > 2 else "")
    sys.stdout.write(f"The operator is ready; RaftClusters are served: {found} found.\n")
