"""What is done to the data of a snapshot on its way to the disk: nothing, gzip or zstd, block by block.

Called by `snapshot_io.py`. Rule: the number of a transform is in the file's header and never gets another meaning; a
block that would become larger than any that is written is refused before it is made.
"""

import zlib
from collections.abc import Callable
from typing import Protocol

from raftwright.storage.errors import UnsupportedFormat

NAMES = ("none", "gzip", "zstd")
"""By their number in the header."""
GZIP_LEVEL = 3
ZSTD_LEVEL = 3
_GZIP = 31
"""zlib's way of saying: with gzip's header and checksum."""


class Transform(Protocol):
    number: int

    def encode(self, data: bytes) -> bytes: ...

    def decode(self, data: bytes, bytes_max: int) -> bytes:
        """ValueError if `data` is damaged or would become longer than `bytes_max`."""


class _None:
    number = 0

    def encode(self, data: bytes) -> bytes:
        return data

    def decode(self, data: bytes, bytes_max: int) -> bytes:
        return data


class _Gzip:
    number = 1

    def encode(self, data: bytes) -> bytes:
        return zlib.compress(data, GZIP_LEVEL, _GZIP)

    def decode(self, data: bytes, bytes_max: int) -> bytes:
        decompressor = zlib.decompressobj(_GZIP)
        try:
            decoded = decompressor.decompress(data, bytes_max + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if not decompressor.eof or decompressor.unused_data or len(decoded) > bytes_max:
            raise ValueError("it is not one whole block of gzip, or too long")
        return decoded


class _Zstd:
    number = 2

    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise UnsupportedFormat(
                "snapshots compressed by zstd need the package zstandard: install it with"
                "  pip install 'raftwright[zstd]'"
            ) from error
        self._module = zstandard
        self._compressor = zstandard.ZstdCompressor(ZSTD_LEVEL)
        self._decompressor = zstandard.ZstdDecompressor()

    def encode(self, data: bytes) -> bytes:
        return self._compressor.compress(data)

    def decode(self, data: bytes, bytes_max: int) -> bytes:
        try:
            size = self._module.frame_content_size(data)
            if not 0 <= size <= bytes_max:
                raise ValueError("it does not say how long it is, or is too long")
            return self._decompressor.decompress(data, max_output_size=bytes_max, allow_extra_data=False)
        except self._module.ZstdError as error:
            raise ValueError(str(error)) from error


_BY_NUMBER: dict[int, Callable[[], Transform]] = {0: _None, 1: _Gzip, 2: _Zstd}


def transform_named(name: str) -> Transform:
    """UnsupportedFormat, with what to install, if this Python lacks what it needs."""
    return transform_numbered(NAMES.index(name))


def transform_numbered(number: int) -> Transform:
    """UnsupportedFormat if this version does not know it, or what it needs is not installed."""
    made = _BY_NUMBER.get(number)
    if made is None:
        raise UnsupportedFormat(f"the transform {number} is not known; use a newer version of the software")
    return made()
