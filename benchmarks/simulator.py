"""What a simulated call costs: calls a second on one core, with 10 servers and with 10,000.

`python benchmarks/simulator.py [--rounds=3]`. Nothing is wrong in these runs and every server is used. The figure covers all
of it: building the fleet, making the connections, the calls, the history. Processor time, so other programs hardly count;
the best of so many rounds, in which the two sizes take turns.
"""

from __future__ import annotations

import argparse
import gc
import time
from typing import Any

from harness import Available, Client, Scenario, Servers, Steady
from harness.fleet.sim.fleet import SimFleet
from harness.scenario import Plan
from stormproof import LeastRequest, PeakEwma, Policy, RoundRobin

CALLS, RATE = 120_000, 2000
ROUNDS = 3
SIZES = (10, 10_000)


def seconds_a_call(servers: int, balancer: Any) -> float:
    """Of one round."""
    scenario = Scenario(
        servers=Servers(servers),
        client=Client(balancer=balancer, policy=Policy(timeout=1.0)),
        workload=Steady(rate=RATE, seconds=CALLS / RATE),
        guarantees=[Available(1.0)],
    )
    plan = Plan.draw(scenario, 1)
    gc.collect()
    began = time.process_time()
    history = SimFleet().run(scenario, plan, name="benchmark", watch=lambda _: None)
    took = time.process_time() - began
    assert all(operation.result == "ok" for operation in history.operations)
    return took / CALLS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    print(f"{CALLS:,} calls, best of {rounds} rounds, processor time of one core, everything included")
    for balancer in (RoundRobin(), LeastRequest(), PeakEwma()):
        few, many = (
            min(costs)
            for costs in zip(*[[seconds_a_call(size, balancer) for size in SIZES] for _ in range(rounds)], strict=True)
        )
        print(
            f"{type(balancer).__name__:<14} 10 servers {1 / few:>7,.0f} calls/s ({few * 1e6:.1f} us)   "
            f"10,000 servers {1 / many:>7,.0f} calls/s ({many * 1e6:.1f} us, {many / few:.2f} times that)"
        )


if __name__ == "__main__":
    main()
