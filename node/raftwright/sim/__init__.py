"""Deterministic simulation of whole clusters: the real core, driver and storage on virtual time.

    run = run_seed(42)
    assert run.ok, run.violation

One seed is one run: a cluster, clients and faults drawn from it, checked after every event, and the same to the byte
each time. `Simulation(seed, machine=MyMachine, workload=MyWorkload)` does it with another state machine: what every
run checks of it is that equal entries give equal snapshots on every node (so `apply` is deterministic, and a snapshot
holds everything); what its answers must be, its workload says (`workload.py` shows how).
"""

from raftwright.sim.profile import Profile
from raftwright.sim.simulation import Run, Simulation, run_seed
from raftwright.sim.world import Violation

__all__ = ["Profile", "Run", "Simulation", "Violation", "run_seed"]
