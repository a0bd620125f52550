"""Who this store is: its own random id, the cluster and the member it belongs to. Kept twice.

Called by `storage.py`. The one rule: an identity is never guessed. One damaged copy is repaired from the other;
without any, a store that holds data is refused.
"""

import json
import logging
import re
import zlib
from dataclasses import dataclass, replace
from typing import TypeVar

from raftwright.storage.errors import CorruptIdentity, SyncFailed, UnsupportedFormat, WrongStore, preparing
from raftwright.storage.files import Files

COPIES = ("store.json", "store-copy.json")
FORMAT = 2
"""Format 1 had no `election_timeout_ms`, and another kind of `founding`, which is not used any more."""
SIZE_MAX = 65536

_log = logging.getLogger(__name__)
_Value = TypeVar("_Value", str, int)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreIdentity:
    store_id: str
    """32 hexadecimal digits, random, made once with the store: an empty disk is always somebody new."""
    cluster_id: str | None = None
    member_id: int | None = None
    name: str | None = None
    """The last three are None until the member knows them, and never change afterwards."""
    has_log: bool = False
    """False only while the store is being made: before that nothing was ever promised by it."""
    removed: bool = False
    """The member was removed from its cluster, for good."""
    founding: str | None = None
    """The digest of the cluster's first members (`server/founding.py`), so that another cluster of the same id, and a
    repeated bootstrap, are known for what they are. None: not known."""
    election_timeout_ms: int | None = None
    """For so long after hearing from a leader this member gives no vote: what it promises to leaders."""
    replaces: str | None = None
    """The store that was set aside for this one, in the same directory."""
    revision: int = 1
    """One more with every change: the newer of two whole copies counts."""


def encode(identity: StoreIdentity) -> bytes:
    document = {
        "format": FORMAT,
        "revision": identity.revision,
        "store_id": identity.store_id,
        "cluster_id": identity.cluster_id,
        "member_id": identity.member_id,
        "name": identity.name,
        "has_log": identity.has_log,
        **({"removed": True} if identity.removed else {}),
        **({"founding": identity.founding} if identity.founding is not None else {}),
        **({"election_timeout_ms": identity.election_timeout_ms} if identity.election_timeout_ms is not None else {}),
        **({"replaces": identity.replaces} if identity.replaces is not None else {}),
    }
    line = json.dumps(document, sort_keys=True).encode() + b"\n"
    return line + b"%08x\n" % zlib.crc32(line)


def decode(data: bytes, file: str) -> StoreIdentity:
    """ValueError if `data` is damaged, UnsupportedFormat if it is whole but of another format."""
    line, found, check = data.partition(b"\n")
    line += found
    if check != b"%08x\n" % zlib.crc32(line):
        raise ValueError("the checksum is wrong")
    document = json.loads(line)
    found_format = document.pop("format", None) if isinstance(document, dict) else None
    if found_format not in (1, FORMAT):
        raise UnsupportedFormat(
            f"{file}: the data directory has another format than {FORMAT}; use the version of "
            "the software that wrote it, or a newer one"
        )
    if found_format == 1:
        document.pop("founding", None)
    try:
        return StoreIdentity(**document)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _load_copy(files: Files, name: str) -> StoreIdentity | None:
    """None if there is no such copy; ValueError if it is damaged."""
    if not files.exists(name):
        return None
    file = files.open(name)
    try:
        if file.size() > SIZE_MAX:
            raise ValueError("it is too long")
        return decode(file.pread(SIZE_MAX, 0), name)
    finally:
        file.close()


def load(files: Files) -> StoreIdentity | None:
    """The identity, or None where no copy exists. Repairs a damaged or missing copy from the other.

    Raises CorruptIdentity if copies exist and none is whole.
    """
    whole: dict[str, StoreIdentity] = {}
    damaged: dict[str, ValueError] = {}
    for name in COPIES:
        try:
            copy = _load_copy(files, name)
        except ValueError as error:
            damaged[name] = error
        else:
            if copy is not None:
                whole[name] = copy
    if not whole:
        if damaged:
            name, why = next(iter(damaged.items()))
            raise CorruptIdentity(name, f"no copy of the identity is whole: {why}")
        return None
    newest = max(whole.values(), key=lambda copy: copy.revision)
    if len({copy.store_id for copy in whole.values()}) > 1:
        newest = _successor(*whole.values())
    for name in COPIES:
        if whole.get(name) != newest:
            if name in damaged:
                _log.warning("%s is damaged (%s); repaired from its copy", name, damaged[name])
            save_copy(files, name, newest)
    return newest


def _successor(one: StoreIdentity, other: StoreIdentity) -> StoreIdentity:
    """Of two stores, the one that replaces the other: the crash came between the two copies. CorruptIdentity if none
    does."""
    for old, new in ((one, other), (other, one)):
        if new.replaces == old.store_id and old.removed:
            return new
    raise CorruptIdentity(COPIES[0], "the two copies are of two different stores")


def save(files: Files, identity: StoreIdentity) -> None:
    """Durable in both copies on return; a crash in between leaves one whole copy at least."""
    for name in COPIES:
        save_copy(files, name, identity)


def save_copy(files: Files, name: str, identity: StoreIdentity) -> None:
    """Durable on return, under `name`. Raises DiskFull with the file as it was, SyncFailed."""
    temporary = name + ".tmp"
    try:
        file = files.open(temporary, create=True)
        try:
            file.truncate(0)
            file.pwrite(encode(identity), 0)
            file.sync()
        finally:
            file.close()
    except OSError as error:
        raise preparing(error, temporary) from error
    try:
        files.rename(temporary, name)
        files.sync_directory(name.rpartition("/")[0] or ".")
    except OSError as error:
        raise SyncFailed(f"{name}: {error}") from error


def bound(
    identity: StoreIdentity,
    cluster_id: str | None,
    member_id: int | None,
    name: str | None,
    founding: str | None = None,
) -> StoreIdentity:
    """`identity` with what is now known. WrongStore if it already says something else."""
    changed = replace(
        identity,
        cluster_id=_settled("cluster id", identity.cluster_id, cluster_id),
        member_id=_settled("member id", identity.member_id, member_id),
        name=_settled("name", identity.name, name),
        founding=_settled("founding", identity.founding, founding),
    )
    return replace(changed, revision=identity.revision + 1) if changed != identity else identity


def promising(identity: StoreIdentity, election_timeout_ms: int) -> StoreIdentity:
    """`identity` once it gives no vote for so long after hearing from a leader."""
    if identity.election_timeout_ms == election_timeout_ms:
        return identity
    return replace(identity, election_timeout_ms=election_timeout_ms, revision=identity.revision + 1)


def with_log(identity: StoreIdentity) -> StoreIdentity:
    """`identity` once its log is durable: from now on a missing log is damage."""
    return replace(identity, has_log=True, revision=identity.revision + 1)


def as_removed(identity: StoreIdentity) -> StoreIdentity:
    """`identity` once its member was removed from the cluster."""
    return identity if identity.removed else replace(identity, removed=True, revision=identity.revision + 1)


def _settled(what: str, old: _Value | None, new: _Value | None) -> _Value | None:
    if old is not None and new is not None and old != new:
        raise WrongStore(
            f"this data directory belongs to {what} {old!r}, not {new!r}; use the directory that belongs "
            "to this member, or an empty one and join as a new member"
        )
    return old if new is None else new


def check_store_id(store_id: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{32}", store_id):
        raise ValueError("a store id is 32 hexadecimal digits")
    return store_id
