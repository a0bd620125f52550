"""Settings: four sources in order, and a wrong one is an error that names it, its origin and what is allowed."""

from dataclasses import MISSING
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftwright.server.addresses import FirstMember, parse_address, parse_members
from raftwright.server.settings import (
    NodeSettings,
    SettingsError,
    declarations,
    flag_of,
    help_of,
    setting_of,
    variable_of,
)
from raftwright.server.settings_sources import load_settings

REQUIRED = {"name": "n1", "data_dir": "/data"}


def load(environ: dict[str, str] | None = None, config: Path | None = None, **flags: str | None) -> NodeSettings:
    return load_settings({**REQUIRED, **flags}, environ or {}, config)


def test_the_defaults_are_settings_that_pass_their_own_checks() -> None:
    settings = load()
    assert settings == NodeSettings(name="n1", data_dir=Path("/data"))
    for name, declared in declarations().items():
        known = setting_of(declared)
        if known.low is not None and known.high is not None:
            default: Any = declared.default
            assert known.low <= default <= known.high, name


def test_flag_then_variable_then_file_then_default(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text("request_timeout_s = 1\nstreams_max = 1\nheartbeat_interval_ms = 21\n")
    environ = {
        "RAFTWRIGHT_REQUEST_TIMEOUT_S": "2",
        "RAFTWRIGHT_STREAMS_MAX": "2",
        "RAFTWRIGHT_CONFIG": str(config),
        "HOME": "/",
    }
    settings = load(environ, request_timeout_s="3")
    assert settings.request_timeout_s == 3
    assert settings.streams_max == 2
    assert settings.heartbeat_interval_ms == 21
    assert settings.election_timeout_ms == 600
    other = tmp_path / "other.toml"
    other.write_text("")
    assert load(environ, other).heartbeat_interval_ms == 100


def test_every_kind_of_value(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(
        'uvloop = false\nvalue_bytes_max = "2MiB"\nshutdown_timeout_s = 0.5\nmembers = "n1=a:1/b:2; n2=c:3,nonVoting"\n'
    )
    settings = load({"RAFTWRIGHT_ENTRY_BYTES_MAX": "64KiB"}, config, client_listen="[::1]:0", log_format="json")
    assert settings.uvloop is False
    assert settings.value_bytes_max == 2 << 20
    assert settings.entry_bytes_max == 65536
    assert settings.shutdown_timeout_s == 0.5
    assert settings.client_address == "[::1]:0"
    assert settings.members == (FirstMember("n1", "a:1", "b:2", True), FirstMember("n2", "c:3", None, False))
    assert settings.command_limits.value_bytes_max == 2 << 20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("request_timeout_s", "soon"),
        ("request_timeout_s", "nan"),
        ("request_timeout_s", "inf"),
        ("request_timeout_s", "0"),
        ("key_bytes_max", "0"),
        ("key_bytes_max", "1.5"),
        ("key_bytes_max", "1 KB"),
        ("streams_max", "1KiB"),
        ("streams_max", "-1"),
        ("uvloop", "maybe"),
        ("log_level", "loud"),
        ("name", "a/b"),
        ("name", ""),
        ("name", "n" * 64),
        ("client_listen", "7001"),
        ("client_listen", "localhost:70000"),
        ("client_advertise", "localhost:0"),
        ("members", "n1"),
        ("data_dir", ""),
    ],
)
def test_a_wrong_value_names_itself_its_origin_and_what_is_allowed(name: str, value: str, tmp_path: Path) -> None:
    allowed = setting_of(declarations()[name]).allowed
    for environ, flags, origin in (
        ({}, {name: value}, flag_of(name)),
        ({variable_of(name): value}, {name: None}, variable_of(name)),
    ):
        with pytest.raises(SettingsError) as caught:
            load(environ, **flags)
        for part in (name, repr(value), origin, allowed):
            assert part in str(caught.value)


@pytest.mark.parametrize(
    "line",
    ['streams_max = "many"', "streams_max = true", "streams_max = 1.0", 'uvloop = "perhaps"', "uvloop = 1", "name = 1"],
)
def test_a_value_of_the_wrong_type_in_the_file(line: str, tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(line)
    flags = {"name": None, "data_dir": "/data"} if line.startswith("name") else REQUIRED
    with pytest.raises(SettingsError, match=r"node\.toml.*allowed is"):
        load_settings(flags, {}, config)


def test_what_is_unknown_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="_TIMEOUT_S; did you mean RAFTWRIGHT_ELECTION_TIMEOUT_MS"):
        load({"RAFTWRIGHT_ELECTION_TIMEOUT_S": "1"})
    with pytest.raises(SettingsError, match="RAFTWRIGHT_XYZZY; allowed are RAFTWRIGHT_NAME, "):
        load({"RAFTWRIGHT_XYZZY": ""})
    with pytest.raises(SettingsError, match="--stream-max; did you mean --streams-max"):
        load(stream_max="1")
    config = tmp_path / "node.toml"
    config.write_text("stream_max = 1")
    with pytest.raises(SettingsError, match=r"stream_max in .*node\.toml; did you mean streams_max"):
        load(config=config)


def test_a_file_that_is_not_there_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml cannot be read: No such file"):
        load(config=tmp_path / "none.toml")
    for text in (b"name = ", b"\xff"):
        (tmp_path / "bad.toml").write_bytes(text)
        with pytest.raises(SettingsError, match=r"bad\.toml is not TOML"):
            load(config=tmp_path / "bad.toml")


def test_what_is_required_is_asked_for_by_every_name() -> None:
    with pytest.raises(SettingsError, match="name is not set: give --name, RAFTWRIGHT_NAME or name"):
        load(name=None)
    assert [name for name, declared in declarations().items() if declared.default is MISSING] == ["name", "data_dir"]


def test_what_kubernetes_puts_into_the_environment_is_no_setting() -> None:
    names = ("PORT", "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_CLIENT", "PORT_7001_TCP", "PORT_7001_TCP_ADDR")
    load({f"RAFTWRIGHT_{name}": "10.0.0.1" for name in names})
    load({f"RAFTWRIGHT_DEMO_{name}": "10.0.0.1" for name in names})


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"heartbeat_interval_ms": "201"}, "at most a third of election_timeout_ms, 200 ms"),
        ({"members": "n2=a:1"}, "it is not among the members n2"),
        ({"value_bytes_max": "16MiB"}, "so that the longest key and value fit"),
        ({"key_bytes_max": "64KiB"}, "so that the longest key fits"),
        ({"log_cache_bytes_max": "64KiB"}, "at least entry_bytes_max"),
    ],
)
def test_settings_that_do_not_go_together(flags: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load_settings(REQUIRED | flags, {}, None)


def test_the_help_of_every_setting_has_unit_default_range_and_variable() -> None:
    for name in declarations():
        assert variable_of(name) in help_of(name)
        assert "default: " in help_of(name) or "required" in help_of(name)
    assert "default: 600 ms; a whole number from 50 to 60,000 ms" in help_of("election_timeout_ms")


def test_members() -> None:
    assert parse_members("") == []
    assert parse_members(" n1=a:1 ,nonVoting; n2=[::1]:2/b:3 ;;") == [
        FirstMember("n1", "a:1", None, False),
        FirstMember("n2", "[::1]:2", "b:3", True),
    ]


def test_members_by_address_only() -> None:
    assert parse_members("a:1;b:2;c:3,true") == [
        FirstMember("", "a:1", None, True),
        FirstMember("", "b:2", None, True),
        FirstMember("", "c:3", None, False),
    ]
    assert parse_members("a:1,false") == [FirstMember("", "a:1", None, True)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("n1", "'n1' is not host:port"),
        ("n1=", "'' is not host:port"),
        ("n1=a", "'a' is not host:port"),
        ("n1=a:x", "the port of 'a:x'"),
        ("n1=a:0", "the port of 'a:0'"),
        ("n1=a:1/", "'' is not host:port"),
        ("-n=a:1", "'-n' is not a name"),
        ("nonVoting,n1=a:1", "'nonVoting' does not follow a member"),
        ("n1=a:1,nonVoting,nonVoting", "'nonVoting' does not follow a member"),
        ("n1=a:1,n1=b:1", "'n1' is there twice"),
        ("n1=a:1,n2=a:1", "'a:1' is there twice"),
        ("n1=a:1,nonVoting", "no member has a vote"),
        ("a:1,true", "no member has a vote"),
        ("a:1,n2=b:1", "some members have a name and some have none"),
    ],
)
def test_members_that_are_none(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_members(text)


@given(st.text())
def test_addresses_are_taken_or_refused_and_nothing_else(text: str) -> None:
    try:
        host, port = parse_address(text)
    except ValueError:
        return
    assert host
    assert 1 <= port <= 65535
