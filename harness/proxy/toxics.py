"""The toxics, one class each, and the check of their attributes.

Their effects are those of Toxiproxy 2.12 (its folder toxics/; `packet_loss` is newer than that), except where that one
harms its user: attributes have bounds, and `reset_peer` needs no new connection. The differences are listed in
docs/toxiproxy.md, and tests/harness/proxy/differences.py holds both against each other.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from harness.proxy.stage import Action, Actions, Deliver, End, Field, Late, Pieces, Reset, Stage, Tally

DAY = 86_400
#: Seconds after which `reset_peer` resets a connection on which no byte came, beside its own `timeout`. Not
#: at once: then no request would ever reach a server behind it, and a reply that is torn is what the toxic
#: is mostly for.
IDLE = 1.0


class Latency(Late):
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


class SlowClose(Late):
    """The end of the bytes is known `delay` ms late."""

    type = "slow_close"
    fields = (Field(name="delay", unit="ms", high=DAY * 1000),)

    def delay(self, action: Action) -> float:
        return self.attributes["delay"] / 1000 if isinstance(action, End) else 0.0


class Bandwidth(Pieces):
    """At most `rate` KB/s (1 KB is 1000 bytes), in pieces of a tenth of a second; 0 lets nothing pass."""

    type = "bandwidth"
    fields = (Field(name="rate", unit="KB/s", high=10**9),)

    def size(self, left: int) -> int:  # noqa: ARG002
        return int(self.attributes["rate"]) * 100

    def seconds(self, size: int) -> tuple[float, float]:
        return size / (self.attributes["rate"] * 1000), 0.0


class Slicer(Pieces):
    """Pieces of about `average_size` bytes, give or take `size_variation`, `delay` microseconds apart.

    A chunk that is longer than both together is cut in two, about in its middle, and so are its parts. So pieces have from
    half of that length to all of it.
    """

    type = "slicer"
    fields = (
        Field(name="average_size", unit="bytes", low=1, high=2**31 - 1),
        Field(name="size_variation", unit="bytes, less than average_size", high=2**31 - 1),
        Field(name="delay", unit="microseconds", high=3600 * 10**6),
    )

    def __init__(self, attributes: Mapping[str, float], rng: random.Random, tally: Tally, now: float) -> None:
        super().__init__(attributes, rng, tally, now)
        self._parts: list[int] = []  # of the chunk at hand, the next one last; they are cut when it is their turn

    def size(self, left: int) -> int:
        average, variation = int(self.attributes["average_size"]), int(self.attributes["size_variation"])
        parts = self._parts = self._parts or [left]
        while (length := parts.pop()) > average + variation:
            first = length // 2 + (self.rng.randrange(-variation, variation) if variation else 0)
            parts += [length - first, first]
        return length

    def seconds(self, size: int) -> tuple[float, float]:  # noqa: ARG002
        return 0.0, self.attributes["delay"] / 1e6

    def changed(self, attributes: Mapping[str, float], now: float) -> None:
        self._parts = []
        super().changed(attributes, now)


class Timeout(Stage):
    """Drops all bytes, and ends the connection `timeout` ms after the last of them; with 0 never.

    Removing it ends the connection: its two ends could not agree any more on what was said.
    """

    type = "timeout"
    fields = (Field(name="timeout", unit="ms", high=DAY * 1000),)

    def __init__(self, attributes: Mapping[str, float], rng: random.Random, tally: Tally, now: float) -> None:
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

    def changed(self, attributes: Mapping[str, float], now: float) -> None:
        super().changed(attributes, now)
        self._restart(now)

    def removed(self, now: float) -> Actions:  # noqa: ARG002
        return (End(),)

    def _restart(self, now: float) -> None:
        timeout = self.attributes["timeout"]
        self.wake_at = now + timeout / 1000 if timeout else None


class ResetPeer(Stage):
    """Resets the connection `timeout` ms after the first bytes, which are dropped, or the end; or `IDLE` s later."""

    type = "reset_peer"
    fields = (Field(name="timeout", unit="ms", high=DAY * 1000),)

    def __init__(self, attributes: Mapping[str, float], rng: random.Random, tally: Tally, now: float) -> None:
        super().__init__(attributes, rng, tally, now)
        self._met: float | None = None
        self._plan()

    def received(self, data: bytes, now: float) -> Actions:  # noqa: ARG002
        if self._met is None:
            self._met = now
            self._plan()
        return self.woke(now) if self.wake_at is not None and self.wake_at <= now else ()

    def ended(self, now: float) -> Actions:
        return self.received(b"", now)

    def woke(self, now: float) -> Actions:  # noqa: ARG002
        self.tally.count += 1
        self.wake_at = None
        return (Reset(),)

    def changed(self, attributes: Mapping[str, float], now: float) -> None:
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
        passing = data[: max(0, int(self.attributes["bytes"]) - self._passed)]
        self._passed += len(passing)
        out: list[Action] = [Deliver(passing)] if passing else []
        if self._passed < self.attributes["bytes"]:
            return out
        self.tally.count += 1
        return [*out, End()]


class PacketLoss(Stage):
    """Drops a chunk with the chance `loss_rate`, and with `correlation` more when the one before it was dropped.

    What is dropped is missing for good, as no packet of TCP ever is: a protocol with lengths is out of step from there on.
    """

    type = "packet_loss"
    fields = (
        Field(name="loss_rate", unit="of all chunks", high=1, whole=False),
        Field(name="correlation", unit="more after a loss", high=1, whole=False),
    )
    _lost = False

    def received(self, data: bytes, now: float) -> Actions:  # noqa: ARG002
        chance = self.attributes["loss_rate"] + (self.attributes["correlation"] if self._lost else 0.0)
        self._lost = self.rng.random() < chance
        if not self._lost:
            return (Deliver(data),)
        self.tally.count += 1
        return ()


TYPES: dict[str, type[Stage]] = {
    stage.type: stage
    for stage in (Stage, Latency, SlowClose, Bandwidth, Slicer, Timeout, ResetPeer, LimitData, PacketLoss)
}


def check_attributes(kind: str, given: Mapping[str, object]) -> dict[str, float]:
    """All attributes of a toxic of type `kind`, in the order of Toxiproxy; what is missing has its default.

    Unknown names are left out, as Toxiproxy does. Raises ValueError naming attribute, value and bound.
    """
    checked = {field.name: _number(kind, field, given.get(field.name)) for field in TYPES[kind].fields}
    if kind == "slicer" and checked["size_variation"] >= checked["average_size"]:
        raise ValueError(
            f"slicer: size_variation must be less than average_size, {checked['average_size']}; "
            f"got {checked['size_variation']}"
        )
    return checked


def _number(kind: str, field: Field, value: object) -> float:
    if value is None:
        value = 0
    fits = not isinstance(value, bool) and (isinstance(value, int) or not field.whole)
    if fits and isinstance(value, int | float) and field.low <= value <= field.high:
        return value
    shown = repr(value) if len(repr(value)) < 40 else repr(value)[:40] + "..."
    wanted = f"a {'whole ' if field.whole else ''}number from {field.low} to {field.high} ({field.unit})"
    raise ValueError(f"{kind}: {field.name} must be {wanted}; got {shown}")
