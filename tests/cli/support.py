"""Running the command as a person or a script would: as a process, with its exit status and what it wrote."""

import asyncio
import os
import sys
from typing import NamedTuple


class Done(NamedTuple):
    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()


def environment() -> dict[str, str]:
    """That of the tests, without what would change the command."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAFTWRIGHT_")}
    return kept | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}


async def start(*arguments: str, **variables: str) -> asyncio.subprocess.Process:
    """The command, running."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "raftwright", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment() | variables,
    )


async def raftwright(*arguments: str, stdin: bytes = b"", **variables: str) -> Done:
    """The command, run to its end."""
    process = await start(*arguments, **variables)
    out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return Done(process.returncode, out, err.decode())
