"""Commands at random, over few keys, so that they meet."""

from hypothesis import strategies as st

from raftwright.kv.commands import Batch, Command, Compare, Delete, Operation, Put

KEYS = ["a", "a/", "a/b", "a/b/c", "ab", "b", "é", "\uffff", "\U0001f600", "a\x00", "~"]

keys = st.sampled_from(KEYS)
revisions = st.integers(1, 12)
values = st.binary(max_size=6)


def operations() -> st.SearchStrategy[Operation]:
    return st.one_of(puts(), deletes(), st.builds(Compare, keys, st.none() | revisions))


def puts() -> st.SearchStrategy[Put]:
    return st.builds(Put, keys, values) | st.builds(Put, keys, values, st.none() | revisions, st.booleans())


def deletes() -> st.SearchStrategy[Delete]:
    return st.builds(Delete, keys) | st.builds(Delete, keys, revisions)


def commands() -> st.SearchStrategy[Command]:
    return st.one_of(puts(), deletes(), st.builds(Batch, st.lists(operations(), max_size=4)))
