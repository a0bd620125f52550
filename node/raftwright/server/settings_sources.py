"""Where settings come from: flags, then `RAFTWRIGHT_…` variables, then a TOML file, then the defaults.

Called once, at the start of `raftwright node`. Rule: whatever is wrong is one SettingsError that names the setting,
where it came from and what is allowed; nothing unknown is passed over in silence.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from raftwright.server.addresses import parse_address, parse_addresses, parse_members, parse_name
from raftwright.server.policies import parse_policy
from raftwright.server.settings import (
    NodeSettings,
    Setting,
    SettingsError,
    declarations,
    flag_of,
    setting_of,
    variable_of,
)
from raftwright.storage.errors import UnsupportedFormat
from raftwright.storage.transforms import transform_named

CONFIG_VARIABLE = "RAFTWRIGHT_CONFIG"
_PREFIX = "RAFTWRIGHT_"
_ELSEWHERE = frozenset({CONFIG_VARIABLE, "RAFTWRIGHT_ENDPOINTS", "RAFTWRIGHT_TIMEOUT_S"})
"""Variables of the same prefix that are no node's settings."""
_KUBERNETES = re.compile(r".*(_SERVICE_(HOST|PORT(_\w+)?)|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
"""Kubernetes puts such variables into every container beside a service whose name begins with `raftwright`."""
_BYTES = re.compile(r"(\d{1,15})(KiB|MiB|GiB)?")
_UNITS = {None: 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
METADATA_MAX = 32
_METADATA_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
_SWITCHES = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


def load_settings(
    flags: Mapping[str, str | bool | None],
    environ: Mapping[str, str],
    config_path: str | Path | None = None,
) -> NodeSettings:
    """The settings of a node. `flags` are by the setting's name, None where not given; `config_path` is that of
    `--config`, else `RAFTWRIGHT_CONFIG` says where the file is. SettingsError for anything wrong."""
    found: dict[str, tuple[Any, str]] = {}
    path = config_path or environ.get(CONFIG_VARIABLE)
    if path:
        found.update(_from_file(Path(path)))
    found.update(_from_environment(environ))
    found.update(_from_flags(flags))
    values: dict[str, Any] = {}
    for name, declared in declarations().items():
        if name in found:
            value, origin = found[name]
            values[name] = converted(setting_of(declared), value, name, origin)
        elif declared.default is MISSING:
            raise SettingsError(
                f"{name} is not set: give {flag_of(name)}, {variable_of(name)} or {name} in the file of settings; "
                f"allowed is {setting_of(declared).allowed}"
            )
    settings = NodeSettings(**values)
    check_together(settings, {name: origin for name, (_, origin) in found.items()})
    return settings


def settings_of(values: Mapping[str, Any]) -> NodeSettings:
    """The settings that a program gives by name, as in a TOML file; paths and lists of members may be objects too.
    SettingsError for anything wrong."""
    known = declarations()
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise unknown(name, name, str)
        plain = str(value) if isinstance(value, Path) else value
        is_object = setting_of(known[name]).kind == "members" and not isinstance(value, str)
        found[name] = tuple(value) if is_object else converted(setting_of(known[name]), plain, name, "the call")
    missing = [name for name, declared in known.items() if declared.default is MISSING and name not in found]
    if missing:
        raise SettingsError(f"{missing[0]} is not set; allowed is {setting_of(known[missing[0]]).allowed}")
    settings = NodeSettings(**found)
    check_together(settings, dict.fromkeys(found, "the call"))
    return settings


def _from_flags(flags: Mapping[str, str | bool | None]) -> dict[str, tuple[Any, str]]:
    known = declarations()
    found = {name: (value, flag_of(name)) for name, value in flags.items() if value is not None}
    for name in found:
        if name not in known:
            raise unknown(name, flag_of(name), flag_of)
    return found


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    names = {variable_of(name): name for name in declarations()}
    found = {}
    for variable, value in environ.items():
        if variable in names:
            found[names[variable]] = (value, f"the variable {variable}")
        elif variable.startswith(_PREFIX) and variable not in _ELSEWHERE and not _KUBERNETES.fullmatch(variable):
            raise unknown(variable.removeprefix(_PREFIX).lower(), f"the variable {variable}", variable_of)
    return found


def _from_file(path: Path) -> dict[str, tuple[Any, str]]:
    try:
        document = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise SettingsError(f"the file of settings {path} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the file of settings {path} is not TOML: {error}") from error
    for key in document:
        if key not in declarations():
            raise unknown(key, f"{key} in {path}", str)
    return {key: (value, str(path)) for key, value in document.items()}


def unknown(name: str, shown: str, spelled: Callable[[str], str]) -> SettingsError:
    """The error for a name that no setting has."""
    near = difflib.get_close_matches(name, declarations(), n=1)
    hint = f"did you mean {spelled(near[0])}?" if near else "allowed are " + ", ".join(map(spelled, declarations()))
    return SettingsError(f"there is no setting for {shown}; {hint}")


def converted(known: Setting, value: Any, name: str, origin: str) -> Any:
    """The value of one setting, from text or from a file. SettingsError if it is not allowed."""
    try:
        converted = _CONVERTERS[known.kind](known, value)
        if known.choices and converted not in known.choices:
            raise ValueError
        if known.low is not None and known.high is not None and not known.low <= converted <= known.high:
            raise ValueError
    except ValueError as error:
        why = f" ({error})" if error.args else ""
        raise SettingsError(f"{name} is {value!r}, from {origin}{why}; allowed is {known.allowed}") from error
    return converted


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("it must be text")
    return value


def _integer(known: Setting, value: Any) -> int:
    if isinstance(value, str):
        match = _BYTES.fullmatch(value.strip().replace("_", ""))
        if not match or (match[2] and known.unit != "bytes"):
            raise ValueError
        return int(match[1]) * _UNITS[match[2]]
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError
    return value


def _number(known: Setting, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    try:
        return float(value)
    except ValueError:
        raise ValueError from None


def _switch(known: Setting, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    try:
        return _SWITCHES[_text(value).strip().lower()]
    except KeyError:
        raise ValueError from None


def _path(known: Setting, value: Any) -> Path:
    if not _text(value) or "\0" in value:
        raise ValueError("it is empty" if not value else "it holds a zero byte")
    return Path(value).expanduser()


def _policy(known: Setting, value: Any) -> str:
    if _text(value).strip():
        parse_policy(value)
    return str(value).strip()


def _metadata(value: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(value, Mapping):
        pairs = [(key, _text(text)) for key, text in value.items()]
    else:
        pieces = [piece.partition("=") for piece in _text(value).split(",") if piece.strip()]
        if any(not equals for _, equals, _ in pieces):
            raise ValueError("each piece is key=value")
        pairs = [(key.strip(), text.strip()) for key, _, text in pieces]
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key is there twice")
    if len(pairs) > METADATA_MAX or any(not _METADATA_KEY.fullmatch(key) or len(text) > 255 for key, text in pairs):
        raise ValueError("a key is no key, a value is too long, or there are too many")
    return tuple(sorted(pairs))


def _address(known: Setting, value: Any) -> str:
    parse_address(_text(value))
    return str(value)


def _listen(known: Setting, value: Any) -> str:
    if value:
        parse_address(_text(value), port_min=0)
    return str(value)


_CONVERTERS: dict[str, Callable[[Setting, Any], Any]] = {
    "text": lambda _, value: _text(value),
    "name": lambda _, value: parse_name(_text(value)),
    "integer": _integer,
    "number": _number,
    "switch": _switch,
    "path": _path,
    "policy": _policy,
    "metadata": lambda _, value: _metadata(value),
    "address": _address,
    "listen": _listen,
    "addresses": lambda _, value: parse_addresses(_text(value)),
    "members": lambda _, value: tuple(parse_members(_text(value))),
}


def check_together(settings: NodeSettings, origins: Mapping[str, str]) -> None:
    """What no single setting shows."""

    def wrong(name: str, value: object, why: str) -> SettingsError:
        return SettingsError(f"{name} is {value!r}, from {origins.get(name, 'the defaults')}; {why}")

    try:
        transform_named(settings.snapshot_compression)
    except UnsupportedFormat as error:
        raise wrong("snapshot_compression", settings.snapshot_compression, str(error)) from error
    third = settings.election_timeout_ms // 3
    if settings.heartbeat_interval_ms > third:
        why = f"allowed is at most a third of election_timeout_ms, {third} ms"
        raise wrong("heartbeat_interval_ms", settings.heartbeat_interval_ms, why)
    if settings.members and settings.join:
        raise wrong("join", ",".join(settings.join), "a node is a first member (members) or joins (join), not both")
    if settings.join or settings.rejoin:
        for which, address in (("peer", settings.peer_address), ("client", settings.client_address)):
            if which == "client" and not address:
                continue  # it serves no clients
            host, port = parse_address(address, port_min=0) if address else ("", 0)
            if not port or host in ("0.0.0.0", "::"):
                why = f"nobody reaches this node there: say where in {which}_advertise"
                raise wrong(f"{which}_listen", address, why)
    if settings.rejoin and not (settings.members or settings.join):
        raise wrong("rejoin", True, "it needs members or join, to know whom to ask")
    names_known = settings.members and settings.members[0].name
    if settings.members and not names_known and settings.peer_address not in {one.peer for one in settings.members}:
        why = "it is not among the members " + ", ".join(one.peer for one in settings.members)
        raise wrong("peer_advertise" if settings.peer_advertise else "peer_listen", settings.peer_address, why)
    if names_known and settings.name not in {member.name for member in settings.members}:
        names = ", ".join(member.name for member in settings.members)
        raise wrong("name", settings.name, f"it is not among the members {names}")
    longest = settings.key_bytes_max + settings.value_bytes_max + 4096
    for name in ("body_bytes_max", "stream_frame_bytes_max", "pending_bytes_max"):
        if getattr(settings, name) < longest:
            why = f"allowed is at least {longest:,} bytes, so that the longest key and value fit"
            raise wrong(name, getattr(settings, name), why)
    encoded_key = 3 * settings.key_bytes_max + 1024
    if settings.request_head_bytes_max < encoded_key:
        why = f"allowed is at least {encoded_key:,} bytes, so that the longest key fits"
        raise wrong("request_head_bytes_max", settings.request_head_bytes_max, why)
    if settings.log_cache_bytes_max < settings.entry_bytes_max:
        why = f"allowed is at least entry_bytes_max, {settings.entry_bytes_max:,} bytes"
        raise wrong("log_cache_bytes_max", settings.log_cache_bytes_max, why)
