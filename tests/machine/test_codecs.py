"""Every codec gives back what it got, gives the same bytes for the same value, and survives whatever bytes come."""

import os
import subprocess
import sys
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import given
from hypothesis import strategies as st

from raftwright.machine.codecs import Codec, codec_of
from tests.machine.machines import Append, Set

NAMES = ("msgpack", "json", "raw", "protobuf")
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(2**63), 2**63 - 1)
SETS = st.builds(Set, TEXT, NUMBERS)
APPENDS = st.builds(Append, TEXT, st.lists(NUMBERS))


@pytest.mark.parametrize("name", ["msgpack", "json"])
@given(command=st.one_of(SETS, APPENDS))
def test_typed_commands_come_back(name: str, command: Set | Append) -> None:
    codec = codec_of(name)
    assert codec.decode(codec.encode(command), type(command)) == command


@given(data=st.binary())
def test_raw_bytes_come_back(data: bytes) -> None:
    codec = codec_of("raw")
    assert codec.decode(codec.encode(bytearray(data)), bytes) == data


@pytest.mark.parametrize("value", [7, "text", [1], True, 1.5])
def test_raw_takes_nothing_but_bytes(value: object) -> None:
    """bytes(7) would be seven zeros."""
    with pytest.raises(TypeError, match="takes bytes"):
        codec_of("raw").encode(value)


@given(text=TEXT)
def test_protobuf_messages_come_back(text: str) -> None:
    codec = codec_of("protobuf")
    message = StringValue(value=text)
    assert codec.decode(codec.encode(message), StringValue) == message


def test_protobuf_maps_have_one_encoding() -> None:
    codec = codec_of("protobuf")
    forward, backward = Struct(), Struct()
    names = [f"key{number}" for number in range(50)]
    for name in names:
        forward[name] = name
    for name in reversed(names):
        backward[name] = name
    assert codec.encode(forward) == codec.encode(backward)


@pytest.mark.parametrize("name", ["msgpack", "json"])
def test_sets_and_dictionaries_have_one_encoding_in_every_process(name: str) -> None:
    """The order of a set of strings differs from process to process."""
    program = (
        "from raftwright.machine.codecs import codec_of; import sys;"
        f"sys.stdout.write(codec_of({name!r}).encode({{'s': {{str(n) for n in range(40)}}, 'a': 1}}).hex())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1
    assert seen != {b""}


@pytest.mark.parametrize("name", NAMES)
@given(data=st.binary(max_size=200))
def test_any_bytes_give_a_value_or_an_error(name: str, data: bytes) -> None:
    codec: Codec = codec_of(name)
    kinds: tuple[Any, ...] = (StringValue,) if name == "protobuf" else (bytes,) if name == "raw" else (Set, Append)
    for kind in kinds:
        try:
            decoded = codec.decode(data, kind)
        except Exception as error:
            assert not isinstance(error, MemoryError | OSError | SystemError)
        else:
            assert isinstance(decoded, kind)


def test_an_unknown_codec_is_refused_with_the_choice_there_is() -> None:
    with pytest.raises(ValueError, match="choose one of msgpack, json, raw, protobuf"):
        codec_of("pickle")
    with pytest.raises(ValueError, match="has the methods encode and decode"):
        codec_of(object())


def test_a_codec_whose_package_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.protobuf.message", None)
    with pytest.raises(ValueError, match=r"pip install 'raftwright\[protobuf\]'"):
        codec_of("protobuf")


class Reversed:
    def encode(self, value: Any) -> bytes:
        return str(value).encode()[::-1]

    def decode(self, data: bytes, kind: Any) -> Any:
        return data[::-1].decode()


def test_a_codec_of_ones_own_is_given_as_object_or_class() -> None:
    own = Reversed()
    assert codec_of(own) is own
    assert codec_of(Reversed).encode("ab") == b"ba"
