"""Looks up what is only needed when somebody scrapes: gauges and counters that other parts keep anyway."""

from raftwright.kv.store import KvMachine
from raftwright.raft.roles import Leader
from raftwright.server.driver import Driver
from raftwright.server.metrics import Metrics
from raftwright.storage.storage import Storage


def refresh(metrics: Metrics, driver: Driver, storage: Storage, machine: KvMachine) -> None:
    raft = driver.raft
    metrics.revision = machine.revision
    metrics.keys = len(machine)
    metrics.sessions = len(driver.state.sessions)
    metrics.term = raft.term
    metrics.is_leader = int(isinstance(raft.role, Leader))
    metrics.has_leader = int(raft.leader_id is not None)
    metrics.commit_index = raft.commit_index
    metrics.applied_index = driver.state.applied_index
    metrics.last_index = raft.log.last_id.index
    metrics.members = len(raft.membership.members)
    metrics.commands_applied = driver.applier.commands
    metrics.commands_proposed = driver.proposer.commands_proposed
    metrics.entries_applied = driver.applier.entries
    metrics.read_rounds = driver.read_rounds
    metrics.forwarded_commands = driver.proposer.commands_forwarded
    metrics.pending_commands = driver.writes.commands
    metrics.pending_bytes = driver.writes.bytes
    metrics.disk_is_full = int(driver.proposer.is_full)
    metrics.fsyncs = storage.sync_count
    metrics.fsynced_commands = driver.applier.commands
    metrics.log_written_bytes = storage.bytes_written
    metrics.log_bytes = storage.log_bytes
    snapshot = storage.snapshot_meta
    if snapshot is not None:
        metrics.snapshot_index = snapshot.id.index
        metrics.snapshot_bytes = snapshot.size
