"""The examples of docs/api.md run as they stand, with curl, in order, and answer what it says."""

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from tests.server.local_service import running

API_MD = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", API_MD, re.DOTALL)
EXAMPLES = [
    (command, answer.rstrip("\n"))
    for block in BLOCKS
    for command, answer in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
]


def as_pattern(answer: str) -> str:
    """`...` stands for anything."""
    return ".*".join(map(re.escape, answer.split("...")))


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_the_examples_run_as_they_stand() -> None:
    assert len(EXAMPLES) > 20
    async with running() as server:
        for command, answer in EXAMPLES:
            here = command.replace("127.0.0.1:7001", f"{server.host}:{server.port}")
            process = await asyncio.create_subprocess_shell(here, stdout=asyncio.subprocess.PIPE)
            output, _ = await process.communicate()
            assert re.fullmatch(as_pattern(answer), output.decode().rstrip("\n"), re.DOTALL), (command, output)
