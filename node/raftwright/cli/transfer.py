"""`raftwright import` and `export`: keys and values from and to files.

Rule: an import that stops says how many records were acknowledged; doing it again does no harm.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Literal

import typer

from raftwright.cli.common import CommandError, DataDir, Endpoints, TimeoutS, connect, note, run

FormatOption = Annotated[
    Literal["ndjson", "csv"] | None,
    typer.Option("--format", help="By default as the file's name ends: .csv is CSV, anything else NDJSON."),
]


def import_file(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to read; - is standard input.")],
    format: FormatOption = None,
    prefix: Annotated[str, typer.Option("--prefix", metavar="TEXT", help="Put this before every key.")] = "",
    endpoints: Endpoints = None,
    data_dir: DataDir = None,
    timeout_s: TimeoutS = 30.0,
) -> None:
    """Load keys and values from a file.

    NDJSON has an object a line, {"key": "k", "value": "v"}; CSV has a first line key,value,encoding. Where "encoding"
    is "base64" the value is that, else it is text. Of two lines with one key the later one wins.

    Examples: raftwright import names.ndjson

    zcat names.csv.gz | raftwright import - --format csv
    """
    from raftwright.cli.loading import load
    from raftwright.cli.progress import Progress
    from raftwright.cli.records import Record, format_of, read_records

    async def main() -> None:
        with _reading(file) as lines, Progress("import", None) as progress:
            records = read_records(lines, format_of(file, format))
            if prefix:
                records = (Record(prefix + record.key, record.value) for record in records)
            try:
                async with connect(endpoints, data_dir, timeout_s) as client:
                    await load(client, records, lambda done: progress.advance(len(done)), in_thread=True)
            except Exception:
                note(f"Stopped after {progress.done:,} records were acknowledged. It is safe to import the file again.")
                raise
        note(f"{progress.done:,} records imported, {progress.rate:,.0f}/s.")

    run(main())


def export_file(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to write; - is standard output.")] = "-",
    format: FormatOption = None,
    prefix: Annotated[str, typer.Option("--prefix", metavar="TEXT", help="Only keys that begin with this.")] = "",
    endpoints: Endpoints = None,
    data_dir: DataDir = None,
    timeout_s: TimeoutS = 30.0,
) -> None:
    """Write keys and values to a file, in order, as `import` reads them.

    It goes page by page: changes made meanwhile may or may not be in it. The file appears under its name only when it
    is complete.

    Example: raftwright export names.csv --prefix GREEK
    """
    from raftwright.cli.progress import Progress
    from raftwright.cli.records import Record, format_of, writer_of

    async def main() -> None:
        header, write = writer_of(format_of(file, format))
        with _writing(file) as output, Progress("export", None) as progress:
            output.write(header)
            async with connect(endpoints, data_dir, timeout_s) as client:
                async for item in client.scan(prefix):
                    output.write(write(Record(item.key, item.value)))
                    progress.advance()
        note(f"{progress.done:,} records exported.")

    run(main())


@contextlib.contextmanager
def _reading(file: str) -> Iterator[IO[str]]:
    if file == "-":
        sys.stdin.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
        yield sys.stdin
        return
    try:
        opened = Path(file).open(encoding="utf-8", newline="")  # noqa: SIM115  # only opening may fail here
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.") from None
    with opened:
        yield opened


@contextlib.contextmanager
def _writing(file: str) -> Iterator[IO[str]]:
    if file == "-":
        sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
        yield sys.stdout
        sys.stdout.flush()
        return
    target = Path(file)
    partial = target.with_name(target.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as output:
            yield output
        partial.replace(target)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}.") from None
    finally:
        partial.unlink(missing_ok=True)
