"""The machines of the examples keep the contract: what they restore is what they wrote, and XML does no harm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.counter import Add, Counters
from examples.jobs import Finish, Queue, Submit, Take
from examples.xml_codec import Note, Notes, Xml
from raftwright.machine.adapter import AdaptedMachine, Unreadable
from raftwright.server.machine import ApplyContext, InvalidCommand

TEXT = st.text(max_size=40)
COUNTS = st.lists(st.builds(Add, TEXT, st.integers(-5, 10)), max_size=30)
JOBS = st.lists(
    st.one_of(
        st.builds(Submit, TEXT),
        st.builds(Take, st.sampled_from("xy"), st.integers(0, 5)),
        st.builds(Finish, st.sampled_from("xy"), st.integers(1, 9)),
    ),
    max_size=30,
)
NOTES = st.lists(st.builds(Note, TEXT, TEXT, st.integers(-9, 9)), max_size=10)


def run(machine: AdaptedMachine, commands: list[object]) -> None:
    for number, command in enumerate(commands, 1):
        try:
            decoded = machine.decode_one(machine.encode(command))
        except InvalidCommand:
            continue  # text that the codec has no form for is refused before it is proposed
        machine.apply([decoded], ApplyContext(number, 1, number))


@pytest.mark.parametrize(("kind", "commands"), [(Counters, COUNTS), (Queue, JOBS), (Notes, NOTES)])
@given(data=st.data())
def test_what_is_restored_is_what_was_written(
    kind: type, commands: st.SearchStrategy[list[object]], data: st.DataObject
) -> None:
    machine, other = AdaptedMachine(kind()), AdaptedMachine(kind())
    run(machine, data.draw(commands))
    slices = machine.snapshot()
    written = list(slices)
    later = AdaptedMachine(kind())
    other.restore(iter(written))
    assert vars(other.user) == vars(machine.user)
    frozen = machine.snapshot()
    run(machine, data.draw(commands))
    later.restore(frozen)
    assert vars(later.user) == vars(other.user)


def test_a_lease_runs_out_by_the_time_of_the_log() -> None:
    queue = Queue()
    queue.apply(Submit("work"), ApplyContext(1, 1, 1000))
    taken = queue.apply(Take("x", 50), ApplyContext(2, 1, 1000))
    assert taken.id == 1
    assert queue.apply(Take("y", 50), ApplyContext(3, 1, 1049)) is None
    assert queue.apply(Take("y", 50), ApplyContext(4, 1, 1050)).worker == "y"
    with pytest.raises(LookupError, match="job 1 is not x's"):
        queue.apply(Finish("x", 1), ApplyContext(5, 1, 1060))
    assert queue.apply(Finish("y", 1), ApplyContext(6, 1, 1060)) is None
    assert queue.query(None) == 0


@pytest.mark.parametrize(
    "document",
    [
        b'<!DOCTYPE x [<!ENTITY a "ha">]><command>&a;</command>',
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><command>&a;</command>',
        b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><command/>',
        b"<a>" * 100,
        b"<command>&undefined;</command>",
        b"<command><author>a</author></command>",
        b"<command>" + b" " * (1 << 20) + b"</command>",
        b"",
    ],
)
def test_a_hostile_document_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Xml().decode(document, Note)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_note_or_unreadable(data: bytes) -> None:
    machine = AdaptedMachine(Notes())
    (command,) = machine.decode(machine.join([machine.encoded("note", data)]))
    assert isinstance(command, Note | Unreadable)
