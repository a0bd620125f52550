"""Records of `import` and `export`: one key and its value a line, as NDJSON or CSV.

Called by `transfer.py`. Rule: what `export` writes, `import` reads back to the byte; a bad line is an error that names
its number and says what is wrong with it.

NDJSON: `{"key": "k", "value": "v"}`; CSV: a header line, then `key,value,encoding`. A value that is not UTF-8 is base64
and says so: `encoding` is `base64`; else it is `utf-8` and may be left out.
"""

import base64
import binascii
import csv
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

import orjson

Format = Literal["ndjson", "csv"]
CSV_HEADER = ("key", "value", "encoding")
CSV_FIELD_BYTES_MAX = 16 * 1024 * 1024


class Record(NamedTuple):
    key: str
    value: bytes


class BadRecord(ValueError):
    """A line that is not a record. The message says which one and why."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line


def format_of(file: str, asked: Format | None) -> Format:
    """The format of a file: what was asked for, else by its name's end, else NDJSON."""
    return asked or ("csv" if file.lower().endswith(".csv") else "ndjson")


def encode_text(value: bytes) -> tuple[str, str]:
    """A value as text, and its encoding."""
    try:
        return value.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(value).decode(), "base64"


def decode_text(text: str, encoding: str) -> bytes:
    """The inverse of `encode_text`; ValueError says what is wrong."""
    if encoding == "utf-8":
        return text.encode()
    if encoding == "base64":
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError(f"the value is not base64: {error}") from None
    raise ValueError(f'"encoding" is "{encoding}"; it may be "utf-8" or "base64"')


def writer_of(kind: Format) -> tuple[str, Callable[[Record], str]]:
    """What comes before the first record, and how a record is written (with its line end)."""
    return (_csv_line(CSV_HEADER), _as_csv) if kind == "csv" else ("", _as_ndjson)


def read_records(lines: Iterable[str], kind: Format) -> Iterator[Record]:
    """The records of a text, one by one. Empty lines are skipped. BadRecord names the first line that is none."""
    return _read_csv(lines) if kind == "csv" else _read_ndjson(lines)


def _as_ndjson(record: Record) -> str:
    text, encoding = encode_text(record.value)
    document = {"key": record.key, "value": text}
    if encoding != "utf-8":
        document["encoding"] = encoding
    return orjson.dumps(document).decode() + "\n"


def _as_csv(record: Record) -> str:
    text, encoding = encode_text(record.value)
    return _csv_line((record.key, text, encoding))


def _csv_line(fields: tuple[str, ...]) -> str:
    line = io.StringIO()
    # The writer quotes its own line end only, and a bare carriage return would end the row for a reader.
    quoted = any("\r" in field for field in fields)
    csv.writer(line, lineterminator="\n", quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL).writerow(fields)
    return line.getvalue()


def _read_ndjson(lines: Iterable[str]) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        if line.isspace() or not line:
            continue
        try:
            document = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadRecord(number, f"not JSON: {error}") from None
        if not isinstance(document, dict):
            raise BadRecord(number, 'not an object with "key" and "value"')
        unknown = sorted(document.keys() - {*CSV_HEADER, "revision"})
        if unknown:
            raise BadRecord(number, f'unknown field "{unknown[0]}"; allowed are key, value, encoding, revision')
        yield _record(number, document.get("key"), document.get("value"), document.get("encoding", "utf-8"))


def _read_csv(lines: Iterable[str]) -> Iterator[Record]:
    csv.field_size_limit(CSV_FIELD_BYTES_MAX)
    rows = csv.reader(lines, strict=True)
    try:
        header = next(rows, None)
        if header is None:
            return
        if tuple(header) not in (CSV_HEADER, CSV_HEADER[:2]):
            raise BadRecord(
                1, f'the first line is "{",".join(header)}"; it must be "key,value,encoding" or "key,value"'
            )
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise BadRecord(rows.line_num, f"{len(row)} fields where the first line has {len(header)}")
            yield _record(rows.line_num, row[0], row[1], (row[2] or "utf-8") if len(row) == 3 else "utf-8")
    except csv.Error as error:
        raise BadRecord(rows.line_num, f"not CSV: {error}") from None


def _record(number: int, key: object, value: object, encoding: object) -> Record:
    if not isinstance(key, str) or not key:
        raise BadRecord(number, '"key" must be a string that is not empty')
    if not isinstance(value, str) or not isinstance(encoding, str):
        raise BadRecord(number, '"value" and "encoding" must be strings')
    try:
        key.encode()  # a lone surrogate is no UTF-8
        return Record(key, decode_text(value, encoding))
    except ValueError as error:
        raise BadRecord(number, str(error)) from None
