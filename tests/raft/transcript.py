"""Runs a transcript: a text of commands to a cluster, each followed by what it brought about.

Used by `test_golden.py`. Its one rule: lines that begin with `>` are commands, those that begin with two spaces are
output and made anew, and everything else is a comment.

    > cluster 3 [learners=1] [disk=slow] [chunk=7] [append=1]    start that many voters
    > campaign 1              let its election timeout pass, while the others' timers stand still
    > tick 1                  let whatever is due next at a member be due
    > pass 10                 let so many seconds pass, and everything be delivered without a word
    > deliver [1 2]           deliver until all is quiet [only what goes from 1 to 2, once]
    > wave                    deliver what is on its way now, and nothing that is said in answer
    > lose [1 2]              lose what is on its way [from 1 to 2]
    > propose 1 text | read 1 7 | transfer 1 2 | change 1 voters=1,2 learners=3 | snapshot 1 keep=2
    > write 1                 let a slow disk finish the oldest write
    > crash 1 | start 1 | cut 1 | heal
    > status | log 1
"""

from raftwright.raft.entries import Entry, EntryId, EntryKind
from raftwright.raft.errors import Refusal
from raftwright.raft.events import TransferLeadership
from raftwright.raft.messages import (
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    InstallSnapshotReply,
    PreVoteReply,
    RaftMessage,
    ReadIndexReply,
    ReadIndexRequest,
    RequestPreVote,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from raftwright.raft.raft import RaftSettings
from tests.raft.cluster import Cluster


def run(text: str) -> str:
    """The transcript with its output as it is now."""
    lines = []
    transcript = Transcript()
    for line in text.splitlines():
        if line.startswith("  "):
            continue
        lines.append(line)
        if line.startswith("> "):
            lines += [f"  {output}" for output in transcript.do(line[2:])]
    return "\n".join(lines) + "\n"


class Transcript:
    def __init__(self) -> None:
        self.cluster = Cluster(0)
        self.output: list[str] = []
        self.roles: dict[int, str] = {}

    def do(self, command: str) -> list[str]:
        verb, *words = command.split()
        options = dict(word.split("=") for word in words if "=" in word)
        arguments = [word for word in words if "=" not in word]
        self.output = []
        try:
            getattr(self, f"do_{verb}")(*arguments, **options)
        except Refusal as refusal:
            self.output.append(f"{type(refusal).__name__}: {refusal}")
        self.look()
        return self.output

    def look(self) -> None:
        """Take what each member has to say, and note what became of it."""
        for number in sorted(self.cluster.stores):
            self.cluster.settle(number)
            store = self.cluster[number]
            raft = store.raft
            leader = f" of {raft.leader_id}" if raft.leader_id not in (None, number) else ""
            role = f"{type(raft.role).__name__}{leader} in term {raft.term}"
            if self.roles.get(number) not in (role, None):
                self.output.append(f"{number} is {role}")
            self.roles[number] = role
            for answer in store.reads:
                self.output.append(f"{number} answers read {answer.context}: {answer.index}")
            store.reads.clear()

    # -- verbs --------------------------------------------------------------------------------------------------

    def do_cluster(
        self, voters: str, learners: str = "0", disk: str = "fast", chunk: str = "1000", append: str = "1000"
    ) -> None:
        self.cluster = Cluster(
            int(voters),
            learners=int(learners),
            settings=RaftSettings(chunk_bytes=int(chunk), append_bytes_max=int(append)),
            instant_disk=disk == "fast",
        )

    def do_campaign(self, number: str) -> None:
        self.cluster.now += 2 * self.cluster.settings.election_timeout_s
        self.cluster.tick(int(number))

    def do_tick(self, number: str) -> None:
        self.cluster.tick(int(number))

    def do_pass(self, seconds: str) -> None:
        self.cluster.run(float(seconds))

    def do_deliver(self, from_id: str = "", to_id: str = "") -> None:
        self.look()
        if from_id:
            self.hand_over(int(from_id), int(to_id))
            return
        while self.cluster.network:
            self.do_wave()
            self.look()

    def do_wave(self) -> None:
        self.look()
        waiting, self.cluster.network = self.cluster.network, []
        for message in waiting:
            self.deliver(message)

    def do_lose(self, from_id: str = "", to_id: str = "") -> None:
        self.look()
        self.cluster.network = [
            message
            for message in self.cluster.network
            if from_id and (message.from_id, message.to_id) != (int(from_id), int(to_id))
        ]

    def hand_over(self, from_id: int, to_id: int) -> None:
        waiting, self.cluster.network = self.cluster.network, []
        for message in waiting:
            if (message.from_id, message.to_id) == (from_id, to_id):
                self.deliver(message)
            else:
                self.cluster.network.append(message)

    def deliver(self, message: RaftMessage) -> None:
        lost = message.to_id not in self.cluster.stores or (message.from_id, message.to_id) in self.cluster.cuts
        self.output.append(f"{message.from_id}→{message.to_id} {describe(message)}{' (lost)' if lost else ''}")
        self.cluster.deliver(message)

    def do_propose(self, number: str, text: str) -> None:
        self.cluster.propose(text.encode(), at=int(number))

    def do_read(self, number: str, context: str) -> None:
        self.cluster.read(int(number), int(context))

    def do_transfer(self, number: str, target: str) -> None:
        self.cluster.step(int(number), TransferLeadership(now=self.cluster.now, target=int(target)))

    def do_change(self, number: str, voters: str, learners: str = "") -> None:
        self.cluster.change(
            map(int, voters.split(",")), [int(word) for word in learners.split(",") if word], at=int(number)
        )

    def do_snapshot(self, number: str, keep: str = "0") -> None:
        store = self.cluster[int(number)]
        store.take_snapshot(int(keep))
        self.output.append(f"{number} keeps the log after {id_text(store.raft.log.base)}")

    def do_write(self, number: str) -> None:
        store = self.cluster[int(number)]
        store.finish_write()
        store.apply()

    def do_crash(self, number: str) -> None:
        self.cluster.crash(int(number))

    def do_start(self, number: str) -> None:
        self.cluster.start(int(number))

    def do_cut(self, number: str) -> None:
        self.cluster.cut_off(int(number))

    def do_heal(self) -> None:
        self.cluster.heal()

    def do_status(self) -> None:
        for number, store in sorted(self.cluster.stores.items()):
            raft = store.raft
            voted = f"voted {raft.hard_state.voted_for}"
            logs = f"committed {raft.commit_index}, last {id_text(raft.log.last_id)}"
            self.output.append(f"{number} {type(raft.role).__name__} term {raft.term}, {voted}, {logs}")

    def do_log(self, number: str) -> None:
        log = self.cluster[int(number)].raft.log
        self.output.append(f"after {id_text(log.base)}")
        for entry in log.entries(log.tail_first, log.last_index, 1 << 40) or ():
            self.output.append(entry_text(entry))


# -- words --------------------------------------------------------------------------------------------------------


def id_text(entry_id: EntryId) -> str:
    return f"{entry_id.term}/{entry_id.index}"


def entry_text(entry: Entry) -> str:
    what = entry.payload.decode() if entry.kind == EntryKind.COMMANDS else EntryKind(entry.kind).name
    return f"{id_text(entry.id)} {what}"


def describe(message: RaftMessage) -> str:
    match message:
        case RequestPreVote() | RequestVote():
            flag = " in a transfer" if isinstance(message, RequestVote) and message.transfer else ""
            words = f"last {id_text(message.last)}{flag}"
        case PreVoteReply(granted=granted) | VoteReply(granted=granted):
            words = "granted" if granted else "refused"
        case AppendEntries():
            entries = ", ".join(map(entry_text, message.entries))
            words = f"after {id_text(message.prev)} [{entries}] commit {message.commit_index} round {message.round}"
        case AppendReply(success=True):
            words = f"match {message.match_index} round {message.round}"
        case AppendReply():
            words = f"conflict at {message.prev_index}, hint {id_text(message.hint)} round {message.round}"
        case InstallSnapshot():
            end = message.offset + len(message.data)
            words = f"{id_text(message.meta.id)} bytes {message.offset} to {end}{' (the last)' if message.done else ''}"
        case InstallSnapshotReply():
            words = f"{id_text(message.snapshot_id)} next {message.next_offset}"
        case ReadIndexRequest():
            words = ""
        case ReadIndexReply(index=index):
            words = f"index {index}"
        case TimeoutNow():
            words = ""
    return f"{type(message).__name__} term {message.term} {words}".rstrip()
