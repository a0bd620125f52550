"""`docs/kubernetes.md` knows every word that a person may meet: reasons, events, variables, metrics, labels."""

import re
from pathlib import Path

import pytest

from raftwright_operator import names
from raftwright_operator.metrics import OperatorMetrics
from raftwright_operator.plan import reasons
from raftwright_operator.settings import PREFIX, OperatorSettings
from raftwright_operator.status import events

TEXT = (Path(__file__).parents[2] / "docs/kubernetes.md").read_text()
HEADINGS = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
TROUBLE = (
    reasons.DIFFERENT_CLUSTERS,
    reasons.FOUNDING_LOST,
    reasons.NO_LEADER,
    reasons.QUORUM_LOST,
    reasons.VOTERS_DOWN,
    reasons.NON_VOTING_DOWN,
    reasons.VOLUME_LOST,
    reasons.VOLUME_GOING,
    reasons.VOLUME_NOT_ENLARGED,
    reasons.FOREIGN_STORE,
    reasons.STATE_DIVERGED,
    reasons.SCALE_DOWN_BLOCKED,
    reasons.ROLLOUT_STUCK,
    reasons.NAME_TAKEN,
    reasons.CHANGED_BY_OTHERS,
)


@pytest.mark.parametrize("reason", TROUBLE)
def test_each_trouble_has_a_heading_in_the_runbook(reason: str) -> None:
    assert any(reason in heading.split(", ") for heading in HEADINGS)


def test_every_link_within_the_page_leads_somewhere() -> None:
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in HEADINGS}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


def test_every_event_is_listed() -> None:
    words = {reason for _, reason in events._REASONS.values()}
    words |= {"Founding", "Founded", "Adopted", "Hibernating", "WokenUp", reasons.EVEN_VOTERS, reasons.FOREIGN_MEMBERS}
    assert {word for word in words if f"`{word}`" not in TEXT} == set()


def test_every_variable_of_the_operator_is_listed() -> None:
    ours = {name.upper() for name in OperatorSettings.__dataclass_fields__ if not name.startswith("pod_")}
    assert {name for name in ours if f"`{PREFIX}{name}`" not in TEXT} == set()
    assert set(re.findall(rf"`{PREFIX}([A-Z_]+)`", TEXT)) == ours


def test_every_metric_of_the_operator_is_listed() -> None:
    families = [family.name for family in OperatorMetrics().registry.collect()]
    shorter = [name.removeprefix("raftwright_operator_cluster") for name in families]
    assert len(families) > 5
    assert [
        name for name, short in zip(families, shorter, strict=True) if name not in TEXT and f"…{short}" not in TEXT
    ] == []


@pytest.mark.parametrize("label", [names.LABEL_CLUSTER, names.LABEL_SET, names.LABEL_VOTER, names.LABEL_LEADER])
def test_every_label_is_listed(label: str) -> None:
    assert f"| `{label}` |" in TEXT
