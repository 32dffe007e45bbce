"""What the built-in proxy costs beside the real Toxiproxy 2.12: unary gRPC, bulk bytes, and connections that are idle.

`python benchmarks/proxy.py [--rounds=9] [--calls=400] [--seconds=0.7]` (or `make bench-proxy`). Both proxies run at once and
take turns, every other round backwards, so that what else the machine does hits both; a ratio is taken inside each round.
Printed are the medians, the median of the ratios with the quartiles, and the bound. Exit status 1 if a bound is missed, 2
without a real one.

- Unary: p50 of calls to a Hello server in a process of its own, one after the other on one channel; "none" is without proxy.
- Bulk: bytes/s that arrive through one connection, from a process that writes as fast as it can; and behind a latency of 2 ms.
- Idle: memory (RSS) that a fresh proxy process takes on for each of 1,000 connections that say nothing, both sockets open.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import grpc
import psutil

from faults.network import Toxic
from harness.fleet.ports import free_port
from harness.proxy.control import Control
from harness.proxy.errors import ToxiproxyError
from harness.proxy.find import command, find
from protos.hello_pb2 import HelloRequest
from protos.hello_pb2_grpc import HelloStub

OURS, REAL, NONE = "built-in", "toxiproxy", "none"
IDLE = 1000
REQUEST = HelloRequest(name="Ada")
#: What one write of the bulk sender hands to the kernel.
CHUNK = bytes(1 << 20)


class Running(NamedTuple):
    """A proxy server: its process, and what it is told by."""

    process: psutil.Process
    control: Control


@contextlib.contextmanager
def running(side: str) -> Iterator[Running]:
    """Starts the proxy of that side, and ends it."""
    found = find(
        {**os.environ, "STORMPROOF_TOXIPROXY_URL": "", "STORMPROOF_TOXIPROXY": {OURS: "builtin"}.get(side, "real")}
    )
    port = free_port()
    with subprocess.Popen(command(found, port), stdout=subprocess.DEVNULL) as process:
        try:
            control = Control("127.0.0.1", port)
            control.wait_ready(20)
            yield Running(psutil.Process(process.pid), control)
        finally:
            process.terminate()


@contextlib.contextmanager
def hello() -> Iterator[str]:
    """The address of a Hello server that answers at once."""
    port = free_port()
    words = [sys.executable, "-m", "harness.node", "--port", str(port), "--service-time", "0"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                grpc.channel_ready_future(channel).result(timeout=20)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


@contextlib.contextmanager
def sender() -> Iterator[str]:
    """The address of a process that writes without end to whoever connects, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            while True:
                with listener.accept()[0] as sock, contextlib.suppress(OSError):
                    while True:
                        sock.sendall(CHUNK)
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), 20)


def unary(stub: HelloStub, calls: int) -> float:
    """The median of so many calls, in microseconds."""
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        stub.SayHello(REQUEST, timeout=20.0)
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e6


def bulk(address: str, seconds: float) -> float:
    """Megabytes a second that arrive from there, after a first tenth of a second."""
    buffer = bytearray(1 << 20)
    with connect(address) as sock:
        warm = time.perf_counter() + 0.1
        while time.perf_counter() < warm:
            sock.recv_into(buffer)
        began, count = time.perf_counter(), 0
        while (now := time.perf_counter()) < began + seconds:
            count += sock.recv_into(buffer)
    return count / (now - began) / 1e6


def idle(side: str) -> float:
    """KiB of memory for each of `IDLE` connections through a fresh proxy."""
    with running(side) as (process, control), socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        upstream = f"127.0.0.1:{listener.getsockname()[1]}"
        at = control.create("idle", upstream=upstream, listen="127.0.0.1:0")
        with contextlib.ExitStack() as stack:
            stack.enter_context(connect(at))  # what the first connection costs is no matter of each
            stack.enter_context(listener.accept()[0])
            before = process.memory_info().rss
            for _ in range(IDLE):
                stack.enter_context(connect(at))
                stack.enter_context(listener.accept()[0])
            return (process.memory_info().rss - before) / IDLE / 1024


class Sides:
    """What each side measured, round by round."""

    def __init__(self, *names: str) -> None:
        self.seen: dict[str, list[float]] = {name: [] for name in names}

    def measure(self, rounds: int, measured: Callable[[str], float]) -> None:
        """Each side's turn once a round, every other round backwards; a first round does not count."""
        for turn in range(rounds + 1):
            for name in list(self.seen) if turn % 2 else reversed(self.seen):
                value = measured(name)
                if turn:
                    self.seen[name].append(value)

    def show(self, what: str, bound: str, met: Callable[[float, float], bool]) -> bool:
        """One row; whether the bound was met by median figure and median ratio."""
        ratios = [ours / theirs for ours, theirs in zip(self.seen[OURS], self.seen[REAL], strict=True)]
        low, ratio, high = statistics.quantiles(ratios, n=4)
        figures = {name: statistics.median(values) for name, values in self.seen.items()}
        kept = met(figures[OURS], ratio)
        verdict = f"{bound}: {'met' if kept else 'MISSED'}" if bound else ""
        none = f"{figures[NONE]:9.1f}" if NONE in figures else " " * 9
        print(
            f"{what:<26} {figures[OURS]:9.1f} {figures[REAL]:9.1f} {none}   {ratio:5.2f}   {low:.2f} to {high:.2f}"
            f"   {len(ratios):6}   {verdict}",
            flush=True,
        )
        return kept


def main() -> int:
    """Measures all three; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=400, help="of a round (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.7, help="of bulk bytes in a round (default %(default)s)")
    options = parser.parse_args()
    print(f"{'':<26} {OURS:>9} {REAL:>9} {'none':>9}   ratio   quartiles      rounds   bound")
    with sender() as source, contextlib.ExitStack() as stack:  # it forks: before there are threads of gRPC
        try:
            proxies = {side: stack.enter_context(running(side)) for side in (OURS, REAL)}
        except ToxiproxyError as error:
            print(error, file=sys.stderr)
            return 2
        server = stack.enter_context(hello())
        stubs, bulks = {}, {NONE: source}
        for side, (_, control) in proxies.items():
            bulks[side] = control.create("bulk", upstream=source, listen="127.0.0.1:0")
            at = control.create("hello", upstream=server, listen="127.0.0.1:0")
            stubs[side] = HelloStub(stack.enter_context(grpc.insecure_channel(at)))
        stubs[NONE] = HelloStub(stack.enter_context(grpc.insecure_channel(server)))

        calls = Sides(OURS, REAL, NONE)
        calls.measure(options.rounds, lambda side: unary(stubs[side], options.calls))
        kept = [calls.show("unary gRPC, p50, us", "<= 1.2 of Toxiproxy", lambda _, ratio: ratio <= 1.2)]
        flows = Sides(OURS, REAL, NONE)
        flows.measure(options.rounds, lambda side: bulk(bulks[side], options.seconds))
        kept.append(flows.show("bulk, one connection, MB/s", ">= 0.5 of Toxiproxy", lambda _, ratio: ratio >= 0.5))
        for _, control in proxies.values():
            control.add("bulk", [Toxic(type="latency", stream="downstream", attributes={"latency": 2})])
        late = Sides(OURS, REAL)
        late.measure(options.rounds, lambda side: bulk(bulks[side], options.seconds))
        late.show("  the same, 2 ms late", "", lambda *_: True)
    memory = Sides(OURS, REAL)
    memory.measure(max(5, options.rounds // 2), idle)
    kept.append(memory.show("idle connection, KiB", "<= 60 KiB", lambda ours, _: ours <= 60))
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
