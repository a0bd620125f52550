"""A real kube-apiserver on a real etcd, without a kubelet or controllers: what tests of operator and chart talk to.

The fixture `api_server` in `tests/conftest.py` is one for the whole session; a test that measures starts its own. Rule:
nothing here pretends: the programs are Kubernetes' own, found on PATH, and without them the test says so.
"""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

import pytest
import yaml

TOKEN = "administrator"
"""The bearer token of a member of `system:masters`, good in these servers only."""
PROGRAMS = ("etcd", "kube-apiserver", "kubectl")
START_TIMEOUT_S = 60.0


def require_programs(*names: str) -> None:
    """Skip the test with a reason where one of these is not on PATH; fail instead where `E2E=required`."""
    missing = [name for name in names if shutil.which(name) is None]
    if not missing:
        return
    reason = f"not on PATH: {', '.join(missing)}"
    if os.environ.get("E2E") == "required":
        pytest.fail(f"E2E=required, but {reason}")
    pytest.skip(reason)


class ApiServer:
    """`with ApiServer(directory) as server:` takes about five seconds; what it writes is in `directory`, an empty one.

    Everyone with `kubeconfig` is an administrator. Admission of service accounts is off, since no controller makes the
    default ones; nothing collects garbage, runs pods or binds claims: a test does that itself, by the API.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []
        self._logs: list[IO[bytes]] = []
        self.kubeconfig = directory / "kubeconfig"
        self.url = ""
        self.token = TOKEN

    @property
    def ca_file(self) -> Path:
        """What signed the server's certificate, as PEM."""
        return self._directory / "certificates" / "apiserver.crt"

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment with KUBECONFIG set, for programs that are to talk to this server."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Raises RuntimeError with the end of the log of the program that did not start."""
        try:
            etcd_port, peer_port, port = _free_ports(3)
            self.url = f"https://127.0.0.1:{port}"
            self._start_etcd(etcd_port, peer_port)
            self._start_kube_apiserver(port, etcd_port)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        while self._processes:
            process = self._processes.pop()
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        while self._logs:
            self._logs.pop().close()

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """One call of the API by an administrator, with its answer decoded. Raises urllib.error.HTTPError."""
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("Content-Type", content_type)
        data = None if body is None else json.dumps(body).encode()
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with urllib.request.urlopen(request, data, timeout=10, context=context) as answer:
            raw = answer.read()
        return json.loads(raw) if raw.startswith(b"{") else raw.decode()

    def kubectl(self, *arguments: str, objects: Sequence[Mapping[str, Any]] = ()) -> subprocess.CompletedProcess[str]:
        """Runs it, with `objects` as what it reads (`-f -`). A refusal is in `returncode` and `stderr`."""
        return subprocess.run(
            ["kubectl", *arguments],
            input="\n---\n".join(json.dumps(each) for each in objects),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """In the block the server answers nobody, not even the end of a connection."""
        self._processes[-1].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._processes[-1].send_signal(signal.SIGCONT)

    def create_namespace(self, name: str) -> None:
        self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    def install_definition(self, definition: Mapping[str, Any]) -> None:
        """Creates a CustomResourceDefinition, if it is not there, and waits until the server serves it."""
        done = self.kubectl("apply", "--server-side", "-f", "-", objects=[definition])
        assert done.returncode == 0, done.stderr
        name = f"customresourcedefinition/{definition['metadata']['name']}"
        done = self.kubectl("wait", "--for=condition=Established", "--timeout=30s", name)
        assert done.returncode == 0, done.stderr

    def _start_etcd(self, port: int, peer_port: int) -> None:
        client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
        self._run(
            "etcd",
            f"--data-dir={self._directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        )

    def _start_kube_apiserver(self, port: int, etcd_port: int) -> None:
        certificates = self._directory / "certificates"
        tokens = self._directory / "tokens.csv"
        tokens.write_text(f'{self.token},administrator,administrator,"system:masters"\n')
        # The server makes a certificate and key for itself; the same key signs tokens of service accounts.
        key = certificates / "apiserver.key"
        self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={certificates}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
        )

    def _run(self, program: str, *arguments: str) -> None:
        log = (self._directory / f"{program}.log").open("wb")
        self._logs.append(log)
        self._processes.append(subprocess.Popen([program, *arguments], stdout=log, stderr=log))

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.request("GET", "/readyz")
                self.request("GET", "/api/v1/namespaces/default")
                break
            except OSError as error:
                self._check_alive()
                if time.monotonic() > deadline:
                    raise RuntimeError(f"kube-apiserver is not ready: {error}\n{self._log_end()}") from error
                time.sleep(0.1)
        self._write_kubeconfig()

    def _check_alive(self) -> None:
        for process in self._processes:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args!r} ended with {process.returncode}\n{self._log_end()}")

    def _log_end(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in self._directory.glob("*.log"))

    def _write_kubeconfig(self) -> None:
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "administrator", "user": {"token": self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "administrator"}}],
            "current-context": "test",
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports
