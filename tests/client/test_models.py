"""The contract between client and node: results, bodies and frames."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftwright.client.models import (
    BatchFailed,
    BatchRequest,
    ClientFrame,
    CompareOp,
    Consistency,
    DeleteOp,
    Hello,
    NodeFrame,
    NotFound,
    PreconditionFailed,
    Problem,
    ProblemReply,
    PutOp,
    Read,
    ReadReply,
    ReplyFrame,
    RequestFrame,
    Result,
    Undecodable,
    Welcome,
    WriteReply,
    Writes,
    decode_client_frame,
    decode_node_frame,
    decode_results,
    encode_frame,
    encode_results,
)

revisions = st.integers(1, 2**63 - 1)
results = st.one_of(
    revisions,
    st.just(NotFound()),
    st.builds(PreconditionFailed, st.none() | revisions),
    st.builds(BatchFailed, st.integers(0, 999), st.none() | revisions),
    st.builds(Undecodable, st.text(max_size=20)),
)


@given(st.lists(results, max_size=10))
def test_results_are_read_back_as_they_were(some: list[Result]) -> None:
    assert decode_results(encode_results(some)) == some


PROBLEM = Problem(type="t", title="T", status=422, outcome="none")


@pytest.mark.parametrize(
    "frame",
    [
        Hello(1, b"s" * 16, "test"),
        RequestFrame(7, Writes(3, 2, 1, True, b"blob"), None),
        RequestFrame(8, None, [Read("kéy"), Read("b", Consistency.STALE)]),
    ],
)
def test_frames_of_clients_are_read_back_as_they_were(frame: ClientFrame) -> None:
    assert decode_client_frame(encode_frame(frame)) == frame


@pytest.mark.parametrize(
    "frame",
    [
        Welcome(1, "n1", "c", 1 << 20, 4096, 1024, 1 << 20, 600.0),
        ReplyFrame(
            [WriteReply(7, b"results"), ReadReply(8, [(3, b"v"), None]), ProblemReply(9, "reads", PROBLEM)], 2, 30
        ),
    ],
)
def test_frames_of_nodes_are_read_back_as_they_were(frame: NodeFrame) -> None:
    assert decode_node_frame(encode_frame(frame)) == frame


@given(st.binary(max_size=60))
def test_any_bytes_are_a_frame_or_a_value_error(data: bytes) -> None:
    for decode in (decode_client_frame, decode_node_frame, decode_results):
        try:
            decode(data)
        except ValueError:
            continue


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(Hello(1, b"short"), id="a short session id"),
        pytest.param(RequestFrame(1, Writes(0, 1, 0, True, b"")), id="numbers begin with 1"),
        pytest.param(RequestFrame(1, Writes(1, 65_537, 0, True, b"")), id="too many commands"),
        pytest.param(RequestFrame(-1), id="a negative id"),
    ],
)
def test_frames_out_of_bounds_are_refused(frame: ClientFrame) -> None:
    with pytest.raises(ValueError, match="Expected"):
        decode_client_frame(encode_frame(frame))


def test_a_batch_is_strict_json() -> None:
    ops = [
        {"op": "put", "key": "a", "value": "AA==", "encoding": "base64", "if_absent": True},
        {"op": "delete", "key": "b", "if_revision": 3},
        {"op": "compare", "key": "c", "revision": None},
    ]
    body = msgspec.json.decode(json.dumps({"ops": ops}), type=BatchRequest)
    assert body.ops == [
        PutOp(key="a", value="AA==", encoding="base64", if_absent=True),
        DeleteOp(key="b", if_revision=3),
        CompareOp(key="c", revision=None),
    ]
    for wrong in (
        {"op": "delete", "key": "b", "typo": 1},
        {"op": "compare", "key": "c"},
        {"op": "compare", "key": "c", "revision": 0},
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(json.dumps({"ops": [wrong]}), type=BatchRequest)


def test_a_problem_says_only_what_it_knows_and_a_reader_passes_over_what_is_new() -> None:
    data = msgspec.json.encode(PROBLEM)
    assert json.loads(data) == {"type": "t", "title": "T", "status": 422, "outcome": "none"}
    newer = {**json.loads(data), "later": True}
    assert msgspec.json.decode(json.dumps(newer), type=Problem) == PROBLEM
