"""Who may do what: every route and every operation of a stream names its permission, and passes `authorize`.

The dispatcher of the routes and the stream call it. Rule: nothing is done for a caller before this said yes. For now
everyone is `anonymous` and may do everything.
"""

from enum import Enum
from typing import NamedTuple


class Permission(Enum):
    READ = "kv:read"
    WRITE = "kv:write"
    STATUS = "status:read"
    METRICS = "metrics:read"
    HEALTH = "health:read"
    DOCUMENTATION = "documentation:read"
    CONNECT = "stream:connect"
    MEMBERS_READ = "members:read"
    MEMBERS_WRITE = "members:write"
    LEADER_TRANSFER = "leader:transfer"
    BOOTSTRAP = "cluster:bootstrap"
    SETTINGS_READ = "settings:read"
    SETTINGS_WRITE = "settings:write"
    SNAPSHOT = "snapshot:take"
    STORE_DISCARD = "store:discard"


class Principal(NamedTuple):
    name: str


ANONYMOUS = Principal("anonymous")


def authorize(principal: Principal, permission: Permission) -> None:
    """Returns if `principal` may; raises `problems.Forbidden` if not."""
