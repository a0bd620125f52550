"""The leader's side of log replication (§3.5): appends ahead of their answers, heartbeats, and what answers mean.

Called by the core's dispatch. Its one rule: what a peer is believed to hold grows only by what it confirmed.
"""

from typing import TYPE_CHECKING

from raftwright.raft import lease, reads, snapshots
from raftwright.raft.entries import ZERO, Entry, EntryId
from raftwright.raft.events import EntriesLoaded
from raftwright.raft.messages import AppendEntries, AppendReply
from raftwright.raft.progress import Phase, Progress
from raftwright.raft.ready import LoadEntries

if TYPE_CHECKING:
    from raftwright.raft.raft import Raft
    from raftwright.raft.roles import Leader


def start_progress(raft: "Raft", leader: "Leader") -> None:
    """Begin to replicate to every member of the memberships in the log that has no progress yet."""
    for member in raft.log.all_member_ids():
        if member != raft.member_id and member not in leader.progress:
            leader.progress[member] = Progress(next_index=raft.log.last_index + 1, contact_at=raft.now)
    leader.progress = dict(sorted(leader.progress.items()))


def heartbeat(raft: "Raft", leader: "Leader") -> None:
    """A new round: every peer hears from its leader, and an append that was lost shows by the refusal.

    The reads that wait are taken along.
    """
    reads.open_round(raft, leader)
    for peer, progress in leader.progress.items():
        _send(raft, leader, peer, progress, ())
    reads.on_confirmation(raft, leader)


def flush(raft: "Raft", leader: "Leader") -> None:
    """Send what may be sent: called once for all the events between two Readys, so that one append carries them."""
    leader.must_send = False
    if reads.wants_round(raft, leader):
        heartbeat(raft, leader)
    for peer, progress in leader.progress.items():
        send_appends(raft, leader, peer, progress)


def send_appends(raft: "Raft", leader: "Leader", peer: int, progress: Progress) -> None:
    """Send all that the peer's phase and window allow."""
    match progress.phase:
        case Phase.PROBE:
            if not progress.probe_sent:
                _probe(raft, leader, peer, progress)
        case Phase.PIPELINE:
            _pipeline(raft, leader, peer, progress)
        case Phase.SNAPSHOT:
            pass


def _probe(raft: "Raft", leader: "Leader", peer: int, progress: Progress) -> None:
    if progress.next_index <= raft.log.base.index:
        snapshots.begin_transfer(raft, peer, progress)
        return
    limit = raft.settings.append_bytes_max
    entries = raft.log.entries(progress.next_index, raft.log.last_index, limit) or ()
    progress.probe_sent = True
    _send(raft, leader, peer, progress, entries)


def _pipeline(raft: "Raft", leader: "Leader", peer: int, progress: Progress) -> None:
    settings, log = raft.settings, raft.log
    if progress.next_index <= log.base.index:
        # Looked at before the window: what fills it may be lost for ever, and no heartbeat can ask about it any more.
        snapshots.begin_transfer(raft, peer, progress)
        return
    while (
        progress.next_index <= log.last_index
        and progress.loading_first is None
        and progress.window_is_open(settings.inflight_appends_max, settings.inflight_bytes_max)
    ):
        entries = log.entries(progress.next_index, log.last_index, settings.append_bytes_max)
        if entries is None:
            progress.loading_first = progress.next_index
            raft.loads.append(LoadEntries(peer=peer, first=progress.next_index, bytes_max=settings.append_bytes_max))
            return
        _send_ahead(raft, leader, peer, progress, entries)
    if progress.commit_sent < min(raft.commit_index, progress.next_index - 1):
        _send(raft, leader, peer, progress, ())


def _send_ahead(raft: "Raft", leader: "Leader", peer: int, progress: Progress, entries: tuple[Entry, ...]) -> None:
    _send(raft, leader, peer, progress, entries)
    progress.sent(entries[-1].index, sum(entry.size for entry in entries))


def _send(raft: "Raft", leader: "Leader", peer: int, progress: Progress, entries: tuple[Entry, ...]) -> None:
    """An append behind `next_index - 1`. While that is not in the log, behind something the peer surely has."""
    prev = raft.log.id_at(progress.next_index - 1)
    if prev is None or progress.phase is Phase.SNAPSHOT:
        term = raft.log.term_at(progress.match_index)
        prev = ZERO if term is None else EntryId(term, progress.match_index)
    progress.commit_sent = max(progress.commit_sent, min(raft.commit_index, prev.index + len(entries)))
    raft.send(
        AppendEntries(
            from_id=raft.own_id,
            to_id=peer,
            term=raft.term,
            prev=prev,
            entries=entries,
            commit_index=raft.commit_index,
            round=leader.rounds.number,
        ),
        promises=False,
    )


def send_commit_index(raft: "Raft", leader: "Leader", peer: int) -> None:
    """Tell a peer the commit index now, whatever was sent before."""
    _send(raft, leader, peer, leader.progress[peer], ())


def on_append_reply(raft: "Raft", leader: "Leader", message: AppendReply) -> None:
    progress = leader.progress.get(message.from_id)
    if progress is None or message.match_index > raft.log.last_index or message.round > leader.rounds.number:
        return
    progress.contact_at = raft.now
    lease.on_answer(raft, leader, progress, message)
    if message.round > progress.confirmed_round:
        progress.confirmed_round = message.round
        reads.on_confirmation(raft, leader)
    if message.success:
        _on_success(raft, leader, progress, message)
    else:
        _on_conflict(raft, leader, progress, message)


def _on_success(raft: "Raft", leader: "Leader", progress: Progress, message: AppendReply) -> None:
    progress.acknowledge(message.match_index)
    if progress.transfer is not None:
        meta = progress.transfer.meta
        if meta is None or progress.match_index < meta.id.index:
            return
        progress.become_probe(progress.match_index + 1)
    progress.found_agreement()
    if progress.next_index <= raft.log.last_index or progress.commit_sent < raft.commit_index:
        leader.must_send = True


def _on_conflict(raft: "Raft", leader: "Leader", progress: Progress, message: AppendReply) -> None:
    """Go back to the last own entry that may agree with the peer's hint; a stale refusal changes nothing."""
    if progress.phase is Phase.SNAPSHOT or not progress.match_index < message.prev_index < progress.next_index:
        return
    if progress.phase is Phase.PROBE and message.prev_index != progress.next_index - 1:
        return
    found = raft.log.last_not_above(message.hint)
    # Before the base: the next probe finds that the log no longer has what is needed, and sends a snapshot.
    progress.become_probe(raft.log.base.index if found is None else found.index + 1)
    leader.must_send = True


def on_entries_loaded(raft: "Raft", leader: "Leader", event: EntriesLoaded) -> None:
    progress = leader.progress.get(event.peer)
    if progress is None or progress.loading_first != event.first:
        return
    progress.loading_first = None
    leader.must_send = True
    if progress.phase is not Phase.PIPELINE or progress.next_index != event.first:
        return
    if not event.entries or event.first <= raft.log.base.index:
        snapshots.begin_transfer(raft, event.peer, progress)
    elif event.entries[0].index == event.first and raft.log.holds(event.entries[-1].id):
        # The last one being in the log makes all of them so: logs with one entry in common agree before it (§3.5).
        _send_ahead(raft, leader, event.peer, progress, event.entries)


def on_stream_lost(raft: "Raft", leader: "Leader", peer: int) -> None:
    progress = leader.progress.get(peer)
    if progress is None:
        return
    if progress.transfer is not None:
        progress.transfer.retry_at = raft.now
    else:
        progress.become_probe(progress.match_index + 1)
        leader.must_send = True
