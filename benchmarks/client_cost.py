"""Client CPU of one unary call: stormproof's channel against the bare stub, in one run, for threads and for asyncio.

`python benchmarks/client_cost.py [--block=50] [--rounds=150]` (or `make bench`). One server, reached under four addresses by
our channel and under one by the bare stub. Both take turns in small blocks, forwards and backwards, so that what else the
machine does hits both; the figure is the median of the rounds' ratios, with its 95 % confidence interval (bootstrap) and
the quartiles of the rounds. CPU is that of this process alone, all its threads included, on a core of its own if there
are two. Four bare stubs in turn are there to compare: what four connections cost whoever uses them.

Then the pure machine, a pick, and a durable commit.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from protos.hello_pb2 import HelloRequest
from protos.hello_pb2_grpc import HelloStub
from stormproof import (
    Adaptive,
    Channel,
    CheckpointStore,
    ConsistentHash,
    Endpoint,
    Failover,
    LeastRequest,
    PeakEwma,
    Policy,
    RandomChoice,
    RetryBudget,
    RoundRobin,
)
from stormproof.aio import Channel as AioChannel
from stormproof.core.call import Call
from stormproof.core.outcome import OK
from stormproof.core.pool import Pool

REQUEST = HelloRequest(name="Ada")


def cpu() -> float:
    """Seconds of CPU that this process has used, in all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def show(what: str, ours: list[float], theirs: list[float], bound: str) -> None:
    """One row: medians, the median of the ratios with its 95 % confidence interval, and the quartiles of the ratios."""
    ratios = [o / t for o, t in zip(ours, theirs, strict=True)]
    rng = random.Random(1)
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(400))
    low, _, high = statistics.quantiles(ratios, n=4)
    print(
        f"{what:<40} {statistics.median(ours):8.1f} {statistics.median(theirs):8.1f}   {statistics.median(ratios):5.3f} "
        f"[{medians[9]:.3f}, {medians[-10]:.3f}]   {low:.2f} to {high:.2f}   {len(ratios):4}   {bound}"
    )


class Sides:
    """What is compared, by name, and the CPU that each block of each took, in microseconds a call."""

    def __init__(self, names: list[str]) -> None:
        self.spent: dict[str, list[float]] = {name: [] for name in names}

    def turns(self, rounds: int) -> Iterator[str]:
        """Whose turn it is: each once a round, every other round backwards. The first two rounds do not count."""
        names = list(self.spent)
        for turn in range(rounds + 2):
            if turn == 2:
                self.spent = {name: [] for name in names}
            yield from names if turn % 2 else reversed(names)

    def show(self, driver: str) -> None:
        bare = self.spent["bare"]
        show(f"unary call, {driver}: us of CPU", self.spent["ours"], bare, "<= 1.10 of the bare stub")
        show("  four bare stubs in turn", self.spent["four bare"], bare, "")


def threads(addresses: list[str], block: int, rounds: int) -> None:
    """Blocking calls from one thread."""
    with contextlib.ExitStack() as stack:
        bare = [HelloStub(stack.enter_context(grpc.insecure_channel(address))) for address in addresses]
        ours = HelloStub(stack.enter_context(Channel(addresses)))
        sides = Sides(["bare", "ours", "four bare"])
        stubs = {"bare": [bare[0]], "ours": [ours], "four bare": bare}
        for name in sides.turns(rounds):
            stub = itertools.cycle(stubs[name])
            began = cpu()
            for _ in range(block):
                next(stub).SayHello(REQUEST, timeout=10.0)
            sides.spent[name].append((cpu() - began) / block * 1e6)
    sides.show("threads")


async def asynchronous(addresses: list[str], block: int, rounds: int) -> None:
    """Awaited calls in one task."""
    async with contextlib.AsyncExitStack() as stack:
        bare = [HelloStub(await stack.enter_async_context(grpc.aio.insecure_channel(a))) for a in addresses]
        ours = HelloStub(await stack.enter_async_context(AioChannel(addresses)))
        sides = Sides(["bare", "ours", "four bare"])
        stubs = {"bare": [bare[0]], "ours": [ours], "four bare": bare}
        for name in sides.turns(rounds):
            stub = itertools.cycle(stubs[name])
            began = cpu()
            for _ in range(block):
                await next(stub).SayHello(REQUEST, timeout=10.0)
            sides.spent[name].append((cpu() - began) / block * 1e6)
    sides.show("asyncio")


def least(work: Callable[[], None], turns: int) -> float:
    """Microseconds of CPU that one of `turns` turns takes: of five goes the one that was disturbed the least."""
    goes = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(turns):
            work()
        goes.append((time.process_time() - began) / turns * 1e6)
    return min(goes)


def pure() -> None:
    """The machine and a pick, without any I/O."""
    for count in (10, 10_000):
        for balancer in (
            RoundRobin(),
            RandomChoice(),
            LeastRequest(),
            PeakEwma(),
            Adaptive(),
            LeastRequest(choices=None),
        ):
            endpoints = [Endpoint(f"h{index}:1") for index in range(count)]
            pool = Pool(endpoints, balancer=balancer, failover=Failover(), budget=RetryBudget(), rng=random.Random(1))
            turns = 20 if balancer == LeastRequest(choices=None) and count > 10 else 5_000
            policy, clock = Policy(), itertools.count()

            def call(pool: Pool = pool, policy: Policy = policy, clock: Iterator[int] = clock) -> None:
                call, now = Call(pool, policy), next(clock) * 0.001
                call.begin(now)
                call.finished(1, OK, now + 0.001)

            def pick(pool: Pool = pool) -> None:
                pool.picker.pick(pool._eligible, 1e6)

            print(
                f"{balancer!s:<46} {count:>6} endpoints   machine {least(call, turns):8.2f} us (<= 10)   "
                f"pick {least(pick, turns):8.2f} us (<= 2)"
            )
        keyed, keys = ConsistentHash(header="user-id"), [f"user-{number}" for number in range(20_000)]
        pool = Pool(endpoints, balancer=keyed, failover=Failover(), budget=RetryBudget(), rng=random.Random(1))
        began = time.perf_counter()
        pool.picker.pick_for("user-id", pool._eligible, (), 0.0)
        build = time.perf_counter() - began
        began = time.perf_counter()
        for key in keys:
            pool.picker.pick_for(key, pool._eligible, (), 0.0)
        pick = (time.perf_counter() - began) / len(keys) * 1e6
        print(
            f"{keyed.__class__.__name__:<34} {count:>6} endpoints   ring {build:11.4f} s (<= 1)     pick {pick:8.2f} us (<= 2)"
        )


def commits(rounds: int) -> None:
    """A durable commit against SQLite's own, alternating."""
    with tempfile.TemporaryDirectory() as folder, CheckpointStore(Path(folder) / "ours.db") as store:
        bare = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "locking_mode=EXCLUSIVE"):
            bare.execute(f"PRAGMA {pragma}")
        bare.execute("CREATE TABLE progress (name TEXT PRIMARY KEY, done INTEGER)")
        ours, theirs, done = [], [], 0
        for _ in range(rounds):
            spent = [0.0, 0.0]
            for _ in range(200):
                done += 1
                began = time.perf_counter()
                store.commit("batch", done)
                middle = time.perf_counter()
                bare.execute("INSERT OR REPLACE INTO progress VALUES ('batch', ?)", (done,))
                spent = [spent[0] + middle - began, spent[1] + time.perf_counter() - middle]
            ours.append(spent[0] / 200 * 1e6)
            theirs.append(spent[1] / 200 * 1e6)
        bare.close()
    show("durable commit: us", ours, theirs, "<= 1.20 of SQLite's own")


def start_server() -> tuple[subprocess.Popen[str], list[str]]:
    """A server and four names for it. If there are two cores, one is the server's and the other one this process's."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[:1])  # inherited
    command = [sys.executable, "-m", "harness.node", "--port", "0", "--service-time", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[1:2])
    port = server.stdout.readline().split("127.0.0.1:")[1].split(";")[0]
    return server, [f"{scheme}127.0.0.1:{port}" for scheme in ("", "ipv4:", "dns:", "dns:///")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--block", type=int, default=50, help="calls in one turn")
    parser.add_argument("--rounds", type=int, default=150)
    options = parser.parse_args()
    server, addresses = start_server()
    try:
        print(f"{'':<40} {'ours':>8} {'theirs':>8}   ratio [95 % confidence]   quartiles    rounds   must reach")
        threads(addresses, options.block, options.rounds)
        asyncio.run(asynchronous(addresses, options.block, options.rounds))
    finally:
        server.kill()
        server.wait()
    commits(40)
    pure()


if __name__ == "__main__":
    main()
