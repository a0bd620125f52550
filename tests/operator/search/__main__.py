"""The search by hand: `python -m tests.operator.search [SCENARIO…] [--faults N] [--specs N] [--races N] [--resume F]`.

Without names, the scenarios of the tests and the deeper ones. A file to resume from has a line for each that is done.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from raftwright_operator.plan import plan
from tests.operator.search.exploring import Result, explore
from tests.operator.search.scenarios import DEEPER, SCENARIOS, Scenario


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.operator.search", description=__doc__)
    parser.add_argument("scenario", nargs="*", help="parts of names; all if none is given")
    parser.add_argument("--faults", type=int, help="instead of what each scenario has; so --specs and --races")
    parser.add_argument("--specs", type=int)
    parser.add_argument("--races", type=int)
    parser.add_argument("--worlds-max", type=int, default=10**9, help="stop a scenario after so many")
    parser.add_argument("--resume", type=Path, help="leave out what this file says is done, and add to it")
    return parser.parse_args()


def chosen(given: argparse.Namespace) -> list[Scenario]:
    bounds = {key: value for key in ("faults", "specs", "races") if (value := getattr(given, key)) is not None}
    names = given.scenario or [""]
    return [replace(one, **bounds) for one in (*SCENARIOS, *DEEPER) if any(part in one.name for part in names)]


def told(result: Result, took_s: float) -> str:
    counts = f"{result.worlds:10,} worlds {result.steps:11,} steps {result.views:9,} views {took_s:7.1f} s"
    return f"{result.scenario:40} {counts}{'' if result.is_whole else ' (cut short)'}\n"


def main() -> int:
    given = parsed()
    done = set(given.resume.read_text().splitlines()) if given.resume is not None and given.resume.exists() else set()
    seen: set[int] = set()
    failed = 0
    for scenario in chosen(given):
        key = f"{scenario.name} {scenario.faults} {scenario.specs} {scenario.races}"
        if key in done:
            continue
        began = time.monotonic()
        result = explore(scenario, plan, worlds_max=given.worlds_max, seen=seen)
        sys.stdout.write(told(result, time.monotonic() - began))
        if result.found is not None:
            failed += 1
            sys.stdout.write(f"{result.found}\n")
        elif result.is_whole and given.resume is not None:
            with given.resume.open("a") as file:
                file.write(f"{key}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(seen):,} distinct worlds\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
