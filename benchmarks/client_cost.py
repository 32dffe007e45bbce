"""Client CPU of one unary call: stormproof's channel against the bare stub, in one run, for threads and for asyncio.

`python benchmarks/client_cost.py [--calls=2000] [--rounds=9]` (or `make bench`). Four servers in processes of their own; the
bare stub calls one of them, as numbers.md asks. Both sides take turns; the figure is the median of the rounds' ratios.
CPU is that of this process alone, all its threads included. Then the pure machine, a pick, and a durable commit.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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


def per_call(work: Callable[[], None], calls: int) -> float:
    """Microseconds of CPU a call."""
    began = cpu()
    work()
    return (cpu() - began) / calls * 1e6


def show(what: str, ours: list[float], theirs: list[float], bound: str) -> None:
    """One row: medians, and the spread of the ratios."""
    ratios = sorted(o / t for o, t in zip(ours, theirs, strict=True))
    print(
        f"{what:<42} {statistics.median(ours):9.1f} {statistics.median(theirs):9.1f}"
        f"   {statistics.median(ratios):5.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})   {bound}"
    )


def threads(addresses: list[str], calls: int, rounds: int) -> None:
    """Blocking calls from one thread."""
    with grpc.insecure_channel(addresses[0]) as bare, Channel(addresses) as channel:
        plain, ours = HelloStub(bare), HelloStub(channel)

        def call(stub: HelloStub, count: int) -> None:
            for _ in range(count):
                stub.SayHello(REQUEST, timeout=10.0)

        call(plain, 200), call(ours, 200)
        pairs = [
            (per_call(lambda: call(ours, calls), calls), per_call(lambda: call(plain, calls), calls))
            for _ in range(rounds)
        ]
    show("unary call, threads: us of CPU", [p[0] for p in pairs], [p[1] for p in pairs], "<= 1.10 of the bare stub")


async def asynchronous(addresses: list[str], calls: int, rounds: int) -> None:
    """Awaited calls in one task."""
    async with grpc.aio.insecure_channel(addresses[0]) as bare, AioChannel(addresses) as channel:
        plain, ours = HelloStub(bare), HelloStub(channel)

        async def call(stub: HelloStub, count: int) -> float:
            began = cpu()
            for _ in range(count):
                await stub.SayHello(REQUEST, timeout=10.0)
            return (cpu() - began) / count * 1e6

        await call(plain, 200), await call(ours, 200)
        pairs = [(await call(ours, calls), await call(plain, calls)) for _ in range(rounds)]
    show("unary call, asyncio: us of CPU", [p[0] for p in pairs], [p[1] for p in pairs], "<= 1.10 of the bare stub")


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
            turns = 20 if balancer == LeastRequest(choices=None) and count > 10 else 20_000
            policy, now = Policy(), 0.0
            began = time.perf_counter()
            for _ in range(turns):
                call = Call(pool, policy)
                call.begin(now)
                now += 0.001
                call.finished(1, OK, now)
            whole = (time.perf_counter() - began) / turns * 1e6
            began = time.perf_counter()
            for _ in range(turns):
                pool.picker.pick(pool._eligible, now)
            pick = (time.perf_counter() - began) / turns * 1e6
            print(
                f"{balancer!s:<34} {count:>6} endpoints   machine {whole:8.2f} us (<= 10)   pick {pick:8.2f} us (<= 2)"
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    command = [sys.executable, "-m", "harness.node", "--port", "0", "--service-time", "0"]
    servers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    try:
        addresses = ["127.0.0.1:" + server.stdout.readline().split("127.0.0.1:")[1].split(";")[0] for server in servers]
        print(f"{'':<42} {'ours':>9} {'theirs':>9}   ratio (spread)         must reach")
        threads(addresses, options.calls, options.rounds)
        asyncio.run(asynchronous(addresses, options.calls, options.rounds))
        commits(options.rounds)
        pure()
    finally:
        for server in servers:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
