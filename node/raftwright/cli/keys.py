"""`raftwright get`, `put`, `delete` and `list`.

Rule: standard output gets the result and nothing else, to the byte, so that it may be piped.
"""

import sys
from typing import Annotated

import typer

from raftwright.cli.common import (
    EXIT_NOT_MET,
    DataDir,
    Endpoints,
    TimeoutS,
    connect,
    fail,
    note,
    run,
    say,
)

VALUE_SHOWN_MAX = 100

Key = Annotated[str, typer.Argument(metavar="KEY", help="Any text up to 1 KiB; put -- before one that begins with -.")]
IfRevision = Annotated[
    int | None, typer.Option("--if-revision", min=1, metavar="N", help="Only if the key is at this revision.")
]
Stale = Annotated[
    bool,
    typer.Option("--stale", help="Read what the node at hand knows, without asking a majority: it may be old."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def get(
    key: Key,
    stale: Stale = False,
    json: Json = False,
    endpoints: Endpoints = None,
    data_dir: DataDir = None,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Print the value of a key.

    Exit status 1 if the key is not there. In a pipe the value comes to the byte; on a terminal a line end follows.

    Example: raftwright get greeting
    """

    async def main() -> None:
        async with connect(endpoints, data_dir, timeout_s) as client:
            found = await client.get(key, consistency="stale" if stale else "linearizable")
        if found is None:
            fail(f"there is no key {key!r}.", EXIT_NOT_MET)
        if json:
            say(_as_json(key, found.value, found.revision))
            return
        sys.stdout.buffer.write(found.value)
        if sys.stdout.isatty():
            sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()

    run(main())


def put(
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="The value; - reads it from standard input.")] = "-",
    if_revision: IfRevision = None,
    if_absent: Annotated[bool, typer.Option("--if-absent", help="Only if the key is not there.")] = False,
    endpoints: Endpoints = None,
    data_dir: DataDir = None,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Set a key, and print the revision of the change.

    It returns once a majority of the nodes has the change on disk. Exit status 1 if a condition does not hold.

    Examples: raftwright put greeting "hello world"

    raftwright put logo - < logo.png

    raftwright put counter 8 --if-revision 41
    """
    if value == "-":
        if sys.stdin.isatty():
            note("Reading the value from the terminal; end it with Ctrl-D.")
        data = sys.stdin.buffer.read()
    else:
        data = value.encode(errors="surrogateescape")

    async def main() -> None:
        async with connect(endpoints, data_dir, timeout_s) as client:
            say(str(await client.put(key, data, if_revision=if_revision, if_absent=if_absent)))

    run(main())


def delete(
    key: Key,
    if_revision: IfRevision = None,
    endpoints: Endpoints = None,
    data_dir: DataDir = None,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Remove a key, and print the revision of the change.

    Exit status 1 if the key is not there, or not at the revision asked for.

    Example: raftwright delete greeting
    """

    async def main() -> None:
        async with connect(endpoints, data_dir, timeout_s) as client:
            say(str(await client.delete(key, if_revision=if_revision)))

    run(main())


def list_keys(
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="Only keys that begin with this.")] = "",
    start: Annotated[str, typer.Option("--start", metavar="KEY", help="Begin at this key.")] = "",
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, metavar="N", help="At most so many.")] = None,
    keys: Annotated[bool, typer.Option("--keys", help="Print the keys only.")] = False,
    stale: Stale = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line, with whole values.")] = False,
    endpoints: Endpoints = None,
    data_dir: DataDir = None,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Print keys in order, a line each, with the beginnings of their values.

    Use `export` for whole values in files.

    Example: raftwright list GREEK --limit 10
    """

    async def main() -> None:
        left = limit
        async with connect(endpoints, data_dir, timeout_s) as client:
            items = client.scan(
                prefix,
                start=start,
                page_size=min(left or 1000, 1000),
                consistency="stale" if stale else "linearizable",
            )
            async for item in items:
                if json:
                    say(_as_json(item.key, item.value, item.revision))
                else:
                    say(_shown(item.key) if keys else f"{_shown(item.key)}\t{_shown_value(item.value)}")
                if left is not None:
                    left -= 1
                    if left == 0:
                        return

    run(main())


def _as_json(key: str, value: bytes, revision: int) -> str:
    import orjson

    from raftwright.cli.records import encode_text

    text, encoding = encode_text(value)
    return orjson.dumps({"key": key, "value": text, "encoding": encoding, "revision": revision}).decode()


def _shown(text: str) -> str:
    """Text without anything that a terminal would obey."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _shown_value(value: bytes) -> str:
    try:
        text = _shown(value[: 4 * VALUE_SHOWN_MAX].decode(errors="strict" if len(value) <= 100 else "ignore"))
    except UnicodeDecodeError:
        return f"({len(value):,} bytes that are no text)"
    return text if len(text) <= VALUE_SHOWN_MAX else text[:VALUE_SHOWN_MAX] + "…"
