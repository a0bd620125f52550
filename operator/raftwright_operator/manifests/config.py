"""The ConfigMap with the nodes' settings as TOML, the same for every pod. Called by `build` and `pods`.

Rule: what tells one pod from another (name, addresses) is in its environment, never here.
"""

import json
from typing import Any

from raftwright_operator.manifests.metadata import Manifest, digest, owned
from raftwright_operator.names import CLIENT_PORT, PEER_PORT
from raftwright_operator.observed import Observed
from raftwright_operator.spec import Spec

DIRECTORY, FILE = "/etc/raftwright", "config.toml"
DATA_DIRECTORY = "/var/lib/raftwright"
NO_CAP = 0
HEAD = "# Written by the operator. Change the RaftCluster instead: spec.settings, spec.snapshots, spec.stateMachine.\n"


def config_map(spec: Spec, observed: Observed) -> Manifest:
    return owned(observed, "v1", "ConfigMap", observed.name, {"data": {FILE: text_of(spec)}})


def config_hash(spec: Spec) -> str:
    """On the pods: nodes read most settings once, at their start, so another file means other pods."""
    return digest(text_of(spec))


def settings_of(spec: Spec) -> dict[str, str | int]:
    """By the names of the node's TOML file. What a person set comes last and wins, but for reserved names, which
    `spec.parse` has left out."""
    settings: dict[str, str | int] = {
        "data_dir": DATA_DIRECTORY,
        # Every address, of IPv4 and of IPv6, whichever the pod has.
        "client_listen": f"[::]:{CLIENT_PORT}",
        "peer_listen": f"[::]:{PEER_PORT}",
        # Behind a Service or a load balancer, many clients share one source address.
        "connections_per_address_max": NO_CAP,
    }
    for name, value in (
        ("snapshot_policy", spec.snapshots.policy),
        ("snapshot_compression", spec.snapshots.compression),
        ("state_machine", spec.state_machine),
    ):
        if value is not None:
            settings[name] = value
    return {**settings, **spec.settings}


def text_of(spec: Spec) -> str:
    """The file, with its keys in order. Values are as text, which the node reads as what each setting is."""
    return HEAD + "".join(f"{name} = {_written(value)}\n" for name, value in sorted(settings_of(spec).items()))


def _written(value: Any) -> str:
    """JSON's strings are TOML's, but for characters beyond 16 bits, whose escape is another, and one control character.
    Nothing but ASCII: what reads an apply as YAML stumbles over a pair of surrogates."""
    plain = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return "".join(c if c.isascii() else f"\\U{ord(c):08X}" for c in plain)
