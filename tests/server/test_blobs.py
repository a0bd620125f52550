"""The payload of an entry of commands."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftwright.server.blobs import BLOBS_MAX, Blob, InvalidPayload, Origin, decode_payload, encode_payload

numbers = st.integers(0, 2**63 - 1)
origins = st.builds(
    Origin, st.binary(max_size=16), numbers, st.integers(1, 65_536), numbers, st.booleans(), st.text(max_size=20)
)
blobs = st.builds(Blob, origins, st.binary(max_size=50))


@given(st.lists(blobs, max_size=6))
def test_blobs_are_read_back_as_they_were(some: list[Blob]) -> None:
    assert decode_payload(encode_payload(some)) == some


@given(st.binary(max_size=80))
def test_decoding_is_total(payload: bytes) -> None:
    decoded = decode_payload(payload)
    assert isinstance(decoded, InvalidPayload) or decode_payload(encode_payload(decoded)) == decoded


def test_a_payload_cut_anywhere_is_invalid() -> None:
    payload = encode_payload([Blob(Origin(b"s" * 16, 5, 2, 3, True, "ärger"), b"data"), Blob(Origin(), b"")])
    for length in range(len(payload)):
        assert isinstance(decode_payload(payload[:length]), InvalidPayload)
    assert isinstance(decode_payload(payload + b"\x00"), InvalidPayload)


@pytest.mark.parametrize(
    "origin",
    [
        pytest.param([b"s" * 17, 1, 1], id="a session id that is too long"),
        pytest.param([b"", -1, 1], id="a negative number"),
        pytest.param([b"", 2**63, 1], id="a number that is too large"),
        pytest.param([b"", 1, 0], id="no commands"),
        pytest.param([b"", 1, 65_537], id="too many commands"),
        pytest.param([b"", 1, 1, 0, False, "anonymous", 1], id="an unknown field"),
        pytest.param(["text", 1, 1], id="a session id that is text"),
    ],
)
def test_an_origin_out_of_bounds_is_invalid(origin: list[Any]) -> None:
    assert isinstance(decode_payload(msgspec.msgpack.encode([[origin, b"data"]])), InvalidPayload)


def test_a_forged_count_or_nesting_is_invalid() -> None:
    assert isinstance(decode_payload(b"\xdd" + (BLOBS_MAX + 1).to_bytes(4, "big")), InvalidPayload)
    assert isinstance(decode_payload(b"\x91" * 100_000), InvalidPayload)
