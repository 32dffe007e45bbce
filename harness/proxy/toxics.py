"""What each toxic does to the bytes of one direction of one connection: bytes and time in, actions out, no
I/O.

Three laws: bytes never overtake each other; what is held back is given up when the toxic is removed; and
nothing that a client sends or sets can raise an exception here, since attributes are checked before a stage
is made of them.

The effects are those of Toxiproxy 2.12 (its folder toxics/), except where that one harms its user:
attributes have bounds, and `reset_peer` needs no new connection. The form is that of turmoil's rules: a
verdict, performed elsewhere. A stage is told what happened (`received`, `ended`, `changed`, `removed`) and
is woken at `wake_at`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

DAY = 86_400
#: What one waiting chunk costs beside its bytes, about: many tiny chunks must count as the memory that they
#: take.
CHUNK_OVERHEAD = 256
#: Seconds after which `reset_peer` resets a connection on which no byte came, beside its own `timeout`. Not
#: at once: then no request would ever reach a server behind it, and a reply that is torn is what the toxic
#: is mostly for.
IDLE = 1.0
#: Seconds by which pieces that go late are caught up with at once; what is later than that is not made good.
BURST = 0.1


@dataclass(frozen=True, slots=True)
class Deliver:
    """These bytes go on."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """No byte will follow in this direction: the connection is closed once all before it is written."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Both ends of the connection get a RST now."""


Action = Deliver | End | Reset
Actions = Sequence[Action]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One integer attribute of a toxic, as Toxiproxy names it, with its bounds (both included) and its
    unit.
    """

    name: str
    unit: str
    high: int
    low: int = 0
    default: int = 0


@dataclass(slots=True)
class Tally:
    """How often a toxic acted, over all connections."""

    count: int = 0


class Stage:
    """One toxic at work on one direction of one connection; by itself it lets everything pass, as `noop`
    does.

    `wake_at` is when `woke` is due (None: not), `held` how much memory the bytes waiting here take, about.
    """

    type: ClassVar[str] = "noop"
    fields: ClassVar[tuple[Field, ...]] = ()

    def __init__(self, attributes: Mapping[str, int], rng: random.Random, tally: Tally, now: float) -> None:
        self.attributes = dict(attributes)
        self.rng = rng
        self.tally = tally
        self.since = now
        self.wake_at: float | None = None
        self.held = 0

    def received(self, data: bytes, now: float) -> Actions:  # noqa: ARG002
        """Bytes came."""
        return (Deliver(data),)

    def ended(self, now: float) -> Actions:  # noqa: ARG002
        """The sender will send no more."""
        return (End(),)

    def woke(self, now: float) -> Actions:  # noqa: ARG002
        """`wake_at` has come."""
        return ()

    def changed(self, attributes: Mapping[str, int], now: float) -> None:  # noqa: ARG002
        """The toxic was edited; what is due by the new attributes is handed out by `woke`."""
        self.attributes = dict(attributes)

    def removed(self, now: float) -> Actions:  # noqa: ARG002
        """The toxic was taken away; this stage is not asked again."""
        return ()


class _Late(Stage):
    """Passes everything on when it is due, in order: one late chunk keeps all behind it waiting."""

    def __init__(self, attributes: Mapping[str, int], rng: random.Random, tally: Tally, now: float) -> None:
        super().__init__(attributes, rng, tally, now)
        self._queue: deque[tuple[float, float, Action]] = deque()  # due, arrived, what

    def delay(self, action: Action) -> float:
        """Seconds from arrival until `action` is due."""
        raise NotImplementedError  # both subclasses below have their own

    def received(self, data: bytes, now: float) -> Actions:
        return self._take(Deliver(data), now)

    def ended(self, now: float) -> Actions:
        return self._take(End(), now)

    def woke(self, now: float) -> Actions:
        out = []
        while self._queue and self._queue[0][0] <= now:
            action = self._queue.popleft()[2]
            self.held -= _cost(action)
            out.append(action)
        self.wake_at = self._queue[0][0] if self._queue else None
        return out

    def changed(self, attributes: Mapping[str, int], now: float) -> None:
        super().changed(attributes, now)
        waiting, self._queue = self._queue, deque()
        for _, arrived, action in waiting:
            self._put(arrived + self.delay(action), arrived, action)
        self.wake_at = self._queue[0][0] if self._queue else None

    def removed(self, now: float) -> Actions:  # noqa: ARG002
        return [action for _, _, action in self._queue]

    def _take(self, action: Action, now: float) -> Actions:
        due = now + self.delay(action)
        if due <= now and not self._queue:
            return (action,)
        self.tally.count += 1
        self.held += _cost(action)
        self._put(due, now, action)
        self.wake_at = self._queue[0][0]
        return ()

    def _put(self, due: float, arrived: float, action: Action) -> None:
        last = self._queue[-1][0] if self._queue else due
        self._queue.append((max(due, last), arrived, action))


class Latency(_Late):
    """Every chunk is due `latency` ms after it came, give or take up to `jitter` ms; never before it came."""

    type = "latency"
    fields = (
        Field(name="latency", unit="ms", high=DAY * 1000),
        Field(name="jitter", unit="ms", high=DAY * 1000),
    )

    def delay(self, action: Action) -> float:
        if not isinstance(action, Deliver):
            return 0.0
        jitter = self.attributes["jitter"]
        return max(0.0, self.attributes["latency"] + self.rng.uniform(-jitter, jitter)) / 1000


class SlowClose(_Late):
    """The end of the bytes is known `delay` ms late."""

    type = "slow_close"
    fields = (Field(name="delay", unit="ms", high=DAY * 1000),)

    def delay(self, action: Action) -> float:
        return self.attributes["delay"] / 1000 if isinstance(action, End) else 0.0


class _Pieces(Stage):
    """Passes bytes on piece by piece; the next piece begins when the line is free again."""

    def __init__(self, attributes: Mapping[str, int], rng: random.Random, tally: Tally, now: float) -> None:
        super().__init__(attributes, rng, tally, now)
        self._queue: deque[bytes] = deque()
        self._offset = 0
        self._size = 0
        self._free_at = now
        self._ending = False

    def size(self) -> int:
        """How many bytes the next piece has; 0 while none may pass."""
        raise NotImplementedError  # both subclasses below have their own

    def seconds(self, size: int) -> tuple[float, float]:
        """How long a piece waits before it goes, and how long the line is taken after it."""
        raise NotImplementedError  # both subclasses below have their own

    def received(self, data: bytes, now: float) -> Actions:
        self.tally.count += 1
        self.held += len(data) + CHUNK_OVERHEAD
        self._queue.append(data)
        if len(self._queue) == 1:
            self._begin(max(now, self._free_at))
        return ()

    def ended(self, now: float) -> Actions:  # noqa: ARG002
        self._ending = True
        return () if self._queue else (End(),)

    def woke(self, now: float) -> Actions:
        if self.wake_at is None:
            return ()
        head = self._queue[0]
        out: list[Action] = [Deliver(head[self._offset : self._offset + self._size])]
        self._offset += self._size
        if self._offset >= len(head):
            self._queue.popleft()
            self._offset = 0
            self.held -= len(head) + CHUNK_OVERHEAD
        self._free_at = self.wake_at + self.seconds(self._size)[1]
        self._begin(max(self._free_at, now - BURST))
        if self._ending and not self._queue:
            out.append(End())
        return out

    def changed(self, attributes: Mapping[str, int], now: float) -> None:
        super().changed(attributes, now)
        self._free_at = now
        self._begin(now)

    def removed(self, now: float) -> Actions:  # noqa: ARG002
        rest = b"".join(self._queue)[self._offset :]
        out: list[Action] = [Deliver(rest)] if rest else []
        return [*out, End()] if self._ending else out

    def _begin(self, at: float) -> None:
        self.wake_at = None
        if self._queue:
            self._size = min(self.size(), len(self._queue[0]) - self._offset)
            if self._size:
                self.wake_at = at + self.seconds(self._size)[0]


class Bandwidth(_Pieces):
    """At most `rate` KB/s (1 KB is 1000 bytes), in pieces of a tenth of a second; 0 lets nothing pass."""

    type = "bandwidth"
    fields = (Field(name="rate", unit="KB/s", high=10**9),)

    def size(self) -> int:
        return self.attributes["rate"] * 100

    def seconds(self, size: int) -> tuple[float, float]:
        return size / (self.attributes["rate"] * 1000), 0.0


class Slicer(_Pieces):
    """Pieces of `average_size` bytes, give or take `size_variation`, `delay` microseconds apart."""

    type = "slicer"
    fields = (
        Field(name="average_size", unit="bytes", low=1, high=2**31 - 1),
        Field(name="size_variation", unit="bytes, less than average_size", high=2**31 - 1),
        Field(name="delay", unit="microseconds", high=3600 * 10**6),
    )

    def size(self) -> int:
        variation = self.attributes["size_variation"]
        return self.attributes["average_size"] + self.rng.randint(-variation, variation)

    def seconds(self, size: int) -> tuple[float, float]:  # noqa: ARG002
        return 0.0, self.attributes["delay"] / 1e6


class Timeout(Stage):
    """Drops all bytes, and ends the connection `timeout` ms after the last of them; with 0 never.

    Removing it ends the connection: its two ends could not agree any more on what was said.
    """

    type = "timeout"
    fields = (Field(name="timeout", unit="ms", high=DAY * 1000),)

    def __init__(self, attributes: Mapping[str, int], rng: random.Random, tally: Tally, now: float) -> None:
        super().__init__(attributes, rng, tally, now)
        self._restart(now)

    def received(self, data: bytes, now: float) -> Actions:  # noqa: ARG002
        self.tally.count += 1
        self._restart(now)
        return ()

    def woke(self, now: float) -> Actions:  # noqa: ARG002
        self.tally.count += 1
        self.wake_at = None
        return (End(),)

    def changed(self, attributes: Mapping[str, int], now: float) -> None:
        super().changed(attributes, now)
        self._restart(now)

    def removed(self, now: float) -> Actions:  # noqa: ARG002
        return (End(),)

    def _restart(self, now: float) -> None:
        timeout = self.attributes["timeout"]
        self.wake_at = now + timeout / 1000 if timeout else None


class ResetPeer(Stage):
    """Resets the connection `timeout` ms after the first bytes, which are dropped; without any, `IDLE` s
    later.
    """

    type = "reset_peer"
    fields = (Field(name="timeout", unit="ms", high=DAY * 1000),)

    def __init__(self, attributes: Mapping[str, int], rng: random.Random, tally: Tally, now: float) -> None:
        super().__init__(attributes, rng, tally, now)
        self._met: float | None = None
        self._plan()

    def received(self, data: bytes, now: float) -> Actions:  # noqa: ARG002
        if self._met is None:
            self._met = now
            self._plan()
        return self.woke(now) if self.wake_at is not None and self.wake_at <= now else ()

    def woke(self, now: float) -> Actions:  # noqa: ARG002
        self.tally.count += 1
        self.wake_at = None
        return (Reset(),)

    def changed(self, attributes: Mapping[str, int], now: float) -> None:
        super().changed(attributes, now)
        self._plan()

    def _plan(self) -> None:
        timeout = self.attributes["timeout"] / 1000
        idle = self.since + timeout + IDLE
        self.wake_at = idle if self._met is None else min(idle, self._met + timeout)


class LimitData(Stage):
    """Lets `bytes` bytes pass, then ends the connection. Removing it before that lets all pass again."""

    type = "limit_data"
    fields = (Field(name="bytes", unit="bytes", high=2**62),)
    _passed = 0

    def received(self, data: bytes, now: float) -> Actions:  # noqa: ARG002
        passing = data[: max(0, self.attributes["bytes"] - self._passed)]
        self._passed += len(passing)
        out: list[Action] = [Deliver(passing)] if passing else []
        if self._passed < self.attributes["bytes"]:
            return out
        self.tally.count += 1
        return [*out, End()]


TYPES: dict[str, type[Stage]] = {
    stage.type: stage
    for stage in (Stage, Latency, SlowClose, Bandwidth, Slicer, Timeout, ResetPeer, LimitData)
}


def check_attributes(kind: str, given: Mapping[str, object]) -> dict[str, int]:
    """All attributes of a toxic of type `kind`, in the order of Toxiproxy; what is missing has its default.

    Unknown names are left out, as Toxiproxy does. Raises ValueError naming attribute, value and bound.
    """
    checked = {field.name: _whole(kind, field, given.get(field.name)) for field in TYPES[kind].fields}
    if kind == "slicer" and checked["size_variation"] >= checked["average_size"]:
        raise ValueError(
            f"slicer: size_variation must be less than average_size, {checked['average_size']}; "
            f"got {checked['size_variation']}"
        )
    return checked


def _whole(kind: str, field: Field, value: object) -> int:
    if value is None:
        value = field.default
    if isinstance(value, int) and not isinstance(value, bool) and field.low <= value <= field.high:
        return value
    shown = repr(value) if len(repr(value)) < 40 else repr(value)[:40] + "..."
    bounds = f"from {field.low} to {field.high} ({field.unit})"
    raise ValueError(f"{kind}: {field.name} must be a whole number {bounds}; got {shown}")


def _cost(action: Action) -> int:
    return CHUNK_OVERHEAD + (len(action.data) if isinstance(action, Deliver) else 0)
