"""`python -m raftwright.sim`."""

from pathlib import Path

import pytest

from raftwright.sim.__main__ import main
from tests.sim import mutants


def test_it_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "1", "--start", "4", "--resume", str(tmp_path)]) == 0
    assert "up to 4;" in capsys.readouterr().out
    assert main(["--seeds", "1", "--start", "4", "--resume", str(tmp_path)]) == 0
    assert "up to 5;" in capsys.readouterr().out


def test_a_trace_shows_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "3", "--trace"]) == 0
    out = capsys.readouterr().out
    assert "is elected in term" in out
    assert "seed 3: nothing wrong" in out


def test_a_failure_names_the_rule_and_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mutants.commit_by_half(monkeypatch)
    assert main(["--seeds", "100"]) == 1
    out = capsys.readouterr().out
    assert "rule: a majority of the voters has an entry on disk before it is committed" in out
    assert "to see it again: python -m raftwright.sim --seed" in out
    assert "the last events:" in out
