"""What cannot be right is refused by the API server itself, operator or not, with a message that says what to do."""

import pytest

from e2e.programs import ProgramError
from e2e.raft import Raft


def test_an_unknown_field(raft: Raft) -> None:
    with pytest.raises(ProgramError, match=r'unknown field "(spec\.)?replicaz"'):
        raft.apply(replicas=3, replicaz=5)


def test_too_long_a_name(raft: Raft) -> None:
    raft.name = "n" * 43
    with pytest.raises(ProgramError, match="the name may have at most 42 characters"):
        raft.apply(replicas=1)


@pytest.mark.parametrize("replicas", [-1, 10])
def test_too_few_or_too_many_voters(raft: Raft, replicas: int) -> None:
    with pytest.raises(ProgramError, match=r"spec\.replicas"):
        raft.apply(replicas=replicas)


def test_a_setting_that_is_the_operators(raft: Raft) -> None:
    with pytest.raises(ProgramError, match="are set by the operator"):
        raft.apply(replicas=1, settings={"members": "db-0=db-0:8001"})


def test_shrinking_storage(raft: Raft) -> None:
    raft.apply(replicas=0)
    with pytest.raises(ProgramError, match=r"may not shrink \(it is 256Mi\)"):
        raft.patch({"storage": {"size": "128Mi"}})


def test_an_even_number_of_voters_is_taken_with_a_warning(raft: Raft) -> None:
    said = raft.apply(replicas=2)
    assert "Warning" in said and "tolerate no more failures" in said, said
    assert "Warning" not in raft.scale(1)
    raft.await_settled(1)
