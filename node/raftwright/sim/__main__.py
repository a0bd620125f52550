"""`python -m raftwright.sim`: search seed after seed for one that breaks a rule, and repeat one that did.

Its one rule: what it prints on a failure is enough to see it again. Exit status 0: none was found; 1: one was.
"""

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from raftwright.sim.simulation import Run, run_seed

COMMAND = "python -m raftwright.sim"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        say = _say if options.trace else None
        return _report(run_seed(options.seed, say=say))
    return _search(options.start, options.seeds, options.resume)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Deterministic simulation of whole clusters.")
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="how many seeds to run (default 100)")
    parser.add_argument("--start", type=int, default=0, metavar="S", help="the first seed (default 0)")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on behind the last seed noted in DIR")
    parser.add_argument("--seed", type=int, metavar="X", help="run this one seed only")
    parser.add_argument("--trace", action="store_true", help="with --seed: print all that happens")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _search(start: int, seeds: int, resume: Path | None) -> int:
    """Run `seeds` seeds from `start` on, or with `resume` from the first that its file does not have."""
    done = None if resume is None else resume / "next-seed"
    first = start
    if done is not None and done.exists():
        first = max(start, int(done.read_text()))
    counts: Counter[str] = Counter()
    events = 0
    began = time.monotonic()
    for number, seed in enumerate(range(first, first + seeds), 1):
        run = run_seed(seed)
        counts += run.counts
        events += run.events
        if not run.ok:
            _progress(number, seeds, seed, events, began, last=True)
            return _report(run)
        if done is not None:
            done.parent.mkdir(parents=True, exist_ok=True)
            done.write_text(f"{seed + 1}\n")
        _progress(number, seeds, seed, events, began, last=number == seeds)
    for what, count in sorted(counts.items()):
        _say(f"{count:10,} {what}")
    return 0


def _progress(number: int, seeds: int, seed: int, events: int, began: float, *, last: bool) -> None:
    took = time.monotonic() - began
    line = f"{number:,} of {seeds:,} seeds, up to {seed}; {events:,} events; {took / number:.2f} s a seed"
    if sys.stdout.isatty():
        sys.stdout.write(f"\r{line}\x1b[K" + ("\n" if last else ""))
    elif last or number % 25 == 0:
        _say(line)
    sys.stdout.flush()


def _report(run: Run) -> int:
    if run.violation is None:
        _say(f"seed {run.seed}: nothing wrong in {run.events:,} events; trace {run.digest}")
        return 0
    _say(f"\nseed {run.seed} fails: {run.violation.rule}\n  {run.violation.detail}\n\nthe last events:")
    for line in run.lines:
        _say(line)
    if run.violation.__cause__ is not None:
        _say("".join(traceback.format_exception(run.violation.__cause__)))
    _say(f"\nto see it again: {COMMAND} --seed {run.seed} --trace")
    return 1


if __name__ == "__main__":
    sys.exit(main())
