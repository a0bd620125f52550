"""The search by hand: `python -m tests.operator.search [SCENARIO…] [--faults N] [--specs N] [--races N]`."""

import argparse
import sys
import time
from dataclasses import replace

from raftwright_operator.plan import plan
from tests.operator.search.exploring import explore
from tests.operator.search.scenarios import SCENARIOS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.operator.search", description=__doc__)
    parser.add_argument("scenario", nargs="*", help="substrings of names; all if none is given")
    parser.add_argument("--faults", type=int)
    parser.add_argument("--specs", type=int)
    parser.add_argument("--races", type=int)
    parser.add_argument("--worlds-max", type=int, default=10**9)
    parser.add_argument("--no-ends", action="store_true", help="do not look whether each world comes to an end")
    given = parser.parse_args()
    total = failed = 0
    for scenario in SCENARIOS:
        if given.scenario and not any(part in scenario.name for part in given.scenario):
            continue
        bounds = {key: getattr(given, key) for key in ("faults", "specs", "races") if getattr(given, key) is not None}
        began = time.monotonic()
        result = explore(replace(scenario, **bounds), plan, worlds_max=given.worlds_max, ends=not given.no_ends)
        took_s = time.monotonic() - began
        total += result.worlds
        sys.stdout.write(
            f"{result.scenario:40} {result.worlds:9,} worlds {result.steps:10,} steps {result.views:8,} views"
            f" {took_s:7.1f} s{'' if result.is_whole else ' (cut short)'}\n"
        )
        if result.found is not None:
            failed += 1
            sys.stdout.write(f"{result.found}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{total:,} distinct worlds\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
