"""The toxics, one class each, and the check of their attributes.

Their effects are those of Toxiproxy 2.12 (its folder toxics/), except where that one harms its user:
attributes have bounds, and `reset_peer` needs no new connection.
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

    def size(self) -> int:
        return self.attributes["rate"] * 100

    def seconds(self, size: int) -> tuple[float, float]:
        return size / (self.attributes["rate"] * 1000), 0.0


class Slicer(Pieces):
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
    """Resets the connection `timeout` ms after the first bytes, which are dropped; without any, `IDLE` s later."""

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
    stage.type: stage for stage in (Stage, Latency, SlowClose, Bandwidth, Slicer, Timeout, ResetPeer, LimitData)
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
