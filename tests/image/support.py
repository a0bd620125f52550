"""Docker for the tests of this folder: is it there, the images of this tree, and containers that are gone at the end.

Rule: without Docker the tests skip and say so; with `E2E=required` they fail instead.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
BUILD_TIMEOUT_S = 900.0
RUN_TIMEOUT_S = 60.0


class Images(NamedTuple):
    node: str
    operator: str


class Ran(NamedTuple):
    status: int
    output: str
    """Of both kinds."""


def docker(*arguments: str, timeout_s: float = RUN_TIMEOUT_S) -> Ran:
    ran = subprocess.run(
        ["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s, check=False
    )
    return Ran(ran.returncode, ran.stdout.decode(errors="replace").strip())


def done(*arguments: str) -> str:
    """The output of a command that succeeds."""
    ran = docker(*arguments)
    assert ran.status == 0, (arguments, ran.output)
    return ran.output


def require_docker() -> None:
    if shutil.which("docker") is None:
        why = "there is no docker on the path"
    elif docker("version").status:
        why = "docker does not answer"
    else:
        return
    if os.environ.get("E2E") == "required":
        pytest.fail(why)
    pytest.skip(why)


def build() -> Images:
    """The images of this tree; what is built already is taken from Docker's cache."""
    tag = "test"
    made = subprocess.run(
        ["make", "--no-print-directory", "--directory", str(ROOT), "images", f"IMAGE_TAG={tag}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    assert made.returncode == 0, made.stdout.decode(errors="replace")[-4000:]
    return Images(f"raftwright/node:{tag}", f"raftwright/operator:{tag}")


@contextlib.contextmanager
def container(image: str, *options: str, arguments: tuple[str, ...] = ()) -> Iterator[str]:
    """The name of a container that runs in the background, removed with its volumes at the end."""
    name = f"raftwright-test-{secrets.token_hex(4)}"
    try:
        done("run", "--detach", "--name", name, *options, image, *arguments)
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)
