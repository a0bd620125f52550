"""Every example runs as it stands, and says what it says it does."""

import asyncio
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SAID = {
    "one_node": ["revisions 1 and 2", "refused: it is at revision 2", "after a restart: 'hello again' at revision 2"],
    "three_nodes": ["the leader has stopped", "100 keys are there, and another node leads"],
    "non_voting": [
        "the reader says Oslo",
        "reader: learner",
        "voter: voter, leads",
        "without the reader, writes go on",
        "the reader is back and says Bergen",
    ],
    "membership": [
        "2 voters: a, b",
        "3 voters: a, b, c",
        "2 voters: a, b",
        "1 voters: a",
        "every write was kept",
    ],
    "counter": ["visits: [300, 300, 300]", "refused: ValueError: visits would fall to -700", "a leader is known"],
    "jobs": [
        "job 0 is taken",
        "job 0 is done",
        "job 1 is done",
        "job 2 is done",
        "too late: LookupError: job 1 is not a worker that dies's",
        "0 jobs are left",
    ],
    "xml_codec": ["1 note", "Ada: <b> & 'quotes' are only text (3)", "refused: a document type is not allowed"],
}


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAID)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAID)
async def test_it_runs_and_says_what_it_should(name: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(90):
            said, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    assert said.decode().splitlines() == SAID[name]
    assert b"Traceback" not in errors, errors.decode()
