"""A job queue with leases: each job is taken by one worker at a time, and comes back if he is not done in time.

Leases run out by the time of the log, which is the leader's clock and never goes back: apply must not look at a clock
of its own, since every replica has to come to the same.

    python examples/jobs.py
"""

import asyncio
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

import raftwright


class Job(msgspec.Struct):
    id: int
    work: str
    worker: str | None = None
    leased_until_ms: int = 0


@raftwright.command("submit", result=int)
@dataclass(frozen=True)
class Submit:
    """The result is the job's number."""

    work: str


@raftwright.command("take", result=Job | None)
@dataclass(frozen=True)
class Take:
    """The oldest job that nobody has, or whose lease has run out; None if there is none."""

    worker: str
    lease_ms: int


@raftwright.command("finish", result=None)
@dataclass(frozen=True)
class Finish:
    """Refused if the job is another worker's by now."""

    worker: str
    id: int


class Queue(raftwright.StateMachine):
    commands = (Submit, Take, Finish)

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.last_id = 0

    def apply(self, command: Submit | Take | Finish, context: raftwright.ApplyContext) -> Any:
        match command:
            case Submit(work):
                self.last_id += 1
                self.jobs[self.last_id] = Job(self.last_id, work)
                return self.last_id
            case Take(worker, lease_ms):
                for job in self.jobs.values():
                    if job.leased_until_ms <= context.time_ms:
                        job.worker, job.leased_until_ms = worker, context.time_ms + lease_ms
                        return job
                return None
            case Finish(worker, number):
                taken = self.jobs.get(number)
                if taken is None or taken.worker != worker:
                    raise LookupError(f"job {number} is not {worker}'s")
                del self.jobs[number]
                return None

    def query(self, request: Any) -> int:
        return len(self.jobs)

    def snapshot(self) -> Iterable[bytes]:
        # Jobs change in place, so their bytes are made now: a large queue would copy them, and encode slice by slice.
        return [msgspec.msgpack.encode((self.last_id, list(self.jobs.values())))]

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.last_id, jobs = msgspec.msgpack.decode(b"".join(chunks), type=tuple[int, list[Job]])
        self.jobs = {job.id: job for job in jobs}


async def work(node: raftwright.Node, worker: str) -> None:
    while (job := await node.propose(Take(worker, lease_ms=10_000))) is not None:
        await node.propose(Finish(worker, job.id))
        print(f"{job.work} is done")


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with raftwright.Node(state_machine=Queue(), name="a", data_dir=directory) as node:
            for number in range(3):
                await node.propose(Submit(f"job {number}"))
            lost = await node.propose(Take("a worker that dies", lease_ms=50))
            print(f"{lost.work} is taken")
            await asyncio.sleep(0.1)
            await work(node, "a worker that lives")
            try:
                await node.propose(Finish("a worker that dies", lost.id))
            except raftwright.CommandFailed as failed:
                print("too late:", failed)
            print(await node.query(None), "jobs are left")


if __name__ == "__main__":
    asyncio.run(main())
