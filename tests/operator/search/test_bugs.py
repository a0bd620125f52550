"""Bugs put into `plan` on purpose: each is found, by the rule that it breaks, within a short search."""

import pytest

from tests.operator.search.bugs import BUGS, Bug
from tests.operator.search.exploring import explore
from tests.operator.search.scenarios import named

WORLDS_MAX = 20_000


@pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.name) for bug in BUGS])
def test_is_found(bug: Bug) -> None:
    found = explore(named(bug.scenario), bug.plan, worlds_max=WORLDS_MAX).found
    assert found is not None, "no rule was broken"
    assert found.rule == bug.rule, str(found)
