"""Looks up what is only needed when somebody scrapes: gauges and counters that other parts keep anyway."""

from typing import Protocol

from raftwright.kv.store import KvMachine
from raftwright.raft.roles import Leader
from raftwright.server.driver import Driver
from raftwright.server.machine import Machine
from raftwright.server.metrics import Metrics
from raftwright.server.peers import PeerTransport
from raftwright.storage.storage import Storage


class Observed(Protocol):
    """What is looked at: a node that takes part in a cluster."""

    driver: Driver | None
    storage: Storage
    machine: Machine
    transport: PeerTransport

    def unready_reason(self) -> str | None: ...


def refresh(metrics: Metrics, node: Observed) -> None:
    driver, storage = node.driver, node.storage
    if driver is None:
        return
    raft = driver.raft
    if isinstance(node.machine, KvMachine):
        metrics.revision = node.machine.revision
        metrics.keys = len(node.machine)
    metrics.sessions = len(driver.state.sessions)
    metrics.is_ready = int(node.unready_reason() is None)
    metrics.elections = driver.elections
    metrics.proposals_dropped = driver.writes.dropped
    metrics.peer_reconnects = node.transport.connects
    metrics.log_cache_bytes = raft.log.tail_bytes
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
    metrics.read_rounds = raft.read_rounds
    metrics.voters_with_shorter_election_timeout = driver.election_timeouts.shorter
    metrics.forwarded_commands = driver.proposer.commands_forwarded
    metrics.pending_commands = driver.writes.commands
    metrics.pending_bytes = driver.writes.bytes
    metrics.disk_is_full = int(driver.proposer.is_full)
    metrics.fsyncs = storage.sync_count
    metrics.fsynced_commands = driver.applier.commands
    metrics.log_written_bytes = storage.bytes_written
    metrics.log_bytes = storage.log_bytes
    checks = driver.checks
    metrics.state_checks_passed = checks.passed
    metrics.state_checks_failed = checks.failed
    metrics.state_checks_skipped = checks.skipped
    metrics.state_repairs = checks.repairs
    metrics.state_is_wrong = int(checks.divergence is not None)
    metrics.state_alarm = int(bool(checks.alarm))
    metrics.state_check_index = checks.passed_index
    metrics.members_in_minority = sorted(checks.minority)
    snapshot = storage.snapshot_meta
    if snapshot is not None:
        metrics.snapshot_index = snapshot.id.index
        metrics.snapshot_bytes = snapshot.size
