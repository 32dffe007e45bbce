"""How long servers work on a call: always the same, or drawn from a distribution, which is a value.

A draw depends on the run's seed, the server and the call's own id, not on the order of arrival: so the same attempt takes
the same time again in a replay, and in virtual time the same as on a real server.
"""

from __future__ import annotations

import math
import random
from dataclasses import KW_ONLY, dataclass
from typing import Protocol, runtime_checkable

from faults.base import bounded, check

_LONGEST = 3600.0


@runtime_checkable
class ServiceTime(Protocol):
    """A distribution. Implementations are frozen dataclasses."""

    def draw(self, rng: random.Random) -> float:
        """Seconds of one call's work; below 0 counts as 0."""
        ...


@dataclass(frozen=True, slots=True)
class Normal:
    """Around `mean` seconds, two thirds of the draws within `deviation` seconds of it."""

    mean: float
    _: KW_ONLY
    deviation: float

    def __post_init__(self) -> None:
        check(self, bounded("mean", self.mean, 0, _LONGEST, way_out="seconds")
              + bounded("deviation", self.deviation, 0, _LONGEST, way_out="seconds"))  # fmt: skip

    def draw(self, rng: random.Random) -> float:
        return rng.gauss(self.mean, self.deviation)


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Half of the draws under `median` seconds; one in forty is over `median` * exp(2 * `sigma`). Most services are like it."""

    median: float
    _: KW_ONLY
    sigma: float

    def __post_init__(self) -> None:
        check(self, bounded("median", self.median, 1e-6, _LONGEST, way_out="seconds")
              + bounded("sigma", self.sigma, 0, 5, way_out="standard deviation of the logarithm"))  # fmt: skip

    def draw(self, rng: random.Random) -> float:
        return rng.lognormvariate(math.log(self.median), self.sigma)


@dataclass(frozen=True, slots=True)
class Pareto:
    """`least` seconds and a heavy tail: x times `least` is exceeded by one draw in x to the power of `shape`.

    Up to a `shape` of 2 there is no variance, and up to 1 no mean. Draws over an hour count as an hour.
    """

    least: float
    _: KW_ONLY
    shape: float

    def __post_init__(self) -> None:
        check(self, bounded("least", self.least, 1e-6, _LONGEST, way_out="seconds")
              + bounded("shape", self.shape, 0.1, 100, way_out="lower is a heavier tail"))  # fmt: skip

    def draw(self, rng: random.Random) -> float:
        return min(_LONGEST, self.least * rng.paretovariate(self.shape))


@dataclass(frozen=True, slots=True)
class Trace:
    """One of these `seconds`, which somebody measured; each is as likely as any other."""

    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.seconds, tuple | list) or not self.seconds:
            check(self, [f"seconds must be a tuple of at least one service time; got {self.seconds!r}"])
        object.__setattr__(self, "seconds", tuple(self.seconds))
        check(self, [problem for index, value in enumerate(self.seconds)
                     for problem in bounded(f"seconds[{index}]", value, 0, _LONGEST, way_out="seconds")])  # fmt: skip

    def draw(self, rng: random.Random) -> float:
        return rng.choice(self.seconds)


def wrong_with(value: object) -> list[str]:
    """What is wrong with `value` as a service time; empty if nothing is."""
    if isinstance(value, ServiceTime) and not isinstance(value, type):
        return []
    if isinstance(value, int | float):
        return bounded("service_time", value, 0, _LONGEST, way_out="seconds")
    return [f"service_time must be seconds, or Normal, LogNormal, Pareto or Trace of them; got {value!r}"]


class Draws:
    """The work of each call on one server. `seed` is the server's own in this run."""

    __slots__ = ("_of", "_seed", "constant")

    def __init__(self, of: float | ServiceTime, seed: int) -> None:
        self._of = of
        self._seed = seed
        #: Seconds that every call works; None: it must be drawn.
        self.constant = float(of) if isinstance(of, int | float) else None

    def seconds(self, operation: int, sent: int, part: int = 0) -> float:
        """Of the attempt with this id; of a stream, of its message `part`."""
        if isinstance(self._of, int | float):  # not the other way round: to ask for a protocol costs 15 us
            return self._of
        return max(0.0, self._of.draw(random.Random(f"{self._seed}:work:{operation}:{sent}:{part}")))
