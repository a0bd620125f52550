"""Quantities as Kubernetes writes them (`1Gi`, `500m`, `1.5e3`), exactly: PURE.

`spec` and `observe` read sizes with it, `manifests` compares and writes them. Rule: no floating point.
"""

import re
from fractions import Fraction

_QUANTITY = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3}|[KMGTPE]i|[numkMGTPE])?", re.ASCII)
_DECIMAL: dict[str, Fraction] = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
}
_BINARY = {letter + "i": 1 << 10 * power for power, letter in enumerate("KMGTPE", start=1)}


def parse(text: str | int | float) -> Fraction:
    """The value of a quantity, as text or as the number that a YAML file may have. ValueError if it is none."""
    match = _QUANTITY.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"{text!r} is not a quantity such as 500m, 2, 1.5Gi or 1e9")
    sign, number, suffix = match.groups(default="")
    value = Fraction(number.rstrip(".") if number.endswith(".") else number)
    if suffix in _BINARY:
        value *= _BINARY[suffix]
    elif suffix in _DECIMAL:
        value *= _DECIMAL[suffix]
    elif suffix:
        value *= Fraction(10) ** int(suffix[1:])
    return -value if sign == "-" else value


def whole(text: str | int | float) -> int:
    """A size in bytes; a part of a byte counts as one, as Kubernetes has it. ValueError if it is no quantity."""
    return -(-parse(text) // 1)


def written(size_bytes: int) -> str:
    """The shortest way to write a size with a binary suffix, or plain: `1Gi`, `1536Mi`, `1000`."""
    for suffix, unit in reversed(_BINARY.items()):
        if size_bytes and size_bytes % unit == 0:
            return f"{size_bytes // unit}{suffix}"
    return str(size_bytes)
