"""The target of a request, taken apart: which path, which key, which query.

The dispatcher calls it on the bytes as they came, since every key string must work, `..` and `//` too, which URL
libraries tidy away. Rule: percent-decoding happens exactly once, and strictly: `%zz`, and bytes that are not UTF-8, are
errors.
"""

import re
from collections.abc import Collection
from urllib.parse import unquote_to_bytes

from raftwright.server.problems import FieldInvalid

_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


def split_target(target: str) -> tuple[str, str]:
    """Path and query, both as they came. Takes the absolute form too (RFC 9112 §3.2.2)."""
    if not target.startswith("/"):
        target = _ABSOLUTE.sub("", target, count=1)
    path, _, query = target.partition("?")
    return path, query


def decode_path(text: str) -> str:
    """Percent-encoded UTF-8 as text. FieldInvalid if it is not that."""
    if text.isascii() and "%" not in text:
        return text
    return _decode(text, "path")


def decode_query(query: str, known: Collection[str]) -> dict[str, str]:
    """The parameters of a query, of which all must be `known` and none be there twice. A `+` means a space."""
    parameters: dict[str, str] = {}
    for pair in query.split("&"):
        if not pair:
            continue
        name, _, value = (part.replace("+", " ") for part in pair.partition("="))
        name = _decode(name, "query")
        if name not in known:
            allowed = ", ".join(sorted(known)) or "none"
            raise FieldInvalid(f"There is no parameter {_short(name)}; allowed: {allowed}", field=name[:64])
        if name in parameters:
            raise FieldInvalid(f"The parameter {name} is there twice", field=name)
        parameters[name] = _decode(value, name)
    return parameters


def _decode(text: str, field: str) -> str:
    if _BAD_PERCENT.search(text):
        raise FieldInvalid("A '%' is not followed by two hexadecimal digits", field=field)
    try:
        return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode()
    except UnicodeDecodeError as error:
        raise FieldInvalid("What is percent-encoded is not UTF-8", field=field) from error


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
