"""The one hook: a channel tells an observer every event and action of its calls, as values.

An observer is any callable that takes one event. It is called in the thread where the thing happened, outside the
channel's lock. What it raises is logged (by the logger "stormproof") and changes nothing for the call. Times are seconds
of `time.monotonic()`.

A call's CallBegan is told in its caller's thread or task, and is followed by one CallEnded. An attempt that lost to
another, or that the caller gave up, may end after its call: its AttemptEnded, and even its AttemptBegan, then come later.

One that also has `metadata_for` (`Propagates`) adds to what each attempt sends: a trace context, say.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from stormproof.core.call import Cause
from stormproof.core.check import complain
from stormproof.core.endpoint import Endpoint
from stormproof.core.outcome import Outcome

_log = logging.getLogger("stormproof")
#: Metadata as gRPC takes and gives it.
Sent = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class CallBegan:
    """A caller calls `method` ("/package.Service/Method") with this metadata. `call` is unique in this process."""

    call: int
    at: float
    method: str
    metadata: Sent


@dataclass(frozen=True, slots=True)
class AttemptBegan:
    """Attempt `attempt` (from 1) starts. `sent` is its number among those that may have reached a server."""

    call: int
    at: float
    attempt: int
    sent: int
    endpoint: Endpoint
    cause: Cause


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """Attempt `attempt` ended so."""

    call: int
    at: float
    attempt: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The caller has its answer, or its error, after `attempts` attempts."""

    call: int
    at: float
    attempts: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Ejected:
    """No call goes to `endpoint` now; the next one is a trial, `wait` seconds from now.

    Told again after each trial that failed; with a `wait` of 0 or less after one that was cancelled and proved nothing.
    """

    at: float
    endpoint: Endpoint
    wait: float


@dataclass(frozen=True, slots=True)
class Readmitted:
    """`endpoint` takes part again."""

    at: float
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class Joined:
    """`endpoint` is one of the channel's from now on: its resolver found it."""

    at: float
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class Left:
    """`endpoint` is none of the channel's any more. Attempts in flight on it finish."""

    at: float
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class Unresolved:
    """The resolver had no usable answer, for this reason. The endpoints that are known stay."""

    at: float
    problem: Exception


@dataclass(frozen=True, slots=True)
class HealthChanged:
    """Asked for its health, `endpoint` says that it can serve, or that it cannot, or says nothing any more."""

    at: float
    endpoint: Endpoint
    serving: bool


Event = (
    CallBegan
    | AttemptBegan
    | AttemptEnded
    | CallEnded
    | Ejected
    | Readmitted
    | Joined
    | Left
    | Unresolved
    | HealthChanged
)
Observer = Callable[[Event], None]


@runtime_checkable
class Propagates(Protocol):
    """An observer that adds metadata to what each attempt sends."""

    def metadata_for(self, call: int, attempt: int) -> Sent:
        """What to add for attempt `attempt` of call `call`; asked right after its AttemptBegan.

        What it raises ends the call: nobody knows what should have been sent.
        """
        ...


def observers(*each: Observer) -> Observer:
    """One observer that tells every event to each of these, in this order, and adds what any of them adds to an attempt.

    What one of them raises is logged, and the others are told all the same. Raises ValueError for one that cannot be called.
    """
    problems = [
        f"each must be a function of an event, such as print; got {one!r}"
        for one in each
        if isinstance(one, type) or not callable(one)
    ]
    complain("observers", problems)
    return _All(each)


def tell(observer: Observer, event: Event) -> None:
    """Tells it to the observer. Who watches a call must not break it."""
    try:
        observer(event)
    except Exception:
        _log.exception("the observer failed on %s", event)


class _All:
    """Several observers as one."""

    def __init__(self, each: tuple[Observer, ...]) -> None:
        self._each = each
        objects: tuple[object, ...] = each  # mypy narrows no Callable
        self._adding = [one for one in objects if isinstance(one, Propagates)]

    def __call__(self, event: Event) -> None:
        for one in self._each:
            tell(one, event)

    def metadata_for(self, call: int, attempt: int) -> Sent:
        return tuple(pair for one in self._adding for pair in one.metadata_for(call, attempt))
