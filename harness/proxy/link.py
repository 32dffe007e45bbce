"""Moves the bytes: one connection is two links, each from one socket, through its pipe of toxics, to the
other socket.

What happens to bytes is decided in `pipe`; this file performs it. Where no toxic acts, a chunk costs one
call from socket to socket. Memory is bounded: a link stops reading while its target does not take more, or
while its toxics hold `HELD` bytes, or its share of `HELD_BY_ALL`; what was read before it stops (a quarter of a megabyte at
the most, which is uvloop's read) comes on top. As with Toxiproxy, a half-closed connection is closed in both directions,
each after its own bytes.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import cast

from harness.proxy.pipe import Pipe, Toxic
from harness.proxy.stage import Actions, Deliver, End

#: Bytes that the toxics of one link may hold before its sender has to wait: half of what Toxiproxy's latency holds.
HELD = 16 * 2**20
#: Bytes that the toxics of all links together may hold: each link on which a toxic acts has an equal share.
HELD_BY_ALL = 256 * 2**20
#: Bytes that may wait for a socket to take them before the other one is read no more.
UNSENT = 64 * 2**10
LINGER_NONE = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Flow:
    """Bytes that came in and went out in one direction of one proxy, over all its connections."""

    received: int = 0
    sent: int = 0


@dataclass(slots=True)
class Room:
    """How much toxics may hold: `pipes` counts the links on which some act."""

    pipes: int = 0

    def share(self) -> int:
        """Bytes for each of them."""
        return min(HELD, HELD_BY_ALL // max(1, self.pipes))


class Side(asyncio.Protocol):
    """One end of a connection: the socket to the client or to the server."""

    def __init__(self, made: Callable[[], None], lost: Callable[[], None]) -> None:
        self.transport: asyncio.Transport | None = None
        self.gone = False
        self.out: Link | None = None  # takes what is read here
        self.into: Link | None = None  # brings what is written here
        self._early: list[bytes] = []  # what came before there was a link for it
        self._early_end = False
        self._made = made
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=UNSENT)
        self._made()

    def data_received(self, data: bytes) -> None:
        if self.out is not None:
            self.out.received(data)
        else:  # pausing in connection_made would be neater, but uvloop begins to read after it regardless
            self._early.append(data)
            self.read(False)

    def eof_received(self) -> bool:
        if self.out is not None:
            self.out.ended()
        self._early_end = True
        return True  # whether and when it is closed is for the links to say

    def pause_writing(self) -> None:
        if self.into is not None:
            self.into.target_full(True)

    def resume_writing(self) -> None:
        if self.into is not None:
            self.into.target_full(False)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.gone = True
        if self.into is not None:
            self.into.stop()
        if self.out is not None:
            self.out.ended()
        self._lost()

    def start(self) -> None:
        """There is a link now: it gets what came before it, then what comes."""
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)
        if self._early_end and self.out is not None:
            self.out.ended()
        elif self.out is not None:
            self.out.steer()

    def read(self, on: bool) -> None:
        """Reads on, or leaves the bytes to the kernel."""
        if self.transport is None or self.gone or self.transport.is_closing():
            return
        if on:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def close(self) -> None:
        """Closes when all that was written is sent."""
        if self.transport is not None:
            self.transport.close()

    def abort(self, *, reset: bool) -> None:
        """Closes now, with a RST if `reset`, else with a FIN."""
        if self.transport is None or self.gone:
            return
        if reset:
            sock = self.transport.get_extra_info("socket")
            with suppress(OSError):  # the peer may have been quicker
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        self.transport.abort()


class Link:
    """One direction of a connection."""

    def __init__(self, source: Side, target: Side, flow: Flow, key: str, room: Room, reset: Callable[[], None]) -> None:
        self._source = source
        self._target = target
        self._flow = flow
        self._key = key
        self._room = room
        self._reset = reset
        self._pipe: Pipe | None = None  # None: no toxic acts, bytes go straight through
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._full = False
        self._reading: bool | None = None
        self._ended = False
        self._over = False
        source.out = self
        target.into = self

    def received(self, data: bytes) -> None:
        self._flow.received += len(data)
        if self._pipe is not None:
            self._perform(self._pipe.received(data, monotonic()))
        elif not self._over:
            self._write(data)

    def ended(self) -> None:
        """The source sends no more, or is gone."""
        if self._ended or self._over:
            return
        self._ended = True
        self._perform((End(),) if self._pipe is None else self._pipe.ended(monotonic()))

    def put(self, toxic: Toxic) -> None:
        """A toxic of this direction was added or edited."""
        if self._over:
            return
        if self._pipe is None:
            self._pipe = Pipe(self._key)
            self._room.pipes += 1
        self._perform(self._pipe.put(toxic, monotonic()))

    def drop(self, toxic: Toxic) -> None:
        """A toxic of this direction was removed; what it held goes on now."""
        if self._pipe is not None:
            self._perform(self._pipe.drop(toxic.serial, monotonic()))

    def target_full(self, full: bool) -> None:
        """The target takes no more for now, or takes again."""
        self._full = full
        self.steer()

    def stop(self) -> None:
        """Nothing can be delivered any more."""
        self._over = True
        self._straight()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _perform(self, actions: Actions) -> None:
        for action in actions:
            if self._over:
                return
            if isinstance(action, Deliver):
                self._write(action.data)
            elif isinstance(action, End):
                self._finish()
            else:
                self._reset()
        if self._pipe is not None and self._pipe.empty:
            self._straight()
        self._arm()
        self.steer()

    def _straight(self) -> None:
        """No toxic acts here any more."""
        if self._pipe is not None:
            self._pipe = None
            self._room.pipes -= 1

    def _write(self, data: bytes) -> None:
        transport = self._target.transport
        if transport is not None and not transport.is_closing():
            self._flow.sent += len(data)
            transport.write(data)

    def _finish(self) -> None:
        """The target gets no more: it is closed, and so it is no source any more either."""
        self.stop()
        self._target.close()
        if self._target.out is not None:
            self._target.out.ended()

    def _arm(self) -> None:
        """Sees to it that the pipe is woken in time; never before, since the loop's clock counts milliseconds."""
        at = None if self._pipe is None else self._pipe.wake_at
        if at is None or (self._timer is not None and self._timer_at <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        wait = math.ceil(max(0.0, at - monotonic()) * 1000) / 1000
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(wait, self._woke)

    def _woke(self) -> None:
        self._timer = None
        if self._pipe is not None:
            self._perform(self._pipe.woke(monotonic()))

    def steer(self) -> None:
        """Reads the source exactly while there is room for what it sends."""
        room = not self._full and (self._pipe is None or self._pipe.held < self._room.share())
        if room != self._reading:
            self._reading = room
            self._source.read(room)


class Connection:
    """One client's connection through a proxy: accepted first, then dialled, as Toxiproxy does.

    `key` names it, seed included. `accepted` is called when the client is there, `over` when both ends are
    gone.
    """

    def __init__(
        self, key: str, room: Room, accepted: Callable[[Connection], None], over: Callable[[Connection], None]
    ) -> None:
        self._key = key
        self._room = room
        self._over = over
        self._links: dict[str, Link] = {}
        self.client = Side(lambda: accepted(self), self._lost)
        self.server = Side(lambda: None, self._lost)

    def join(self, flows: dict[str, Flow], toxics: Iterable[Toxic]) -> None:
        """Both ends are there: bytes flow from now on, through `toxics`."""
        if self.client.gone:  # while the server was dialled
            self.server.abort(reset=False)
            return
        ends = {"upstream": (self.client, self.server), "downstream": (self.server, self.client)}
        for stream, (source, target) in ends.items():
            key = f"{self._key}/{stream}"
            self._links[stream] = Link(source, target, flows[stream], key, self._room, self._reset)
        for toxic in toxics:
            self.put(toxic)
        self.client.start()
        self.server.start()

    def put(self, toxic: Toxic) -> None:
        """A toxic was added or edited."""
        if self._links:
            self._links[toxic.stream.lower()].put(toxic)

    def drop(self, toxic: Toxic) -> None:
        """A toxic was removed."""
        if self._links:
            self._links[toxic.stream.lower()].drop(toxic)

    def abort(self) -> None:
        """Closes both ends now."""
        self.client.abort(reset=False)
        self.server.abort(reset=False)

    def _reset(self) -> None:
        for link in self._links.values():
            link.stop()
        self.client.abort(reset=True)
        self.server.abort(reset=True)

    def _lost(self) -> None:
        if all(side.gone or side.transport is None for side in (self.client, self.server)):
            self._over(self)
