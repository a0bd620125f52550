"""`--state-machine package.module:Class`: each thing that can be wrong is said in words."""

import pytest

from raftwright.machine.loading import load_machine


def test_a_class_is_found_made_and_adapted() -> None:
    assert load_machine("tests.machine.machines:Table").name == "Table"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tests.machine.machines", "write package.module:Class"),
        (":Table", "write package.module:Class"),
        ("nowhere.at_all:Table", "there is no module 'nowhere': install it for this Python"),
        ("tests.machine.nothing:Table", "PYTHONPATH"),
        ("tests.machine.machines:Missing", "has no 'Missing'"),
        ("tests.machine.machines:Set", "cannot be made without arguments: TypeError"),
        ("tests.machine.machines:Bytes.codec", "is no class"),
        ("builtins:object", "it has no method 'apply'"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_machine(text)
