"""The follower's side of log replication (§3.5): accept, refuse or repair, and say what is durable.

Called by the core's dispatch with messages of the current term. Its one rule: nothing at or below the commit index
is ever changed, and only what a message verified is acknowledged or committed.
"""

from itertools import pairwise
from typing import TYPE_CHECKING

from raftwright.raft.entries import EntryId
from raftwright.raft.messages import AppendEntries, AppendReply

if TYPE_CHECKING:
    from raftwright.raft.raft import Raft
    from raftwright.raft.roles import Follower


def on_append_entries(raft: "Raft", follower: "Follower", message: AppendEntries) -> None:
    if not _is_well_formed(message):
        return
    prev = message.prev
    # Every leader holds every committed entry (§3.6.3), so up to the commit index the logs agree whatever prev is.
    if prev.index > raft.commit_index and not raft.log.holds(prev):
        _refuse(raft, message)
        return
    _store(raft, message)
    verified = prev.index + len(message.entries)
    raft.commit_to(min(message.commit_index, verified))
    verified = max(verified, raft.commit_index)
    if message.entries:
        _acknowledge(raft, message, verified)
    elif message.round != follower.answered_round:
        # A heartbeat is answered by what is durable already, so that a slow disk does not look like a dead server;
        # one that only brings a new commit index, in a round that was answered, needs no answer.
        follower.answered_round = message.round
        _acknowledge(raft, message, min(verified, raft.durability.persisted_index))


def _store(raft: "Raft", message: AppendEntries) -> None:
    """Append what is new. Only an entry that conflicts truncates: an old message must not undo a newer one."""
    entries = message.entries
    log = raft.log
    if not entries or log.holds(entries[-1].id):
        return
    for position, entry in enumerate(entries):
        if entry.index <= raft.commit_index or log.holds(entry.id):
            continue
        if entry.index <= log.last_index:
            raft.truncate_from(entry.index)
        for new in entries[position:]:
            log.append(new)
        return


def _acknowledge(raft: "Raft", message: AppendEntries, match_index: int) -> None:
    reply = AppendReply(
        from_id=raft.own_id,
        to_id=message.from_id,
        term=raft.term,
        round=message.round,
        success=True,
        match_index=match_index,
        withholds_s=raft.settings.election_timeout_s,
    )
    raft.send(reply, promises=match_index > raft.durability.persisted_index)


def _refuse(raft: "Raft", message: AppendEntries) -> None:
    """Say where the logs may agree: the last own entry before prev that is not of a later term than it."""
    hint = raft.log.last_not_above(EntryId(message.prev.term, message.prev.index - 1))
    committed = raft.log.id_at(raft.commit_index)
    assert committed is not None, "the commit index is never before the base"
    raft.send(
        AppendReply(
            from_id=raft.own_id,
            to_id=message.from_id,
            term=raft.term,
            round=message.round,
            success=False,
            prev_index=message.prev.index,
            hint=committed if hint is None or hint.index < committed.index else hint,
            withholds_s=raft.settings.election_timeout_s,
        ),
        promises=False,
    )


def refuse_stale(raft: "Raft", from_id: int, message_round: int) -> None:
    """Tell the leader of an older term that its time is over; the reply's term is what counts."""
    raft.send(
        AppendReply(from_id=raft.own_id, to_id=from_id, term=raft.term, round=message_round, success=False),
        promises=False,
    )


def _is_well_formed(message: AppendEntries) -> bool:
    """Whether the entries follow on prev and each other. What is not is dropped like a lost message."""
    if message.prev.index < 0 or message.prev.term > message.term:
        return False
    if not message.entries:
        return True
    first, last = message.entries[0], message.entries[-1]
    if first.index != message.prev.index + 1 or first.term < message.prev.term or last.term > message.term:
        return False
    return all(
        after.index == before.index + 1 and after.term >= before.term for before, after in pairwise(message.entries)
    )
