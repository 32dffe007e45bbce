"""Kills clients at random moments and looks whether their work went on: SIGKILL, a thousand times for each kind of work.

`python benchmarks/kill_points.py [--kills=1000] [--only=batch|stream] [--seed=1]` (or `make kills`). A client reads a
stream of thousands of messages, or calls for each item of a batch, from a gRPC server in a process of its own. It is killed at
a moment drawn uniformly from the length of a whole run, start-up, commits and end included, and started again until it
gets through. Then all that its runs were given is held against what an uninterrupted one is given: nothing lost, nothing
out of order, at most `every` repeats after a kill, each of them marked. Exit status 1 if anything of that is broken.

Clients are forked from this process, which has imported all that they need, and makes nothing of gRPC's itself.
"""

from __future__ import annotations

import argparse
import gc
import mmap
import os
import random
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import grpc

from protos.hello_pb2 import HelloReply, HelloRequest
from protos.hello_pb2_grpc import HelloServicer, HelloStub, add_HelloServicer_to_server
from stormproof import (
    Channel,
    Checkpoint,
    CheckpointStore,
    Mark,
    Policy,
    checkpointed,
    checkpointed_stream,
)
from stormproof.core.ledger import Progress

EACH = "/hello.Hello/SayHelloToEach"
LENGTH = {"batch": 120, "stream": 2000}
EVERY = {"batch": 20, "stream": 100}
PHASES = ("starting", "asking", "working", "committing", "ending")
#: Which of them a client is in; its parent reads it when the client is dead.
PHASE = mmap.mmap(-1, 1)


# The server


class Server(HelloServicer):
    """Counts: SayHelloToEach("7") streams the numbers from 7 on; SayHello says a number, and writes down that it did."""

    def __init__(self, journal: int) -> None:
        self._journal = journal

    def SayHelloToEach(self, request, context):  # noqa: ARG002, N802
        for number in range(int(request.name), LENGTH["stream"]):
            yield HelloReply(message=str(number))

    def SayHello(self, request, context):  # noqa: N802
        told = dict(context.invocation_metadata())
        os.write(self._journal, b"%s %s %d\n" % (*told["run"].encode().split(), "stormproof-repeat" in told))
        return HelloReply(message=request.name)


def serve(journal: Path) -> NoReturn:
    """Serves until the parent has gone; says its port first."""
    file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    server = grpc.server(futures.ThreadPoolExecutor(8))
    add_HelloServicer_to_server(Server(file), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    os.write(1, b"%d\n" % port)
    os.read(0, 1)
    os._exit(0)


# The client


class Watched(CheckpointStore):
    """A store that says when it commits."""

    def _keep(self, name: str, new: Progress) -> None:
        before, PHASE[0] = PHASE[0], PHASES.index("committing")
        super()._keep(name, new)
        PHASE[0] = before


def after(request: HelloRequest, cursor: int) -> HelloRequest:  # noqa: ARG001
    return HelloRequest(name=str(cursor + 1))


COUNTING = Checkpoint(resume=after, cursor=lambda reply: int(reply.message))


def work(kind: str, address: str, store: Path, journal: int, run: str) -> None:
    """One run of a client, which writes down all that it is given: index, message, whether it may be a repeat."""
    PHASE[0] = PHASES.index("starting")
    policies = {EACH: Policy(timeout=None, retry=None, checkpoint=COUNTING)}
    with Watched(store) as checkpoints, Channel([address], policy=Policy(retry=None), methods=policies) as channel:
        stub = HelloStub(channel)

        def greet(item: int, mark: Mark) -> tuple[HelloReply, Mark]:
            metadata = (*mark.metadata, ("run", f"{run} {mark.index}"))
            return stub.SayHello(HelloRequest(name=str(item)), metadata=metadata), mark

        PHASE[0] = PHASES.index("asking")
        given: Iterator[tuple[HelloReply, Mark]]
        if kind == "batch":
            given = checkpointed(range(LENGTH[kind]), greet, store=checkpoints, name="killed", every=EVERY[kind])
        else:
            first = HelloRequest(name="0")
            given = checkpointed_stream(
                stub.SayHelloToEach, first, checkpoint=COUNTING, store=checkpoints, name="killed", every=EVERY[kind]
            )
        for reply, mark in given:
            PHASE[0] = PHASES.index("working")
            os.write(journal, b"%d %s %d\n" % (mark.index, reply.message.encode(), mark.repeat))
        PHASE[0] = PHASES.index("ending")


# The check

Given = tuple[int, str, bool]


def problems(runs: Sequence[Sequence[Given]], length: int, every: int) -> list[str]:
    """What is wrong with what the runs of one client were given, the last of which was not killed."""
    found = []
    seen: dict[int, str] = {}
    for number, given in enumerate(runs):
        indexes = [index for index, _, _ in given]
        again = [index for index in indexes if index in seen]
        if indexes != list(range(indexes[0], indexes[0] + len(indexes)) if indexes else []):
            found.append(f"run {number} is out of order or has a gap: {indexes}")
        if indexes and indexes[0] > len(seen):
            found.append(f"run {number} began at {indexes[0]}, and {len(seen)} is lost")
        if len(again) > every:
            found.append(f"run {number} repeats {len(again)}")
        if any(not marked for index, _, marked in given if index in seen):
            found.append(f"run {number} repeats without a mark, among {again}")
        if sum(marked for _, _, marked in given) > every:
            found.append(f"run {number} marks more than {every}")
        seen.update((index, message) for index, message, _ in given)
    if list(seen.items()) != [(index, str(index)) for index in range(length)]:
        found.append(f"the result is not that of an uninterrupted run: {len(seen)} of {length}")
    return found


def repeats(runs: Sequence[Sequence[Given]]) -> list[int]:
    """How many came again, in each run."""
    seen: set[int] = set()
    counts = []
    for given in runs:
        counts.append(sum(index in seen for index, _, _ in given))
        seen.update(index for index, _, _ in given)
    return counts


# The killer


@dataclass(slots=True)
class Count:
    """What happened."""

    kills: int = 0
    runs: int = 0
    clients: int = 0
    repeats: int = 0
    most: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def forked(child: Callable[[], None]) -> int:
    """The pid of a process that does `child`, and no more."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child()
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    return pid


def run_once(client: Callable[[], None], kill_after: float | None) -> bool:
    """Whether the run of `client` was killed; raises if it failed."""
    pid = forked(client)
    watch = os.pidfd_open(pid)
    if not select.select([watch], [], [], 60.0 if kill_after is None else kill_after)[0]:
        os.kill(pid, signal.SIGKILL)
    os.close(watch)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status) and kill_after is not None:
        return True
    if status != 0:
        raise RuntimeError(f"a client ended by itself with status {status}, or did not end in 60 s")
    return False


def read(journal: Path) -> list[Given]:
    lines = [line.split() for line in journal.read_text().splitlines()]
    return [(int(index), message, marked == "1") for index, message, marked in lines]


def killed_until_done(
    kind: str, address: str, folder: Path, moment: Callable[[], float], budget: int, count: Count
) -> None:
    """One client's work, killed again and again until a run gets through; at most `budget` times."""
    journals: list[Path] = []
    killed = True
    while killed:
        journals.append(folder / f"{count.clients}-{len(journals)}")
        file = os.open(journals[-1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        number = str(count.runs)

        def client(file: int = file, number: str = number) -> None:
            work(kind, address, folder / f"{count.clients}.db", file, number)

        killed = run_once(client, moment() if budget > 0 else None)
        os.close(file)
        count.runs += 1
        if killed:
            budget -= 1
            count.kills += 1
            count.phases[PHASES[PHASE[0]]] += 1
        PHASE[0] = 0
    judge(kind, folder, [read(journal) for journal in journals], count)
    count.clients += 1


def judge(kind: str, folder: Path, runs: list[list[Given]], count: Count) -> None:
    found = problems(runs, LENGTH[kind], EVERY[kind])
    again = repeats(runs)
    if kind == "batch":  # what was given is what was taken; what was done only the server knows
        first = count.runs - len(runs)
        done: list[list[Given]] = [[] for _ in runs]
        for line in (folder / "server").read_text().splitlines():
            run, index, marked = line.split()
            done[int(run) - first].append((int(index), index, marked == "1"))
        os.truncate(folder / "server", 0)
        found += [f"on the server: {problem}" for problem in problems(done, LENGTH[kind], EVERY[kind])]
        again = repeats(done)
    count.repeats += sum(again)
    count.most = max(count.most, *again)
    count.failures += [f"client {count.clients}: {problem}" for problem in found]


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A server in a process of its own; its address."""
    said, say = os.pipe()
    stay, leave = os.pipe()

    def child() -> None:
        os.dup2(stay, 0)
        os.dup2(say, 1)
        os.close(leave)
        serve(folder / "server")

    pid = forked(child)
    try:
        yield f"127.0.0.1:{int(os.read(said, 100))}"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for end in (said, say, stay, leave):
            os.close(end)


def kill_points(kind: str, kills: int, seed: int) -> Count:
    """Kills clients of this kind so often, and says what came of it."""
    gc.freeze()  # else the collector of each fork would write to, and so copy, every page that it shares with us
    rng = random.Random(seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as address:
        folder, count, lengths = Path(name), Count(), []
        for _ in range(5):
            start = time.monotonic()
            killed_until_done(kind, address, folder, lambda: 0.0, 0, count)
            lengths.append(time.monotonic() - start)
        length = statistics.median(lengths)
        while count.kills < kills and not count.failures:
            left = kills - count.kills
            killed_until_done(kind, address, folder, lambda: rng.uniform(0.0, length), left, count)
    report(kind, count, length, time.monotonic() - began)
    return count


def report(kind: str, count: Count, length: float, took: float) -> None:
    what = "items" if kind == "batch" else "messages"
    print(
        f"{kind} of {LENGTH[kind]} {what}, a checkpoint every {EVERY[kind]}: {count.kills} kills, {count.clients} clients, "
        f"{count.runs} runs (a whole one takes {length * 1000:.0f} ms), {count.repeats} repeats, "
        f"at most {count.most} after a kill, {len(count.failures)} failures, {took:.0f} s"
    )
    print("  killed while " + ", ".join(f"{phase} {count.phases[phase]}" for phase in PHASES), flush=True)
    for failure in count.failures[:20]:
        print(f"  {failure}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--only", choices=LENGTH)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.only is not None:
        sys.exit(bool(kill_points(options.only, options.kills, options.seed).failures))
    # Side by side, since each waits for the disk much of the time.
    again = [sys.executable, __file__, f"--kills={options.kills}", f"--seed={options.seed}"]
    both = [subprocess.Popen([*again, f"--only={kind}"]) for kind in LENGTH]
    sys.exit(any([process.wait() for process in both]))


if __name__ == "__main__":
    main()
