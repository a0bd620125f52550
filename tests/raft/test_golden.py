"""Golden transcripts: whole conversations, message by message, to be read as well as compared.

`REWRITE=1 pytest tests/raft/test_golden.py` writes them anew; the difference is then for a reader to judge.
"""

import os
from pathlib import Path

import pytest

from tests.raft.transcript import run

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.txt"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_conversation_is_as_written(path: Path) -> None:
    written = path.read_text(encoding="utf-8")
    now = run(written)
    if os.environ.get("REWRITE") == "1":
        path.write_text(now, encoding="utf-8")
    else:
        assert now == written


def test_there_are_transcripts_and_they_are_quiet_about_nothing() -> None:
    assert len(GOLDEN) >= 8
    assert run("> cluster 1\n> campaign 1\n").splitlines()[-1] == "  1 is Leader in term 2"
