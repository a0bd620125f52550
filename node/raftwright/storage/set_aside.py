"""Setting a store aside that belongs to nobody any more, and beginning a new one in its place.

Called by `storage.py`. Rule: the identity is the turning point. Until the new one is durable, the old store is all
there; from then on nothing of the old one is read, and moving its files away is work that any later start may end.
"""

from raftwright.storage import identity as identities
from raftwright.storage import segments, snapshots
from raftwright.storage.errors import SyncFailed
from raftwright.storage.files import Files
from raftwright.storage.identity import StoreIdentity

DIRECTORY = "set-aside"
IDENTITY = f"{DIRECTORY}/store.json"
_MOVED = (segments.DIRECTORY, snapshots.DIRECTORY)


def begin_anew(files: Files, old: StoreIdentity, new_store_id: str) -> StoreIdentity:
    """The identity of the new store, durable on return. What was set aside before is gone then: one is kept.

    Raises DiskFull with nothing decided, SyncFailed."""
    try:
        files.mkdir(DIRECTORY)
        for name in _MOVED:
            _empty(files, f"{DIRECTORY}/{name}")
        files.sync_directory(".")
    except OSError as error:
        raise SyncFailed(f"{DIRECTORY}: {error}") from error
    identities.save_copy(files, IDENTITY, old)
    new = StoreIdentity(store_id=new_store_id, replaces=old.store_id)
    identities.save(files, new)
    return new


def move_away(files: Files) -> None:
    """The old store's log and snapshots, as far as an earlier start did not. Raises SyncFailed."""
    try:
        for name in _MOVED:
            target = f"{DIRECTORY}/{name}"
            # What is there was moved by a start that then died: what lies here since is a beginning of the new store.
            if not _names(files, target) and _names(files, name):
                files.rename(name, target)
        files.sync_directory(DIRECTORY)
        files.sync_directory(".")
    except OSError as error:
        raise SyncFailed(f"{DIRECTORY}: {error}") from error


def _names(files: Files, directory: str) -> list[str]:
    return files.list(directory) if files.exists(directory) else []


def _empty(files: Files, directory: str) -> None:
    names = _names(files, directory)
    for name in names:
        files.remove(f"{directory}/{name}")
    if names:
        files.sync_directory(directory)
