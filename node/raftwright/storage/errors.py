"""What can go wrong with the disk, as types. Raised by everything in this package.

The one rule: an error says which file, where, and what a person can do about it. All but `DiskFull` end the
process: after them nothing that memory says about the disk is true.
"""

import errno


class StorageError(Exception):
    """The environment failed: the disk, the file system or what is stored there."""


class CorruptLog(StorageError):
    """The log is damaged where it was known to be durable. Nothing was changed and nothing thrown away."""

    def __init__(self, file: str, offset: int, why: str, what_to_do: str | None = None) -> None:
        self.file = file
        self.offset = offset
        self.why = why
        self.what_to_do = what_to_do or (
            "keep a copy of this data directory, check the disk, and restore the member: remove it from the cluster "
            "and add it again with an empty data directory"
        )
        super().__init__(f"{file}, offset {offset}: {why}; {self.what_to_do}")


class CorruptSnapshot(StorageError):
    """A snapshot that the log needs is damaged or missing. Nothing was changed."""

    def __init__(self, file: str, offset: int, why: str, what_to_do: str | None = None) -> None:
        self.file = file
        self.offset = offset
        self.why = why
        self.what_to_do = what_to_do or (
            "the entries before it are no longer in the log: put the file back from a copy, or remove the member from "
            "the cluster and add it again with an empty data directory"
        )
        super().__init__(f"{file}, offset {offset}: {why}; {self.what_to_do}")


class CorruptIdentity(StorageError):
    """Neither copy of the identity can be read, or they are gone while the log is still there."""

    def __init__(self, file: str, why: str) -> None:
        self.file = file
        self.why = why
        self.what_to_do = (
            "put one of the two identity files back from a copy; without it this data cannot be told from another "
            "member's, so otherwise remove the member and add it again with an empty data directory"
        )
        super().__init__(f"{file}: {why}; {self.what_to_do}")


class WrongStore(StorageError):
    """The data belongs to another member, another cluster or another store."""


class LockedStore(StorageError):
    """Another process uses the data directory."""


class UnsupportedFormat(StorageError):
    """The data was written by a version of the software that this one does not understand."""


class SyncFailed(StorageError):
    """A write or a sync failed: what is on the disk is unknown. The process must end at once."""


class ReadFailed(StorageError):
    """The disk returned an error for a read."""


class DiskFull(StorageError):
    """No space to prepare a file ahead of need. Nothing was changed; it works again once there is space."""


FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_full(error: OSError) -> bool:
    return error.errno in FULL_ERRNOS


def preparing(error: OSError, file: str) -> StorageError:
    """What an error while `file` is prepared means: the file is not in use yet, so a full disk does no harm."""
    if is_full(error):
        return DiskFull(f"{file}: no space left for a file that is prepared ahead: {error}; free some space")
    return SyncFailed(f"{file}: preparing the file failed: {error}; check the disk")
