"""A seed decides everything, to the byte."""

import subprocess
import sys

from raftwright.sim.simulation import run_seed

SEED = 3


def test_a_seed_repeats_its_run() -> None:
    assert run_seed(SEED).digest == run_seed(SEED).digest


def test_other_seeds_run_otherwise() -> None:
    assert run_seed(SEED).digest != run_seed(SEED + 1).digest


def test_a_seed_repeats_its_run_in_other_processes_whatever_strings_hash_to() -> None:
    script = f"from raftwright.sim.simulation import run_seed; print(run_seed({SEED}).digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert digests == {run_seed(SEED).digest + "\n"}
