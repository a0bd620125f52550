"""Other programs, run to their end: kubectl, helm, kind, docker, make.

Used by kubectl.py, release.py and cluster.py. Its one rule: a program that fails, or takes too long, says so with all
that it printed.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

PRINTED_MAX = 4000
"""Characters of what a failed program printed, the last ones."""


class ProgramError(Exception):
    """The program failed. The message is its command and what it said, as a person would read it."""


def run(
    *command: str | Path, stdin: str | None = None, environment: Mapping[str, str] | None = None, timeout_s: float = 120
) -> str:
    """What it prints, warnings included. `environment` is added to this process's own. ProgramError if it fails or
    does not end in time."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        printed = error.output or ""  # Bytes, even of a program whose output is read as text.
        said = _end(printed.decode(errors="replace") if isinstance(printed, bytes) else printed)
        raise ProgramError(f"{' '.join(words)}: not within {timeout_s:.0f} s: {said}") from None
    if done.returncode:
        raise ProgramError(f"{' '.join(words)}: {_end(done.stdout)}")
    return done.stdout


def _end(printed: str) -> str:
    return printed.strip()[-PRINTED_MAX:]
