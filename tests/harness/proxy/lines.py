"""A script played on one line through a proxy: what is sent, set and closed when, and what then arrives when.

Many lines are played at once in one loop, each with a proxy of its own. Times are seconds since both ends were connected.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

ENDS = ("client", "far")
#: Seconds by which times may differ, beyond what the machine was seen to be late by (`Played.late`).
TOLERANCE = 0.08
#: How often a line is played before a difference counts: the machine may be late, but not each time.
PLAYS = 4
_numbers = itertools.count(1)
_PATTERN = bytes(range(251)) * 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is done at a time; before the client connects, if that is less than 0.

    `do`: "put" or "edit" a toxic (`body` as the API takes it), "remove" it, "change" the proxy, "send" `size` bytes
    from the end `at_end`, "shut" its writing, or "close" it.
    """

    at: float
    do: str
    name: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    at_end: str = "client"
    size: int = 0


@dataclass(slots=True, kw_only=True)
class End:
    """What arrived at one end: `came` is when, and how many bytes by then."""

    data: bytearray = field(default_factory=bytearray)
    came: list[tuple[float, int]] = field(default_factory=list)
    ended: float | None = None
    reset: bool = False

    def when(self, count: int) -> float:
        """When so many bytes were there."""
        return next(at for at, total in self.came if total >= count)

    @property
    def last(self) -> float:
        """When the last byte came."""
        return self.came[-1][0]


@dataclass(slots=True, kw_only=True)
class Played:
    """What both ends saw, when the steps were really done, and how late the loop woke at the worst, meanwhile."""

    client: End = field(default_factory=End)
    far: End = field(default_factory=End)
    did: list[float] = field(default_factory=list)
    late: float = 0.0


def put(
    at: float, kind: str, stream: str = "downstream", /, *, toxicity: float = 1.0, name: str = "t", **attributes: int
) -> Step:
    """A toxic is added."""
    body = {"name": name, "type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes}
    return Step(at=at, do="put", name=name, body=body)


def send(at: float, at_end: str, size: int) -> Step:
    """Bytes are sent."""
    return Step(at=at, do="send", at_end=at_end, size=size)


async def play(port: int, script: Sequence[Step], seconds: float, *, seed: str = "") -> Played:
    """Plays `script` on a line through the server whose API is at `port`, and watches it for so long."""
    played = Played()
    name = f"twin-{next(_numbers)}"
    accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    server = await asyncio.start_server(lambda *ends: accepted.put_nowait(ends), "127.0.0.1", 0)
    async with server:
        upstream = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        asked = {"name": name, "upstream": upstream, "listen": "127.0.0.1:0", "seed": seed}
        made = await ask(port, "POST", "/proxies", asked)
        for step in script:
            if step.at < 0:
                await _perform(step, port, name, {}, {})
        client = await asyncio.open_connection("127.0.0.1", int(made["listen"].rpartition(":")[2]))
        ends = {"client": client, "far": await asyncio.wait_for(accepted.get(), 20)}
        began = asyncio.get_running_loop().time()
        watchers = [asyncio.create_task(_watch(ends[end][0], getattr(played, end), began)) for end in ENDS]
        sent = dict.fromkeys(ENDS, 0)
        for step in sorted(script, key=lambda step: step.at):
            if step.at >= 0:
                await _until(began + step.at)
                played.did.append(asyncio.get_running_loop().time() - began)
                await _perform(step, port, name, ends, sent)
        await _until(began + seconds)
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        for _, writer in ends.values():
            writer.transport.abort()
        await ask(port, "DELETE", f"/proxies/{name}")
    return played


async def ask(port: int, method: str, path: str, body: object = None) -> Any:
    """One request to an API; the JSON of its answer. AssertionError if it was refused."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    text = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n"
    writer.write(head.encode() + text)
    answer, _, content = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
    writer.close()
    assert int(answer.split(b" ")[1]) < 400, (method, path, body, answer, content)
    return json.loads(content) if content.strip() else None


async def _perform(step: Step, port: int, name: str, ends: dict[str, Any], sent: dict[str, int]) -> None:
    toxics = f"/proxies/{name}/toxics"
    if step.do == "send":
        offset = sent[step.at_end] % 251
        sent[step.at_end] += step.size
        ends[step.at_end][1].write(_PATTERN[offset : offset + step.size])
    elif step.do == "shut":
        with suppress(OSError):  # the proxy was quicker
            ends[step.at_end][1].write_eof()
    elif step.do == "close":
        ends[step.at_end][1].close()
    elif step.do == "put":
        await ask(port, "POST", toxics, step.body)
    elif step.do == "edit":
        await ask(port, "POST", f"{toxics}/{step.name}", step.body)
    elif step.do == "remove":
        await ask(port, "DELETE", f"{toxics}/{step.name}")
    else:
        await ask(port, "POST", f"/proxies/{name}", step.body)


async def _watch(reader: asyncio.StreamReader, end: End, began: float) -> None:
    loop = asyncio.get_running_loop()
    try:
        while data := await reader.read(1 << 16):
            end.data += data
            end.came.append((loop.time() - began, len(end.data)))
    except OSError as error:
        end.reset = isinstance(error, ConnectionResetError)
    end.ended = loop.time() - began


async def _until(when: float) -> None:
    await asyncio.sleep(max(0.0, when - asyncio.get_running_loop().time()))


def unlike(ours: Played, real: Played) -> list[str]:
    """What differs between two plays of one script: bytes, when they came, and whether and when each end was closed."""
    found = []
    within = TOLERANCE + max(ours.late, real.late)
    for end in ENDS:
        one, other = getattr(ours, end), getattr(real, end)
        if one.data != other.data:
            found.append(f"{end}: {len(one.data)} bytes, not the {len(other.data)} of the real one")
        elif one.data:
            for count in sorted({1, len(one.data) // 2 or 1, len(one.data)}):
                found += _apart(f"{end}: byte {count}", one.when(count), other.when(count), within)
        if (one.ended is None) != (other.ended is None):
            found.append(f"{end}: ended at {one.ended}, with the real one at {other.ended}")
        elif one.ended is not None and other.ended is not None:
            found += _apart(f"{end}: the end", one.ended, other.ended, within)
    return found


def _apart(what: str, ours: float, real: float, within: float) -> list[str]:
    return [f"{what} at {ours:.3f} s, with the real one at {real:.3f} s"] if abs(ours - real) > within else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A line's steps, and for how long it is watched."""

    steps: tuple[Step, ...]
    seconds: float


async def _both(ports: tuple[int, int], script: Script) -> tuple[Played, Played]:
    ours, real = await asyncio.gather(*(play(port, script.steps, script.seconds) for port in ports))
    return ours, real


async def _all(ports: tuple[int, int], scripts: Sequence[Script]) -> list[tuple[Played, Played]]:
    late = [0.0]
    watch = asyncio.create_task(_lateness(late))
    pairs = await asyncio.gather(*(_both(ports, script) for script in scripts))
    watch.cancel()
    for played in (played for pair in pairs for played in pair):
        played.late = late[0]
    return pairs


async def _lateness(late: list[float]) -> None:
    """Keeps in `late` by how much the loop woke late, at the worst."""
    while True:
        due = asyncio.get_running_loop().time() + 0.01
        await asyncio.sleep(0.01)
        late[0] = max(late[0], asyncio.get_running_loop().time() - due)


def all_of(ports: tuple[int, int], scripts: Sequence[Script]) -> list[tuple[Played, Played]]:
    """What the built-in one and the real one made of each script, all played at once."""
    return asyncio.run(_all(ports, scripts))


def differing(ports: tuple[int, int], scripts: Sequence[Script]) -> list[tuple[Script, list[str]]]:
    """The scripts that the two servers played differently in each of `PLAYS` plays, and how in the last."""
    left = [(script, [""]) for script in scripts]
    for _ in range(PLAYS):
        found = [unlike(*pair) for pair in all_of(ports, [script for script, _ in left])]
        left = [(script, why) for (script, _), why in zip(left, found, strict=True) if why]
    return left


@contextmanager
def black_hole() -> Iterator[str]:
    """The address of an upstream whose queue of connections is full: Linux answers no further SYN."""
    with socket.socket() as full, ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            assert filler.connect_ex(full.getsockname()) == errno.EINPROGRESS
        yield f"127.0.0.1:{full.getsockname()[1]}"
