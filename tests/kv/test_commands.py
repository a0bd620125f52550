"""The encoding of commands, and the limits on them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftwright.kv.commands import (
    BLOB_COMMANDS_MAX,
    Batch,
    Command,
    CommandLimits,
    CommandTooLarge,
    Compare,
    Delete,
    InvalidBlob,
    InvalidCommand,
    Put,
    check_limits,
    decode_blob,
    encode_blob,
    encode_command,
)
from tests.kv.strategies import commands

LIMITS = CommandLimits(key_bytes_max=8, value_bytes_max=10, batch_ops_max=3, batch_bytes_max=16, blob_commands_max=5)


def blob_of(*some: Command) -> bytes:
    return encode_blob([encode_command(command) for command in some])


def raw_blob(some: list[Any]) -> bytes:
    return b"\x01\xdd" + len(some).to_bytes(4, "big") + b"".join(msgspec.msgpack.encode(each) for each in some)


@given(st.lists(commands(), max_size=20))
def test_commands_encoded_apart_and_joined_are_read_back_as_they_were(some: list[Command]) -> None:
    assert decode_blob(blob_of(*some)) == some


@given(st.binary(max_size=60))
def test_any_bytes_are_commands_or_an_invalid_blob(data: bytes) -> None:
    for blob in (data, b"\x01\xdd" + data, b"\x01\xdd\x00\x00\x00\x01" + data):
        try:
            decode_blob(blob)
        except InvalidBlob:
            continue


def test_a_blob_cut_anywhere_or_with_more_behind_it_is_invalid() -> None:
    blob = blob_of(Put("käy", b"value", 7), Batch([Compare("c", None), Delete("d", 3)]))
    for length in range(len(blob)):
        with pytest.raises(InvalidBlob):
            decode_blob(blob[:length])
    with pytest.raises(InvalidBlob, match="trailing"):
        decode_blob(blob + b"\x00")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param([9, "k"], id="unknown tag"),
        pytest.param([1, "k", b"v", None, False, 1], id="one field too many"),
        pytest.param([1, "k", "text"], id="a value that is text"),
        pytest.param([1, "k", b"v", 0], id="revision 0"),
        pytest.param([2, "k", -1], id="a negative revision"),
        pytest.param([3, "k", 1], id="a compare outside a batch"),
        pytest.param([4, [[4, []]]], id="a batch in a batch"),
        pytest.param([4, [[3, "k", 0]]], id="a compare with revision 0"),
        pytest.param({"key": "k"}, id="a map"),
        pytest.param([1, b"k", b"v"], id="a key that is bytes"),
        pytest.param([1, msgspec.Raw(b"\xa3\xed\xa0\x80"), b"v"], id="a key with a lone surrogate"),
    ],
)
def test_what_is_no_known_command_is_invalid(command: Any) -> None:
    with pytest.raises(InvalidBlob):
        decode_blob(raw_blob([command]))


@pytest.mark.parametrize(
    ("blob", "says"),
    [
        (b"", "at least 6 bytes"),
        (b"\x02\xdd\x00\x00\x00\x00", "version 2"),
        (b"\x01\x91\x00\x00\x00\x00", "32-bit count"),
    ],
)
def test_a_wrong_header_is_said_clearly(blob: bytes, says: str) -> None:
    with pytest.raises(InvalidBlob, match=says):
        decode_blob(blob)


def test_a_forged_count_allocates_nothing() -> None:
    too_many = (BLOB_COMMANDS_MAX + 1).to_bytes(4, "big")
    with pytest.raises(InvalidBlob, match=f"length <= {BLOB_COMMANDS_MAX}"):
        decode_blob(b"\x01\xdd" + too_many)
    with pytest.raises(InvalidBlob, match=f"length <= {BLOB_COMMANDS_MAX}"):
        decode_blob(b"\x01\xdd\x00\x00\x00\x01\x92\x04\xdd" + too_many)


@pytest.mark.parametrize(
    "command",
    [
        Put("k" * 8, b"v" * 10),
        Put("ä" * 4, b""),
        Put("k", b"", if_absent=True),
        Put("\x00", b"", 5),
        Delete("k" * 8, 1),
        Batch([Put("a", b"v" * 7), Compare("a", 1), Put("b", b"v" * 5)]),
        Batch([Put("k" * 8, b"v" * 10)]),
    ],
)
def test_commands_at_the_limits_pass(command: Command) -> None:
    check_limits([command] * LIMITS.blob_commands_max, LIMITS)


@pytest.mark.parametrize(
    ("command", "field", "actual"),
    [
        (Put("k" * 9, b""), "key", 9),
        (Put("ä" * 5, b""), "key", 10),
        (Put("k", b"v" * 11), "value", 11),
        (Put("k", b"v" * 11, if_absent=True), "value", 11),
        (Delete("k" * 9), "key", 9),
        (Batch([Compare("a", 1), Compare("k" * 9, 1)]), "ops[1].key", 9),
        (Batch([Put("a", b"v" * 11)]), "ops[0].value", 11),
        (Batch([Compare("a", 1)] * 4), "ops", 4),
        (Batch([Put("a", b"v" * 8), Put("b", b"v" * 7)]), "ops", 17),
    ],
)
def test_what_is_too_large_is_refused_with_its_position(command: Command, field: str, actual: int) -> None:
    with pytest.raises(CommandTooLarge) as refusal:
        check_limits([Delete("ok"), command], LIMITS)
    assert (refusal.value.position, refusal.value.field, refusal.value.actual) == (1, field, actual)
    assert f"{actual}, more than the {refusal.value.limit} allowed" in str(refusal.value)


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (Put("", b""), "key"),
        (Delete(""), "key"),
        (Put("k", b"", if_revision=1, if_absent=True), "if_absent"),
        (Batch([]), "ops"),
        (Batch([Delete("a"), Put("a", b"")]), "ops[1].key"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_position(command: Command, field: str) -> None:
    with pytest.raises(InvalidCommand) as refusal:
        check_limits([Delete("ok"), command], LIMITS)
    assert (refusal.value.position, refusal.value.field) == (1, field)


def test_too_many_commands_in_one_blob_are_refused() -> None:
    with pytest.raises(CommandTooLarge, match="is 6, more than the 5 allowed"):
        check_limits([Delete("k")] * 6, LIMITS)


@pytest.mark.parametrize("wrong", [{"key_bytes_max": 0}, {"blob_commands_max": BLOB_COMMANDS_MAX + 1}])
def test_wrong_limits_are_named(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CommandLimits(**wrong)
