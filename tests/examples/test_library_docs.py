"""docs/library.md runs as it stands: its modules, its programs, and its commands."""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.cluster.support import free_port

LIBRARY_MD = (Path(__file__).parents[2] / "docs" / "library.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", LIBRARY_MD, re.DOTALL))


async def run(directory: Path, *command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        said, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return said.decode()


def write(directory: Path) -> None:
    assert set(FILES) == {"counting.py", "main.py", "policy.py"}
    for name, text in FILES.items():
        (directory / name).write_text(text)


@pytest.mark.slow
async def test_its_programs_print_what_it_says(tmp_path: Path) -> None:
    write(tmp_path)
    said = await run(tmp_path, sys.executable, "-W", "error", "main.py")
    assert said.splitlines() == [
        "1",
        "42",
        "42",
        "ValueError - ValueError: visits would fall to -58",
        "leader ['a'] True",
    ]
    assert (await run(tmp_path, sys.executable, "-W", "error", "policy.py")).splitlines() == ["taken", "True"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_its_commands_answer_what_it_says(tmp_path: Path) -> None:
    write(tmp_path)
    (block,) = re.findall(r"```console\n(.*?)```", LIBRARY_MD, re.DOTALL)
    client, peer = free_port(2), free_port(2)
    while peer == client:
        peer = free_port(2)
    block = block.replace("127.0.0.1:7001", f"127.0.0.1:{client}").replace("127.0.0.1:8001", f"127.0.0.1:{peer}")
    start, *asked = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    command = [*start[0].split(), "--client-listen", f"127.0.0.1:{client}", "--peer-listen", f"127.0.0.1:{peer}"]
    assert command[0] == "raftwright"
    node = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *command), cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    try:
        ready = (
            f"curl -s -f --retry 100 --retry-all-errors --retry-delay 1 -o /dev/null http://127.0.0.1:{client}/readyz"
        )
        await run(tmp_path, *ready.split())
        for line, answer in asked:
            assert await run(tmp_path, "sh", "-c", line) == answer.rstrip("\n")
    finally:
        node.terminate()
        await node.wait()
