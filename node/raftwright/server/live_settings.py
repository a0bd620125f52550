"""Settings that change while the node runs: by `PATCH /v1/settings`, and by SIGHUP, which reads the sources again.

`node.py` and `run.py` call it. Rules: a change is checked whole, with what the settings are together, before any of it
counts; what may not change is refused by its name.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from raftwright.server.driver import Driver
from raftwright.server.policies import SnapshotPolicy, parse_policy
from raftwright.server.settings import NodeSettings, SettingsError, declarations, setting_of
from raftwright.server.settings_sources import check_together, converted, unknown
from raftwright.storage.storage import Storage

_log = logging.getLogger(__name__)


class SettingRefused(SettingsError):
    """`name` is the setting to blame; empty where it is about several."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.name = name


def changeable() -> list[str]:
    """The names of the settings that may change while the node runs."""
    return [name for name, declared in declarations().items() if setting_of(declared).changeable]


def changed(settings: NodeSettings, changes: Mapping[str, Any], origin: str) -> NodeSettings:
    """The settings with `changes`, whose values are as in a file. SettingRefused if one is wrong."""
    values: dict[str, Any] = {}
    for name, value in changes.items():
        declared = declarations().get(name)
        if declared is None:
            raise SettingRefused(str(unknown(name, name, str)), name)
        if not setting_of(declared).changeable:
            raise SettingRefused(f"{name} cannot change while the node runs: restart it with the new value", name)
        try:
            values[name] = converted(setting_of(declared), value, name, origin)
        except SettingsError as error:
            raise SettingRefused(str(error), name) from error
    new = replace(settings, **values)
    try:
        check_together(new, dict.fromkeys(changes, origin))
    except SettingsError as error:
        raise SettingRefused(str(error), "") from error
    return new


def reloaded(settings: NodeSettings, read: NodeSettings) -> tuple[NodeSettings, list[str]]:
    """The settings with what of `read` may change now, and the names of those that differ and may not."""
    different = [name for name in declarations() if getattr(settings, name) != getattr(read, name)]
    allowed = set(changeable())
    new = replace(settings, **{name: getattr(read, name) for name in different if name in allowed})
    return new, [name for name in different if name not in allowed]


def policy_of(settings: NodeSettings) -> SnapshotPolicy:
    if settings.snapshot_policy:
        return parse_policy(settings.snapshot_policy)
    counts = SnapshotPolicy.commands(settings.snapshot_every_commands)
    return counts | SnapshotPolicy.log_bytes(settings.snapshot_every_log_bytes)


def put_into_effect(settings: NodeSettings, before: NodeSettings, storage: Storage, driver: Driver | None) -> None:
    """Tell the parts of a node what has changed. Those that read the settings each time need not be told."""
    for name in changeable():
        if getattr(settings, name) != getattr(before, name):
            _log.info("%s is now %s", name, shown(getattr(settings, name)))
    if settings.log_level != before.log_level:
        logging.getLogger("raftwright").setLevel(settings.log_level.upper())
    storage.snapshot_compression = settings.snapshot_compression
    if driver is not None:
        if policy_of(settings) != policy_of(before):
            driver.snapshotting.policy = policy_of(settings)
        driver.writes.commands_max = settings.pending_commands_max
        driver.writes.bytes_max = settings.pending_bytes_max


def shown(value: Any) -> Any:
    """A setting's value as JSON and TOML have it."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return ",".join(map(str, (_piece(piece) for piece in value)))
    return value


def _piece(piece: Any) -> Any:
    if hasattr(piece, "peer"):
        client = f"/{piece.client}" if piece.client else ""
        name = f"{piece.name}=" if piece.name else ""
        return f"{name}{piece.peer}{client}{'' if piece.voter else ',nonVoting'}"
    return "=".join(piece) if isinstance(piece, tuple) else piece


def document(settings: NodeSettings) -> dict[str, Any]:
    return {name: shown(getattr(settings, name)) for name in declarations()}
