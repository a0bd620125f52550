"""Quantities are read exactly, and written so that reading them gives the same."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftwright_operator import quantities


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("1Ki", 1024),
        ("1Mi", 1024**2),
        ("1.5Gi", 3 * 1024**3 // 2),
        ("2Ti", 2 * 1024**4),
        ("1Pi", 1024**5),
        ("1Ei", 1024**6),
        ("3k", 3000),
        ("3M", 3_000_000),
        ("3G", 3 * 10**9),
        ("3T", 3 * 10**12),
        ("3P", 3 * 10**15),
        ("3E", 3 * 10**18),
        ("3E2", 300),
        ("1e3", 1000),
        ("1.5e9", 1_500_000_000),
        ("1E-2", Fraction(1, 100)),
        ("500m", Fraction(1, 2)),
        ("7u", Fraction(7, 10**6)),
        ("7n", Fraction(7, 10**9)),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("+5", 5),
        ("-5", -5),
        ("0.1", Fraction(1, 10)),
        (2, 2),
        (0.5, Fraction(1, 2)),
    ],
)
def test_a_quantity_is_read_exactly(text: str | float, value: int | Fraction) -> None:
    assert quantities.parse(text) == value


@pytest.mark.parametrize(
    "text", ["", "Gi", "1 Gi", "1gi", "1K", "1.2.3", "0x10", "1e", "ten", "1Gib", "١", "1e1.5", "1e9999"]
)
def test_what_is_no_quantity_is_refused_and_shown(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantities.parse(text)


def test_a_part_of_a_byte_counts_as_one() -> None:
    assert quantities.whole("1500m") == 2
    assert quantities.whole("0.3Ki") == 308
    assert quantities.whole("1Gi") == 1024**3


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0"), (1000, "1000"), (1024, "1Ki"), (1024**3, "1Gi"), (3 * 1024**3 // 2, "1536Mi"), (1024**4 * 5, "5Ti")],
)
def test_a_size_is_written_as_people_write_it(size_bytes: int, text: str) -> None:
    assert quantities.written(size_bytes) == text


@given(st.integers(min_value=0, max_value=2**70))
def test_a_size_that_is_written_is_read_as_the_same(size_bytes: int) -> None:
    assert quantities.whole(quantities.written(size_bytes)) == size_bytes
