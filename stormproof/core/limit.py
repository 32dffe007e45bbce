"""How many calls a server works on at once: a fixed number, or one that follows the time which calls take.

Law 1: calls in flight never exceed `highest`, nor unary ones the limit; lowest <= limit <= highest. Law 2: while more than half
of the limit is in use, it falls if calls take longer than `tolerance` times the quiet time, else it grows. Law 3: the
quiet time is measured, never guessed: only a window in which at most half of the limit was used can raise it.

Theory of operation. Time is cut into windows. How long calls took in one is told by Little's law: calls in flight x
seconds / calls done. So it speaks of the window itself, and not of the queue in which its calls once began. At its end

    quiet (at most half the limit, or `lowest`, was in flight)   the quiet time moves half way to the time of the window
    busy  (more than half was)                                   limit += SMOOTHING * (limit * gradient + headroom - limit)

with gradient = tolerance * quiet time / time, kept within 1/2 and 1, and headroom = sqrt(limit). That is Gradient2 of Netflix's
concurrency-limits, but for its long-term average: in an overload that lasts, that average takes the queue for normal, and
the limit grows to its cap (tests/stormproof/core/test_limit.py has both side by side). As Envoy's gradient controller
does, the quiet time is measured anew every `remeasure` seconds instead, at half the limit (Envoy: at 3 calls), which
costs next to nothing, and nothing at all where quiet windows come by themselves. The length of a stream says nothing
about the load: streams count against `highest` only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from stormproof.core.check import complain, number, seconds

#: How far the limit moves towards its new value at the end of a window (Netflix: 0.2).
SMOOTHING = 0.2
#: Calls that a window must have measured before it ends (Netflix: 10).
SAMPLES = 10
#: The most by which one window may lower the limit, before smoothing (Netflix, Envoy).
STEEPEST = 0.5


class Gauge(Protocol):
    """The running state of a limit. Time never goes back."""

    in_flight: int

    @property
    def limit(self) -> int:
        """How many calls may be in flight now."""
        ...

    def begin(self, now: float, *, stream: bool = False) -> bool:
        """Whether a call that has come may be worked on; if so it is in flight until `finished`."""
        ...

    def finished(self, began: float, now: float, *, stream: bool = False, tells: bool = True) -> None:
        """A call that was let in at `began` ended. `tells`: its length says how long the work takes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedLimit:
    """At most `calls` in flight, of every kind (1 to 1,000,000). For a server whose capacity is known."""

    calls: int

    def __post_init__(self) -> None:
        complain(self, number("calls", self.calls, 1, 10**6, unit="calls in flight", whole=True))

    def gauge(self) -> Gauge:
        """The running state of this limit."""
        return Fixed(self.calls)


class Fixed:
    """The running state of a fixed limit."""

    __slots__ = ("in_flight", "limit")

    def __init__(self, calls: int) -> None:
        self.limit = calls
        self.in_flight = 0

    def begin(self, now: float, *, stream: bool = False) -> bool:  # noqa: ARG002
        let_in = self.in_flight < self.limit
        self.in_flight += let_in
        return let_in

    def finished(self, began: float, now: float, *, stream: bool = False, tells: bool = True) -> None:  # noqa: ARG002
        self.in_flight -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientLimit:
    """A limit between `lowest` and `highest` that finds by itself how many calls the server can work on at once.

    initial     calls in flight to begin with (default 20).
    lowest      the limit never falls under it (default 4): too few to form a queue, enough to keep measuring.
    highest     the limit never rises over it (default 200), and streams and unary calls together never do.
    tolerance   calls may take this many times their quiet time before the limit falls (1 to 10; default 1.5, Netflix's).
    window      seconds after which the limit is set anew, once ten calls have been measured (default 1).
    remeasure   seconds of uninterrupted load after which the limit is halved for about two windows, to measure how long
                calls take without a queue (default 30). Servers need not take turns: half of the limit is no outage.

    A call that lasts longer than usual for other reasons (a long poll) should be exempt (`Limit(exempt=)`). Calls that
    do not end well are not measured, since errors are quick; those that ran out of time are. Raises ValueError unless
    1 <= lowest <= initial <= highest. Sources: Netflix concurrency-limits (Gradient2Limit, WindowedLimit); Envoy's
    adaptive concurrency filter.
    """

    initial: int = 20
    lowest: int = 4
    highest: int = 200
    tolerance: float = 1.5
    window: float = 1.0
    remeasure: float = 30.0

    def __post_init__(self) -> None:
        problems = []
        for name in ("initial", "lowest", "highest"):
            problems += number(name, getattr(self, name), 1, 10**6, unit="calls in flight", whole=True)
        if not problems and not self.lowest <= self.initial <= self.highest:
            problems.append(
                f"initial must be from lowest ({self.lowest}) to highest ({self.highest}); got {self.initial}"
            )
        problems += number("tolerance", self.tolerance, 1, 10, unit="times the quiet time")
        complain(self, problems + seconds("window", self.window, low=0.001) + seconds("remeasure", self.remeasure))

    def gauge(self) -> Gauge:
        """The running state of this limit."""
        return Gradient(self)


class Gradient:
    """The running state of an adaptive limit. `quiet_time` is what calls take without a queue, None while unknown."""

    __slots__ = (
        "_area", "_busiest", "_config", "_done", "_limit", "_measured_at", "_probe_until", "_seen_at", "_streams",
        "_window_began", "in_flight", "quiet_time",
    )  # fmt: skip

    def __init__(self, config: GradientLimit) -> None:
        self._config = config
        self._limit = float(config.initial)
        self._streams = 0
        self.in_flight = 0  # streams included
        self.quiet_time: float | None = None
        self._measured_at = -math.inf
        self._probe_until = -math.inf
        self._window_began: float | None = None  # until the first call
        self._seen_at = 0.0
        self._area = 0.0  # unary calls in flight x seconds, in this window
        self._busiest = 0  # most unary calls in flight in this window
        self._done = 0  # calls measured in this window

    @property
    def limit(self) -> int:
        return int(self._limit)

    def begin(self, now: float, *, stream: bool = False) -> bool:
        if self.in_flight >= self._config.highest:
            return False
        unary = self._seen(now)
        if stream:
            self._streams += 1
        elif unary >= (self._half() if now < self._probe_until else self.limit):
            return False
        else:
            self._busiest = max(self._busiest, unary + 1)
        self.in_flight += 1
        return True

    def finished(self, began: float, now: float, *, stream: bool = False, tells: bool = True) -> None:
        self._seen(now)
        self.in_flight -= 1
        window_began = now if self._window_began is None else self._window_began
        if stream:
            self._streams -= 1
        elif not tells:
            self._area -= now - max(began, window_began)
        else:
            self._done += 1
            if self._done >= SAMPLES and now >= window_began + self._config.window:
                self._turn(self._area / self._done, now)

    def _seen(self, now: float) -> int:
        """Adds up to the moment; returns the unary calls in flight."""
        unary = self.in_flight - self._streams
        if self._window_began is None:
            self._window_began = self._seen_at = now
        self._area += unary * (now - self._seen_at)
        self._seen_at = now
        return unary

    def _half(self) -> int:
        return max(self._config.lowest, int(self._limit / 2))

    def _turn(self, mean: float, now: float) -> None:
        """The window is over."""
        quiet = self._busiest <= self._half()
        if self.quiet_time is None:
            self.quiet_time = mean
        elif quiet or mean < self.quiet_time:  # load makes nothing faster
            self.quiet_time += (mean - self.quiet_time) / 2
        if quiet:
            self._measured_at = now
            self._probe_until = now
        if self._busiest > self._limit / 2 and now >= self._probe_until:
            self._adjust(self.quiet_time, mean)
            if now >= self._measured_at + self._config.remeasure:
                self._measured_at = now
                # One window to get rid of the queue and one to measure, with some to spare: it must end, come what may.
                self._probe_until = now + 3.0 * (self._config.window + mean)
        self._window_began, self._busiest = now, self.in_flight - self._streams
        self._area, self._done = 0.0, 0

    def _adjust(self, quiet_time: float, mean: float) -> None:
        config = self._config
        gradient = max(STEEPEST, min(1.0, config.tolerance * quiet_time / mean)) if mean > 0.0 else 1.0
        wanted = self._limit * gradient + math.sqrt(self._limit)
        smoothed = self._limit + SMOOTHING * (wanted - self._limit)
        self._limit = max(float(config.lowest), min(float(config.highest), smoothed))
