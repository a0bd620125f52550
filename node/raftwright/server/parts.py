"""The parts of a node, made from its settings: its storage, its identity, its driver. `node.py` puts them together."""

import logging
import random
import secrets

from raftwright.raft.entries import Recovered, SnapshotMeta
from raftwright.raft.membership import Membership
from raftwright.raft.raft import Raft, RaftSettings
from raftwright.server import clock
from raftwright.server.driver import Driver, DriverSettings
from raftwright.server.live_settings import policy_of
from raftwright.server.peers import LocalIdentity
from raftwright.server.settings import NodeSettings
from raftwright.server.state import ReplicatedState
from raftwright.storage.files import OsFiles
from raftwright.storage.storage import Storage, StorageSettings

_log = logging.getLogger(__name__)


class WrongIdentity(Exception):
    """The data directory belongs to somebody else than the settings say."""


def open_storage(settings: NodeSettings) -> tuple[Storage, LocalIdentity]:
    """The store of the data directory, and who it makes this node. Blocks. Raises StorageError or WrongIdentity."""
    storage = Storage.open(
        OsFiles(settings.data_dir),
        StorageSettings(segment_bytes=settings.segment_bytes_max & ~7, tail_bytes_max=settings.log_cache_bytes_max),
        new_store_id=secrets.token_hex(16),
    )
    storage.snapshot_compression = settings.snapshot_compression
    mine = storage.identity
    if mine.name and mine.name != settings.name:
        storage.close()
        raise WrongIdentity(
            f"{settings.data_dir} holds the data of node {mine.name!r}, not of {settings.name!r}: start it with"
            f" --name {mine.name}, or give {settings.name!r} a data directory of its own"
        )
    if not mine.name:
        storage.save_identity(cluster_id=None, member_id=None, name=settings.name)
    return storage, LocalIdentity(
        name=settings.name,
        store_id=mine.store_id,
        client=settings.client_address,
        peer=settings.peer_address,
        cluster_id=mine.cluster_id,
        member_id=mine.member_id,
        founding=mine.founding,
        removed=mine.removed,
        metadata=dict(settings.metadata),
    )


def make_driver(
    settings: NodeSettings, identity: LocalIdentity, state: ReplicatedState, recovered: Recovered
) -> Driver:
    """The driver of a member, with the core that goes on from what was found on the disk."""
    raft = Raft(
        member_id=identity.member_id,
        settings=RaftSettings(
            election_timeout_s=settings.election_timeout_ms / 1000,
            heartbeat_interval_s=settings.heartbeat_interval_ms / 1000,
            lease_clock_drift=settings.lease_clock_drift,
            tail_bytes_max=settings.log_cache_bytes_max,
        ),
        recovered=recovered,
        random=random.Random(),
        now=clock.now(),
    )
    return Driver(
        raft=raft,
        state=state,
        membership=recovered.snapshot.membership if recovered.snapshot else Membership(),
        settings=DriverSettings(
            request_timeout_s=settings.request_timeout_s,
            entry_bytes_max=settings.entry_bytes_max,
            pending_commands_max=settings.pending_commands_max,
            pending_bytes_max=settings.pending_bytes_max,
            election_timeout_s=settings.election_timeout_ms / 1000,
            snapshot_commands=settings.snapshot_every_commands,
            snapshot_log_bytes=settings.snapshot_every_log_bytes,
            snapshot_policy=policy_of(settings),
        ),
    )


def report_contradictions(settings: NodeSettings, snapshot: SnapshotMeta | None, *, is_restart: bool) -> None:
    """The data directory decides; settings that say otherwise are reported and never merged."""
    for is_set, flag in ((settings.join, "--join"), (settings.rejoin, "--rejoin")):
        if is_set and is_restart:
            _log.info("%s is not needed any more: the data directory says what this node is", flag)
    if snapshot is None or not settings.members or not settings.members[0].name:
        return
    names = {member.name for member in snapshot.membership.members.values()}
    told = {member.name for member in settings.members}
    if names != told:
        _log.warning(
            "--members names %s, but the data directory says %s; the data directory decides",
            ", ".join(sorted(told)),
            ", ".join(sorted(names)),
        )
