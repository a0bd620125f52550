"""What a person may set for a node: each setting is declared once, with unit, default, range and help.

Flags of the command, `RAFTWRIGHT_…` variables and keys of the TOML file all come from `NodeSettings`. Rule: a setting
is checked, whole, before anything starts; who reads it later may trust it. Reading the three sources is
`server/settings_sources.py`.
"""

# ruff: noqa: RUF009  the functions that declare a setting make a dataclass field

from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from raftwright.kv.commands import BLOB_COMMANDS_MAX, CommandLimits
from raftwright.server.addresses import FirstMember
from raftwright.server.policies import FORMS

KIB = 1024
MIB = 1024 * 1024


class SettingsError(Exception):
    """A setting is wrong. The message names it, where it came from, and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What there is to know of one setting beside its value."""

    help: str
    kind: str
    """One of `text`, `integer`, `number`, `switch`, `path`, `name`, `address`, `listen`, `addresses`, `members`,
    `policy`, `metadata`."""
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    changeable: bool = False
    """It may change while the node runs."""

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        text = _ALLOWED[self.kind]
        if self.low is not None and self.high is not None:
            text += f" from {self.low:,} to {self.high:,}"
        return f"{text} {self.unit}".rstrip()


_ALLOWED = {
    "text": "text",
    "integer": "a whole number",
    "number": "a number",
    "switch": "true or false",
    "path": "a path",
    "policy": FORMS,
    "metadata": "key=value, separated by commas, each key once; up to 32 of them",
    "name": "1 to 63 letters, digits, '.', '_' or '-', beginning and ending with a letter or digit",
    "address": "host:port",
    "listen": "host:port, where port 0 means any free one, or nothing at all",
    "addresses": "host:port, separated by commas or semicolons",
    "members": "[name=]host:port[/client-host:port][,nonVoting], separated by commas or semicolons, each name once",
}


def _setting(default: Any, text: str, kind: str, **known: Any) -> Any:
    return field(default=default, metadata={"setting": Setting(help=text, kind=kind, **known)})


def _count(default: int, text: str, low: int, high: int, unit: str = "", **known: Any) -> Any:
    return _setting(default, text, "integer", unit=unit, low=low, high=high, **known)


def _bytes(default: int, text: str, low: int, high: int, **known: Any) -> Any:
    return _setting(default, text, "integer", unit="bytes", low=low, high=high, **known)


def _seconds(default: float, text: str, low: float, high: float, **known: Any) -> Any:
    return _setting(default, text, "number", unit="s", low=low, high=high, **known)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Every setting of a node. Flag `--request-timeout-s`, variable `RAFTWRIGHT_REQUEST_TIMEOUT_S`, TOML key
    `request_timeout_s`; units come last in the name."""

    name: str = _setting(MISSING, "This node's name, unlike that of any other member.", "name")
    data_dir: Path = _setting(MISSING, "Where this node keeps its log and snapshots.", "path")
    client_listen: str = _setting("127.0.0.1:7001", "Where to listen for clients.", "listen")
    peer_listen: str = _setting("127.0.0.1:8001", "Where to listen for other members.", "listen")
    client_advertise: str = _setting("", "Where clients reach this node, if not where it listens.", "address")
    peer_advertise: str = _setting("", "Where other members reach this node, if not where it listens.", "address")
    members: tuple[FirstMember, ...] = _setting(
        (), "The first members of a new cluster, the same for every one of them.", "members"
    )

    metadata: tuple[tuple[str, str], ...] = _setting(
        (), "What others may know of this node, such as zone=a; written into the membership when it enters.", "metadata"
    )
    state_machine: str = _setting(
        "", "A state machine of one's own in place of the key-value store, as package.module:Class.", "text"
    )

    join: tuple[str, ...] = _setting(
        (), "Members of a cluster, by their addresses for members, through which this node adds itself.", "addresses"
    )
    non_voting: bool = _setting(False, "Join without a vote.", "switch")
    rejoin: bool = _setting(
        False, "Take the place of the dead member of this node's name, whose disk is lost.", "switch"
    )

    election_timeout_ms: int = _count(
        600, "Without a leader for this long up to twice it, a voter campaigns.", 50, 60_000, "ms"
    )
    heartbeat_interval_ms: int = _count(
        100, "How often a leader says that it lives; at most a third of the election timeout.", 5, 20_000, "ms"
    )
    lease_clock_drift: float = _setting(
        0.1,
        "How much slower the slowest member's clock may run than the fastest one's, as a share; the leader's lease is"
        " shorter than the election timeout by it.",
        "number",
        low=0,
        high=0.9,
    )
    request_timeout_s: float = _seconds(5.0, "How long a request may wait for a quorum.", 0.1, 300)
    shutdown_timeout_s: float = _seconds(
        5.0, "How long a node that stops waits for requests on their way.", 0, 300, changeable=True
    )

    key_bytes_max: int = _bytes(KIB, "The longest key, in UTF-8.", 1, 64 * KIB)
    value_bytes_max: int = _bytes(MIB, "The longest value.", 1, 16 * MIB)
    batch_ops_max: int = _count(1000, "The most operations in one batch.", 1, BLOB_COMMANDS_MAX)
    batch_bytes_max: int = _bytes(MIB, "The most bytes of keys and values in one batch.", 1, 16 * MIB)
    body_bytes_max: int = _bytes(8 * MIB, "The longest body of a request.", KIB, 64 * MIB)
    page_items_max: int = _count(1000, "The most items in one page of a list.", 1, 100_000, changeable=True)
    page_bytes_max: int = _bytes(
        MIB, "About how many bytes of keys and values one page holds.", KIB, 64 * MIB, changeable=True
    )

    entry_bytes_max: int = _bytes(MIB, "The longest log entry, unless one command is longer.", 4 * KIB, 64 * MIB)
    segment_bytes_max: int = _bytes(
        16 * MIB, "The size of one file of the log; an entry that is larger gets a larger one.", 64 * KIB, 1024 * MIB
    )
    log_cache_bytes_max: int = _bytes(16 * MIB, "How much of the log is kept in memory.", 64 * KIB, 4096 * MIB)
    snapshot_policy: str = _setting(
        "", "When a snapshot is taken, in place of the two counts that follow.", "policy", changeable=True
    )
    snapshot_compression: str = _setting(
        "none", "How snapshots are compressed.", "text", choices=("none", "gzip", "zstd"), changeable=True
    )
    snapshot_every_commands: int = _count(
        1_000_000, "A snapshot is taken after this many commands.", 1, 1_000_000_000, "commands", changeable=True
    )
    snapshot_every_log_bytes: int = _bytes(
        64 * MIB, "A snapshot is taken after this much log.", 64 * KIB, 1024 * 1024 * MIB, changeable=True
    )
    pending_commands_max: int = _count(
        100_000, "The most commands waiting for a quorum; more are refused.", 1, 10_000_000, "commands", changeable=True
    )
    pending_bytes_max: int = _bytes(
        64 * MIB, "The most bytes of commands waiting for a quorum; more are refused.", KIB, 4096 * MIB, changeable=True
    )

    connections_max: int = _count(10_000, "The most connections of clients.", 1, 1_000_000)
    connections_per_address_max: int = _count(
        8_000, "The most connections from one address; 0 is no cap, for where many share one.", 0, 1_000_000
    )
    connections_reserved: int = _count(64, "Connections beyond the most that serve health checks only.", 0, 10_000)
    peer_connections_max: int = _count(128, "The most connections on the listener for other members.", 8, 10_000)
    request_head_timeout_s: float = _seconds(5.0, "How long the head of a request may take.", 0.1, 300)
    keep_alive_timeout_s: float = _seconds(75.0, "How long a connection may be idle between requests.", 1, 86_400)
    request_head_bytes_max: int = _bytes(16 * KIB, "The longest head of a request.", 2 * KIB, 512 * KIB)
    body_rate_bytes_per_s_min: int = _count(
        KIB, "A body that comes slower than this, over five seconds, is given up.", 0, MIB, "bytes/s"
    )
    bodies_bytes_max: int = _bytes(
        64 * MIB, "The most bytes of all bodies that have arrived in part; more are refused.", KIB, 4096 * MIB
    )
    streams_max: int = _count(1000, "The most streams of clients.", 1, 1_000_000)
    stream_commands_max: int = _count(4096, "The most commands in one frame of a stream.", 1, BLOB_COMMANDS_MAX)
    stream_frame_bytes_max: int = _bytes(4 * MIB, "The longest frame of a client's stream.", 4 * KIB, 64 * MIB)
    streams_bytes_max: int = _bytes(
        64 * MIB, "The most bytes of all streams' frames in part; over it the largest is cut.", 64 * KIB, 4096 * MIB
    )
    stream_pending_frames_max: int = _count(
        1024, "Frames of one stream without a reply, after which no more are read.", 1, 100_000
    )
    stream_pending_bytes_max: int = _bytes(
        8 * MIB, "Bytes of one stream without a reply, after which no more are read.", 4 * KIB, 1024 * MIB
    )
    stream_heartbeat_s: float = _seconds(
        15.0, "How often a stream is pinged; one that does not answer in half that time is closed.", 0.1, 3600
    )

    log_level: str = _setting(
        "info",
        "The least severe messages that are logged.",
        "text",
        choices=("debug", "info", "warning", "error"),
        changeable=True,
    )
    log_format: str = _setting("text", "How messages are logged.", "text", choices=("text", "json"))
    uvloop: bool = _setting(True, "Run on uvloop rather than asyncio's own event loop.", "switch")

    @property
    def client_address(self) -> str:
        """Where clients reach this node."""
        return self.client_advertise or self.client_listen

    @property
    def peer_address(self) -> str:
        """Where other members reach this node."""
        return self.peer_advertise or self.peer_listen

    @property
    def command_limits(self) -> CommandLimits:
        """What the built-in state machine checks commands against before they are proposed."""
        return CommandLimits(
            key_bytes_max=self.key_bytes_max,
            value_bytes_max=self.value_bytes_max,
            batch_ops_max=self.batch_ops_max,
            batch_bytes_max=self.batch_bytes_max,
            blob_commands_max=self.stream_commands_max,
        )


def setting_of(declared: "Field[Any]") -> Setting:
    known: Setting = declared.metadata["setting"]
    return known


def declarations() -> dict[str, "Field[Any]"]:
    """Every setting's declaration by name, in the order of the help text."""
    return {declared.name: declared for declared in fields(NodeSettings)}


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    return "RAFTWRIGHT_" + name.upper()


def help_of(name: str) -> str:
    """The help text of a setting with its unit, default and variable, for `--help` and the documentation."""
    declared = declarations()[name]
    known = setting_of(declared)
    default = declared.default
    if default is MISSING:
        shown = "required"
    elif default in ("", ()):
        shown = "default: none"
    else:
        shown = f"default: {str(default).lower() if known.kind == 'switch' else default}"
    if default is not MISSING and known.unit and default not in ("", ()):
        shown += f" {known.unit}"
    return f"{known.help} [{shown}; {known.allowed}; {variable_of(name)}]"
