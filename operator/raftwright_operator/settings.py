"""What a person sets of the operator itself: environment variables, each of which `python -m raftwright_operator` also
takes as a flag.

Called by `__main__` and, where kopf's own command runs the operator, by `handlers`. Imports nothing of ours.
"""

import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

PREFIX = "RAFTWRIGHT_OPERATOR_"
NODE_IMAGE = "raftwright/node:dev"
NodeAccess = Literal["auto", "direct", "proxy"]


class SettingsError(ValueError):
    """A variable or flag has a value that cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    node_image: str = NODE_IMAGE
    """`repository:tag` of clusters that name no image."""
    namespaces: tuple[str, ...] = ()
    """Empty: all of them."""
    leader_election: bool = True
    node_access: NodeAccess = "auto"
    """How nodes are reached: `direct` by the pod's address, `proxy` through the API server, for an operator that runs
    outside of the cluster; `auto`: direct within a cluster, else proxy."""
    pod_name: str = ""
    """Who holds the Lease."""
    pod_namespace: str = "default"
    """Where the Lease is."""
    pod_uid: str = ""
    """Of this pod: the Lease goes when it does. Empty outside of a cluster."""
    health_port: int = 8080
    """0: none. So is `metrics_port`."""
    metrics_port: int = 9090
    resync_s: float = 15.0
    """How often a settled cluster is looked at, though nothing is known to have changed; jittered."""
    log_level: str = "INFO"


def settings_of(environment: Mapping[str, str] = os.environ) -> OperatorSettings:
    """SettingsError for a value that cannot be."""
    given = {name[len(PREFIX) :].lower(): text for name, text in environment.items() if name.startswith(PREFIX)}
    access = given.get("node_access", "auto")
    if access not in ("auto", "direct", "proxy"):
        raise SettingsError(f"{PREFIX}NODE_ACCESS is {access!r}; it may be auto, direct or proxy")
    level = given.get("log_level", "INFO").upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise SettingsError(f"{PREFIX}LOG_LEVEL is {level!r}; it may be DEBUG, INFO, WARNING or ERROR")
    return OperatorSettings(
        node_image=given.get("node_image") or NODE_IMAGE,
        namespaces=tuple(part.strip() for part in given.get("namespaces", "").split(",") if part.strip()),
        leader_election=_switch("LEADER_ELECTION", given.get("leader_election", "true")),
        node_access=access,  # type: ignore[arg-type]
        # Outside of a cluster, two on one machine must not take each other for themselves.
        pod_name=environment.get("POD_NAME") or f"{socket.gethostname()}-{secrets.token_hex(4)}",
        pod_namespace=environment.get("POD_NAMESPACE") or "default",
        pod_uid=environment.get("POD_UID", ""),
        health_port=int(_number("HEALTH_PORT", given.get("health_port", "8080"), 0, 65535)),
        metrics_port=int(_number("METRICS_PORT", given.get("metrics_port", "9090"), 0, 65535)),
        resync_s=_number("RESYNC_S", given.get("resync_s", "15"), 1, 300),
        log_level=level,
    )


def _switch(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise SettingsError(f"{PREFIX}{name} is {text!r}; it may be true or false")
    return text.lower() == "true"


def _number(name: str, text: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise SettingsError(f"{PREFIX}{name} is {text!r}; it may be a number from {least:g} to {most:g}")
    return value
