"""Names of commands: stable, unique within a machine, and never inherited."""

from dataclasses import dataclass

import pytest

import raftwright
from raftwright.machine.registry import Registry
from tests.machine.machines import Append, Set


@raftwright.command("set")
@dataclass
class OtherSet:
    key: str


@dataclass
class Undeclared:
    key: str


def test_commands_are_found_by_name_and_by_class() -> None:
    registry = Registry((Set, Append))
    declared = registry.named("set")
    assert declared is not None
    assert (declared.kind, declared.result) == (Set, int)
    assert registry.of(Append) is registry.named("append")
    assert registry.named("nothing") is None
    assert registry.of(OtherSet) is None


def test_two_commands_of_one_name_are_refused_in_one_machine_and_not_in_two() -> None:
    with pytest.raises(ValueError, match="two commands are called 'set': Set and OtherSet"):
        Registry((Set, OtherSet))
    assert Registry((OtherSet,)).named("set") is not None
    assert Registry((Set, Set)).names == ["set"]


def test_a_class_without_a_name_is_refused_and_so_is_a_subclass_of_one_that_has_it() -> None:
    class Derived(Set):
        pass

    for kind in (Undeclared, Derived):
        with pytest.raises(ValueError, match=r"has no name: put @raftwright.command"):
            Registry((kind,))


def test_a_class_has_one_name_for_good() -> None:
    with pytest.raises(ValueError, match="is the command 'set' already"):
        raftwright.command("other")(Set)


@pytest.mark.parametrize("name", ["", "with space", "ä", "x" * 129, "-begins"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a command"):
        raftwright.command(name)
