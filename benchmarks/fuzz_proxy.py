"""Throws anything at the built-in proxy and looks whether it lives: its API and the bytes through it, for as long as you like.

`python benchmarks/fuzz_proxy.py [--minutes=60] [--seed=1]` (or `make fuzz`). Hypothesis draws cases: requests of any shape to
the API, raw bytes to its port, half-open and half-closed connections, lines with any toxics to upstreams that echo, swallow,
are mute, flood, slow, close, reset, refuse or are a black hole, changed and closed while bytes flow. Every now and then 2,000
connections come at once. After each batch of cases a witness must be unharmed: another proxy, whose echo must come back on an
old connection and on a new one. The process must live, have said nothing on stderr, and hold no more memory than `MEMORY`.

Prints how many cases there were; exit status 1 with the smallest batch that Hypothesis finds, if one did harm.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import json
import logging
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from harness.fleet.ports import free_port
from harness.proxy.control import Control
from harness.proxy.find import command, find

#: Bytes that the server may take, whatever comes: 256 MB of what toxics hold, and what connections cost.
MEMORY = 800 * 2**20
#: Seconds in which the witness must have its echo, and each request its answer: on a machine that has other things to do.
PATIENCE = 60.0
CROWD = 2000
#: Examples that Hypothesis draws in a row, and after which the crowd comes.
ROUND = 100
UPSTREAMS = ("echo", "sink", "mute", "flood", "slow", "close", "reset", "refused", "black hole", "nonsense")
#: What an answer may be; a 500 is one only for an address at which nobody can listen.
STATUSES = {200, 201, 204, 301, 400, 403, 404, 405, 408, 409, 411, 413, 414, 417, 431, 500, 501, 505}

# What is drawn

FEW = st.integers(0, 300)
RATE = st.floats(0, 1)
#: Nested without end, and a number that is too long.
HUGE = st.sampled_from([b"[" * 100_000, b'{"a":' * 50_000, b"9" * 5000])

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
WHOLE = st.one_of(
    st.integers(0, 2000), st.integers(0, 2000), st.integers(), st.sampled_from([2**31, 2**63, 2**64, -1, 10**400]), JUNK
)
KINDS = (
    "latency",
    "bandwidth",
    "slow_close",
    "timeout",
    "reset_peer",
    "slicer",
    "limit_data",
    "packet_loss",
    "noop",
    "nonsense",
)
NAMES = (
    "latency", "jitter", "rate", "delay", "timeout", "average_size", "size_variation", "bytes", "loss_rate", "correlation",
)  # fmt: skip
TOXICS = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS), "stream": st.sampled_from(["upstream", "downstream"])},
    optional={
        "name": st.sampled_from(["t", "u", ""]),
        "toxicity": st.sampled_from([0, 0.5, 1]) | JUNK,
        "attributes": st.dictionaries(st.sampled_from(NAMES), WHOLE, max_size=3) | JUNK,
    },
)
#: Those that are accepted more often than not, so that bytes meet them.
SOUND = st.one_of(
    st.builds(lambda a, b: {"type": "latency", "attributes": {"latency": a, "jitter": b}}, FEW, FEW),
    st.builds(lambda a: {"type": "bandwidth", "attributes": {"rate": a}}, st.integers(0, 2000)),
    st.builds(lambda a: {"type": "slow_close", "attributes": {"delay": a}}, FEW),
    st.builds(lambda a: {"type": "timeout", "attributes": {"timeout": a}}, FEW),
    st.builds(lambda a: {"type": "reset_peer", "attributes": {"timeout": a}}, FEW),
    st.builds(
        lambda a, b, c: {"type": "slicer", "attributes": {"average_size": a, "size_variation": min(b, a - 1), "delay": c}},
        st.integers(1, 3000), st.integers(0, 3000), st.integers(0, 5000),
    ),
    st.builds(lambda a: {"type": "limit_data", "attributes": {"bytes": a}}, st.integers(0, 100_000)),
    st.builds(lambda a, b: {"type": "packet_loss", "attributes": {"loss_rate": a, "correlation": b}}, RATE, RATE),
)  # fmt: skip
STREAM = st.sampled_from([{"stream": "upstream"}, {"stream": "downstream"}])
TOXIC = st.one_of(TOXICS, *[st.builds(lambda toxic, stream: {**toxic, **stream}, SOUND, STREAM)] * 3)
LISTEN = st.sampled_from(["127.0.0.1:0", ":0", "", "127.0.0.1:99999", "192.0.2.1:0", "[::1", "x" * 300 + ":1"])
PROXIES = st.fixed_dictionaries({}, optional={
    "name": st.sampled_from(["f", "g", "ü/\0"]) | st.text(max_size=5) | JUNK,
    "listen": LISTEN | st.text(max_size=9) | JUNK,
    "upstream": st.sampled_from(["127.0.0.1:1", "", ":0", "x"]) | st.text(max_size=9) | JUNK,
    "enabled": st.booleans() | JUNK,
    "seed": st.text(max_size=3) | JUNK,
})  # fmt: skip
TEXT = st.one_of(
    PROXIES, TOXIC, st.lists(PROXIES, max_size=3), JUNK
).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60) | HUGE  # fmt: skip
SEGMENT = st.sampled_from(
    ["f", "g", "t", "latency_downstream", "toxics", "proxies", "..", "%2F", "%00", "ü"]
) | st.text(max_size=5)
PATHS = st.one_of(
    st.sampled_from(
        [
            "/proxies",
            "/populate",
            "/reset",
            "/version",
            "/metrics",
            "/proxies/f",
            "/proxies/f/toxics",
            "/proxies/f/toxics/t",
        ]
    ),
    st.lists(SEGMENT, max_size=4).map(lambda parts: "/" + "/".join(quote(part, safe="%") for part in parts)),
)
METHODS = st.sampled_from(
    ["GET", "POST", "POST", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS", "TRACE", "NONSENSE"]
)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is one."""

    method: str
    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes to the API's port, and how the connection is left: as it is for a moment, half closed, closed or reset."""

    data: bytes
    then: str


@dataclass(frozen=True, slots=True)
class Line:
    """Connections through a proxy of their own, and what is done to them."""

    upstream: str
    connections: int
    toxics: list[dict[str, Any]]
    moves: list[tuple[Any, ...]]


HEAD = st.builds(
    lambda method, path, extra, body: f"{method} {path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode() + body,
    METHODS, PATHS,
    st.sampled_from(["", "Content-Length: 5\r\n", "Content-Length: 999999\r\n", "Content-Length: -1\r\n",
                     "Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\n", "Connection: close\r\n",
                     "User-Agent: Mozilla/5\r\n", "A: " + "x" * 20_000 + "\r\n",
                     "Upgrade: websocket\r\nConnection: Upgrade\r\n", "Content-Encoding: gzip\r\n", "X"]),
    TEXT,
)  # fmt: skip
MOVES = st.one_of(
    st.tuples(st.just("send"), st.sampled_from([1, 100, 5000, 300_000])),
    st.tuples(st.just("send"), st.integers(1, 70_000)),
    st.tuples(st.just("wait"), st.integers(0, 40)),
    st.tuples(st.just("put"), TOXIC),
    st.tuples(st.just("edit"), TOXIC),
    st.tuples(st.just("remove")),
    st.tuples(
        st.just("proxy"),
        st.sampled_from([{"enabled": False}, {"enabled": True}, {"upstream": "127.0.0.1:1"}, {"listen": "127.0.0.1:0"}]),
    ),
    st.tuples(st.just("half")),
    st.tuples(st.just("reset")),
    st.tuples(st.just("close")),
    st.tuples(st.just("more")),
)  # fmt: skip
CASES = st.one_of(
    st.builds(Call, METHODS, PATHS, TEXT),
    st.builds(Raw, HEAD | st.binary(max_size=200), st.sampled_from(["stay", "half", "close", "reset"])),
    st.builds(Line, st.sampled_from(UPSTREAMS), st.integers(1, 8), st.lists(TOXIC, max_size=3), st.lists(MOVES, max_size=10)),
    st.builds(Line, st.sampled_from(UPSTREAMS), st.integers(1, 8), st.lists(TOXIC, max_size=3), st.lists(MOVES, max_size=10)),
)  # fmt: skip


# What the server is surrounded by


@dataclass
class World:
    """The server under test, the upstreams, the witness, and what was counted."""

    port: int
    process: psutil.Process
    words: Path
    addresses: dict[str, str] = field(default_factory=dict)
    cases: Counter[str] = field(default_factory=Counter)
    memory: int = 0
    number: int = 0
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    witness: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    witness_port: int = 0

    async def open(self) -> None:
        """Starts the upstreams, makes the witness."""
        for kind in ("echo", "sink", "mute", "flood", "slow", "close", "reset"):
            server = await asyncio.start_server(_quiet(getattr(self, f"_{kind}")), "127.0.0.1", 0, backlog=4096)
            self.stack.push_async_callback(_stop, server)
            self.addresses[kind] = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        full = self.stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # its queue is full: Linux answers no further SYN
            filler = self.stack.enter_context(socket.socket())
            filler.setblocking(False)
            assert filler.connect_ex(full.getsockname()) == errno.EINPROGRESS
        self.addresses |= {
            "black hole": f"127.0.0.1:{full.getsockname()[1]}",
            "refused": f"127.0.0.1:{free_port()}",
            "nonsense": "no such host:x",
        }
        made = await self.ask(
            "POST", "/proxies", {"name": "witness", "upstream": self.addresses["echo"], "listen": "127.0.0.1:0"}
        )
        self.witness_port = int(json.loads(made[1])["listen"].rpartition(":")[2])
        self.witness = await asyncio.open_connection("127.0.0.1", self.witness_port)

    async def batch(self, cases: list[Call | Raw | Line]) -> None:
        """All at once; then everything must be well."""
        await asyncio.gather(*(self._case(case) for case in cases))
        self.cases.update(type(case).__name__ for case in cases)
        await self.well()

    async def well(self) -> None:
        """AssertionError unless the witness has its echo, the API answers, and the server is sound."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.memory = max(self.memory, self.process.memory_info().rss)
        ended = not psutil.pid_exists(self.process.pid) or self.process.status() == psutil.STATUS_ZOMBIE
        assert not ended, f"the server ended: {self.words.read_text()[-2000:]}"
        assert self.words.read_text() == "", self.words.read_text()[-2000:]
        assert self.memory <= MEMORY, f"the server took {self.memory / 2**20:.0f} MiB"
        if (await self.ask("GET", "/proxies/witness"))[0] == 404:  # a case was lucky and deleted it, or reset all
            raise AssertionError("the witness is gone")
        async with asyncio.timeout(PATIENCE):
            fresh = await asyncio.open_connection("127.0.0.1", self.witness_port)
            for reader, writer in (self.witness, fresh):  # type: ignore[misc]
                writer.write(b"still there?")
                assert await reader.readexactly(12) == b"still there?"
            fresh[1].close()

    async def crowd(self) -> None:
        """2,000 connections at once through one proxy, with a toxic or two; half of them say something."""
        self.number += 1
        toxics = [
            {"type": "latency", "attributes": {"latency": 100}},
            {"type": "bandwidth", "stream": "upstream", "attributes": {"rate": 10}},
        ]
        path = await self._made(
            "crowd", self.addresses[("echo", "mute", "refused")[self.number % 3]], toxics[: self.number % 3]
        )
        crowd = await asyncio.gather(*(self._connected(path) for _ in range(CROWD)))
        for number, ends in enumerate(crowd):
            if ends is not None and number % 2:
                ends[1].write(bytes(20_000))
        await self.well()
        for ends in crowd:
            if ends is not None:
                ends[1].transport.abort()
        await self.ask("DELETE", path)
        self.cases["crowd"] += 1
        await self.well()

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Status and body of an answer, which must come and be one of `STATUSES`."""
        text = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n"
            with contextlib.closing(writer):
                writer.write(head.encode() + text)
                answer, _, content = (await reader.read()).partition(b"\r\n\r\n")
        status = int(answer.split(b" ")[1]) if answer else 0
        assert status in STATUSES, (method, path, body, answer, content)
        return status, content

    async def _case(self, case: Call | Raw | Line) -> None:
        if isinstance(case, Call):
            if "witness" not in case.path:
                await self.ask(case.method, case.path, case.body)
        elif isinstance(case, Raw):
            await self._raw(case)
        else:
            await self._line(case)

    async def _raw(self, case: Raw) -> None:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(case.data)
            if case.then == "half":
                writer.write_eof()
            elif case.then == "reset":
                _linger_none(writer)
            if case.then == "stay":
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(100), 0.05)
            writer.close()

    async def _line(self, case: Line) -> None:
        self.number += 1
        path = await self._made(f"line-{self.number}", self.addresses[case.upstream], case.toxics)
        ends = [await self._connected(path) for _ in range(case.connections)]
        for what, *arguments in case.moves:
            match what:
                case "send":
                    for one in filter(None, ends):
                        if one[1].transport.get_write_buffer_size() < 2**20:
                            with contextlib.suppress(RuntimeError):  # it is half closed
                                one[1].write(bytes(arguments[0]))
                case "wait":
                    await asyncio.sleep(arguments[0] / 1000)
                case "put":
                    await self.ask("POST", f"{path}/toxics", arguments[0])
                case "edit" | "remove":
                    toxics = json.loads((await self.ask("GET", f"{path}/toxics"))[1])
                    for toxic in toxics[:1]:
                        at = f"{path}/toxics/{quote(toxic['name'], safe='')}"
                        await self.ask("PATCH" if what == "edit" else "DELETE", at, arguments[0] if arguments else None)
                case "proxy":
                    await self.ask("PATCH", path, arguments[0])
                case "more":
                    ends.append(await self._connected(path))
                case _:
                    for one in filter(None, ends[:2]):
                        _leave(one[1], what)
        for one in filter(None, ends):
            one[1].transport.abort()
        await self.ask("DELETE", path)

    async def _made(self, name: str, upstream: str, toxics: list[dict[str, Any]]) -> str:
        path = f"/proxies/{name}"
        await self.ask("POST", "/proxies", {"name": name, "upstream": upstream, "listen": "127.0.0.1:0"})
        for toxic in toxics:
            await self.ask("POST", f"{path}/toxics", toxic)
        return path

    async def _connected(self, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection through the proxy, if it takes one; what comes back is read as far as it fits."""
        if not (port := self._ports.get(path)):
            status, text = await self.ask("GET", path)
            listen = json.loads(text)["listen"] if status == 200 else ""
            port = self._ports[path] = int(listen.rpartition(":")[2] or 0)
        with contextlib.suppress(OSError):
            return await asyncio.open_connection("127.0.0.1", port)
        return None

    _ports: dict[str, int] = field(default_factory=dict)

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _sink(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(1 << 16):
                pass
        writer.close()

    async def _mute(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # noqa: ARG002
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(1.0)
        writer.transport.abort()

    async def _flood(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # noqa: ARG002
        until = time.monotonic() + 1.0
        with contextlib.suppress(OSError, TimeoutError):
            while time.monotonic() < until:
                writer.write(bytes(50_000))
                await asyncio.wait_for(writer.drain(), 1.0)
        writer.transport.abort()

    async def _slow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            for _ in range(100):
                if not await reader.read(500):
                    break
                await asyncio.sleep(0.01)
                writer.write(b"x")
        writer.transport.abort()

    async def _close(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # noqa: ARG002
        writer.close()

    async def _reset(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(reader.read(1), 1.0)
        _linger_none(writer)
        writer.transport.abort()


def _quiet(handler: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Says nothing when it is cancelled in the end."""

    async def handle(*ends: Any) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await handler(*ends)

    return handle


def _leave(writer: asyncio.StreamWriter, how: str) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        if how == "half":
            writer.write_eof()
        elif how == "reset":
            _linger_none(writer)
            writer.transport.abort()
        else:
            writer.close()


def _linger_none(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _stop(server: asyncio.Server) -> None:
    server.close()


@contextlib.contextmanager
def world() -> Iterator[tuple[asyncio.Runner, World]]:
    """A fresh server with all that surrounds it."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        words = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "stderr"
        process = stack.enter_context(
            subprocess.Popen(
                command(find({"STORMPROOF_TOXIPROXY": "builtin"}), port, seed=1),
                stdout=subprocess.DEVNULL,
                stderr=stack.enter_context(words.open("w")),
            )
        )
        stack.callback(process.terminate)
        Control("127.0.0.1", port).wait_ready(20)
        runner = stack.enter_context(asyncio.Runner())
        around = World(port, psutil.Process(process.pid), words)
        runner.run(around.open())
        yield runner, around
        runner.run(around.stack.aclose())
        assert process.poll() is None, "the server ended"


def fuzz(minutes: float, first: int) -> World:
    """Batches until the time is over; AssertionError by Hypothesis, with the smallest batch that does harm."""
    until = time.monotonic() + minutes * 60
    told = time.monotonic()
    with world() as (runner, around):

        @settings(
            max_examples=ROUND,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(CASES, min_size=1, max_size=12))
        def one_round(cases: list[Call | Raw | Line]) -> None:
            if time.monotonic() < until:
                runner.run(around.batch(cases))

        number = first
        while time.monotonic() < until:
            seed(number)(one_round)()
            runner.run(around.crowd())
            number += 1
            if time.monotonic() > told + 60:
                told = time.monotonic()
                print(f"  {around.cases.total()} cases, {around.memory / 2**20:.0f} MiB at the most", flush=True)
        return around


def main() -> int:
    """Fuzzes; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of our own side: that it writes to what was reset
    around = fuzz(options.minutes, options.seed)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(around.cases.items()))
    print(
        f"{around.cases.total()} cases in {options.minutes:g} minutes from seed {options.seed} ({kinds}): the server "
        f"lives, said nothing, and took {around.memory / 2**20:.0f} MiB at the most"
    )
    return 0


if __name__ == "__main__":
    os.nice(5)
    sys.exit(main())
