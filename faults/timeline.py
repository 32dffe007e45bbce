"""When a fault acts: seconds from the start of the workload. An injection is one fault, its target and its times."""

from __future__ import annotations

import math
from dataclasses import dataclass

from faults.base import Fault, bounded, check, whole
from faults.target import Target, named, one


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """`fault` acts on the targets `on` from `start` until `end` (None: until the run ends).

    With `period` it comes back every `period` seconds from `start` on, `lasting` seconds each time, up to
    `end`. The target is drawn once, so that what comes back hits the same servers.
    """

    fault: Fault
    on: Target
    start: float
    end: float | None = None
    period: float | None = None
    lasting: float | None = None

    def __post_init__(self) -> None:
        problems = bounded("start", self.start, 0, way_out="seconds from the start of the workload")
        for name in ("end", "period", "lasting"):
            value = getattr(self, name)
            problems += [] if value is None else bounded(name, value, 0, way_out="seconds")
        if not isinstance(self.fault, Fault):
            problems.append(f"fault must be one of faults.*, such as Latency(0.3); got {self.fault!r}")
        if not hasattr(self.on, "choose") or isinstance(self.on, type):
            problems.append(f"on must be a target: one, some(n), majority, every or named(...); got {self.on!r}")
        check(self, problems or self._disorder())

    def _disorder(self) -> list[str]:
        problems = []
        if self.end is not None and self.end <= self.start:
            problems.append(f"end must be later than start, {self.start:g}; got {self.end!r}")
        if self.period is None:
            return problems + ([] if self.lasting is None else ["period must be given together with lasting"])
        if self.end is None:
            problems.append("end must be given together with period")
        if self.lasting is None or not 0 < self.lasting < self.period:
            bound = f"more than 0 and less than period, {self.period:g}"
            problems.append(f"lasting must be {bound}; got {self.lasting!r}")
        return problems

    def spans(self) -> tuple[tuple[float, float | None], ...]:
        """When it begins and ends to act, in order; an end of None is the end of the run."""
        if self.period is None or self.end is None or self.lasting is None:
            return ((self.start, self.end),)
        # Less a billionth, because 1.1 / 0.1 is a little more than 11: a twelfth turn would begin at the end.
        count = math.ceil((self.end - self.start) / self.period - 1e-9)
        starts = [self.start + self.period * turn for turn in range(count)]
        return tuple((start, min(start + self.lasting, self.end)) for start in starts)


def during(start: float, end: float, fault: Fault, *, on: Target = one) -> Injection:
    """`fault` acts from `start` until `end`, then it is healed."""
    return Injection(fault=fault, on=on, start=start, end=end)


def at(start: float, fault: Fault, *, on: Target = one) -> Injection:
    """`fault` acts from `start` until the run ends; a fault that is over by itself (Restart) simply happens then."""
    return Injection(fault=fault, on=on, start=start)


def rolling(start: float, period: float, fault: Fault, *, count: int, lasting: float | None = None) -> list[Injection]:
    """`fault` hits server-0 at `start`, and every `period` seconds the next of `count` servers, for `lasting` seconds each.

    `lasting` None is until the run ends, or until it is over by itself: a rolling restart is
    `rolling(1.0, 2.0, Restart(downtime=0.5), count=5)`.
    """
    problems = whole("count", count, 1, 10_000, way_out="servers") + bounded("period", period, 0, way_out="seconds")
    problems += [] if lasting is None else bounded("lasting", lasting, 0, way_out="seconds, or None")
    if problems:
        raise ValueError("rolling: " + "; ".join(problems))
    starts = [start + turn * period for turn in range(count)]
    return [
        Injection(
            fault=fault, on=named(f"server-{turn}"), start=begin, end=None if lasting is None else begin + lasting
        )
        for turn, begin in enumerate(starts)
    ]


def every_so_often(
    period: float, fault: Fault, *, lasting: float, start: float, end: float, on: Target = one
) -> Injection:
    """`fault` acts for `lasting` seconds every `period` seconds, from `start` until `end`."""
    return Injection(fault=fault, on=on, start=start, end=end, period=period, lasting=lasting)
