"""What every toxic is made of: the actions it may ask for, what it is told, and the two ways of holding
bytes back.

Three laws: bytes never overtake each other; what is held back is given up when the toxic is removed; and
nothing that a client sends or sets can raise an exception, since attributes are checked before a stage is
made of them.

No I/O and no clock here: bytes and time in, actions out, performed elsewhere (the form of turmoil's rules).
A stage is told what happened (`received`, `ended`, `changed`, `removed`) and is woken at `wake_at`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

#: What one waiting chunk costs beside its bytes, about: many tiny chunks must count as the memory that they take.
CHUNK_OVERHEAD = 256
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
    """One attribute of a toxic, as Toxiproxy names it, with its bounds (both included) and its unit.

    It is a whole number unless `whole` is False. What is not given is 0.
    """

    name: str
    unit: str
    high: int
    low: int = 0
    whole: bool = True


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

    def __init__(self, attributes: Mapping[str, float], rng: random.Random, tally: Tally, now: float) -> None:
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

    def changed(self, attributes: Mapping[str, float], now: float) -> None:  # noqa: ARG002
        """The toxic was edited; what is due by the new attributes is handed out by `woke`."""
        self.attributes = dict(attributes)

    def removed(self, now: float) -> Actions:  # noqa: ARG002
        """The toxic was taken away; this stage is not asked again."""
        return ()


class Late(Stage):
    """Passes everything on when it is due, in order: one late chunk keeps all behind it waiting."""

    def __init__(self, attributes: Mapping[str, float], rng: random.Random, tally: Tally, now: float) -> None:
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
            self.held -= cost(action)
            out.append(action)
        self.wake_at = self._queue[0][0] if self._queue else None
        return out

    def changed(self, attributes: Mapping[str, float], now: float) -> None:
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
        self.held += cost(action)
        self._put(due, now, action)
        self.wake_at = self._queue[0][0]
        return ()

    def _put(self, due: float, arrived: float, action: Action) -> None:
        last = self._queue[-1][0] if self._queue else due
        self._queue.append((max(due, last), arrived, action))


class Pieces(Stage):
    """Passes bytes on piece by piece; the next piece begins when the line is free again."""

    def __init__(self, attributes: Mapping[str, float], rng: random.Random, tally: Tally, now: float) -> None:
        super().__init__(attributes, rng, tally, now)
        self._queue: deque[bytes] = deque()
        self._offset = 0
        self._size = 0
        self._free_at = now
        self._ending = False

    def size(self, left: int) -> int:
        """How many bytes the next piece of a chunk has of which `left` are left; 0 while none may pass."""
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

    def changed(self, attributes: Mapping[str, float], now: float) -> None:
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
            left = len(self._queue[0]) - self._offset
            self._size = min(self.size(left), left)
            if self._size:
                self.wake_at = at + self.seconds(self._size)[0]


def cost(action: Action) -> int:
    """Memory that a waiting action takes, about."""
    return CHUNK_OVERHEAD + (len(action.data) if isinstance(action, Deliver) else 0)
