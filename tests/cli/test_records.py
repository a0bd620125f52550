"""What export writes, import reads back; what is no record is refused by line."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftwright.cli.records import BadRecord, Format, Record, format_of, read_records, writer_of

KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
VALUES = st.one_of(st.binary(max_size=40), st.text(st.characters(codec="utf-8"), max_size=20).map(str.encode))
RECORDS = st.lists(st.builds(Record, KEYS, VALUES), max_size=8)


def written(records: list[Record], kind: Format) -> str:
    header, write = writer_of(kind)
    return header + "".join(map(write, records))


def lines_of(text: str) -> list[str]:
    """As a file opened with newline="\\n" gives them: cut after line feeds only."""
    return list(io.StringIO(text, newline="\n"))


@given(RECORDS, st.sampled_from(["ndjson", "csv"]))
def test_what_is_written_is_read_back_to_the_byte(records: list[Record], kind: Format) -> None:
    assert list(read_records(lines_of(written(records, kind)), kind)) == records


def test_a_value_that_is_not_utf_8_says_that_it_is_base64() -> None:
    assert written([Record("k", b"\xff")], "ndjson") == '{"key":"k","value":"/w==","encoding":"base64"}\n'
    assert written([Record("k", b"\xff")], "csv") == "key,value,encoding\nk,/w==,base64\n"


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ('{"key":"a","value":"b"}\n{"key":', "ndjson", "line 2: not JSON"),
        ("[]\n", "ndjson", "line 1: not an object"),
        ('{"key":"","value":"b"}\n', "ndjson", 'line 1: "key" must be'),
        ('{"key":"a"}\n', "ndjson", 'line 1: "value" and "encoding"'),
        ('{"key":"a","value":"b","ttl":1}\n', "ndjson", 'line 1: unknown field "ttl"'),
        ('{"key":"a","value":"?","encoding":"base64"}\n', "ndjson", "line 1: the value is not base64"),
        ('{"key":"a","value":"?","encoding":"latin"}\n', "ndjson", 'line 1: "encoding" is "latin"'),
        ("name,value\na,b\n", "csv", 'line 1: the first line is "name,value"'),
        ("key,value\na,b\na,b,c\n", "csv", "line 3: 3 fields where the first line has 2"),
        ('key,value\na,"b\n', "csv", "line 2: not CSV"),
    ],
)
def test_a_bad_line_is_named(text: str, kind: Format, message: str) -> None:
    with pytest.raises(BadRecord) as error:
        list(read_records(lines_of(text), kind))
    assert str(error.value).startswith(message)


def test_the_format_follows_the_name_unless_asked() -> None:
    assert format_of("x.CSV", None) == "csv"
    assert format_of("-", None) == "ndjson"
    assert format_of("x.csv", "ndjson") == "ndjson"
