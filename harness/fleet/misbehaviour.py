"""What one server is told to do wrong (control.proto), over all of its processes.

Faults come and go while the server is killed, paused and started again. It is told what is left of them as soon as it
can hear, and what its processes counted is added up. When a process begins and ends is the server's business
(local_server.py).
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterable
from typing import Any

import grpc

from faults import ColdStart, Errors, Hang, MemoryHog, Overload, StaleHealth, WrongAnswer
from faults.server import ServerFault
from harness.fleet.errors import FleetError
from harness.wire import Behaviour, ControlStub, Health, Observed, ObserveRequest

#: Seconds until a server has taken an order.
ORDER = 2.0
_SAYS = {True: Health.ALWAYS_SERVING, False: Health.NEVER_SERVING}


class Misbehaviour:
    """Of the server `name`; `paused` says whether it is. May be used from many threads."""

    def __init__(self, name: str, seed: int, paused: Callable[[], bool]) -> None:
        self._name = name
        self._seed = seed
        self._paused = paused
        self._lock = threading.Lock()
        self._address: str | None = None
        self._faults: dict[str, ServerFault] = {}  # by tag
        # By tag: what the process counts without the fault's doing. Below zero for what earlier processes counted of it,
        # None where one of them was gone before it could be asked.
        self._before: dict[str, int | None] = {}
        self._stale = False  # the process was told more than there is left

    def begins(self, address: str | None) -> None:
        """A new process takes orders at `address` (None: nowhere); it misbehaves as the last one did."""
        with self._lock:
            self._address, self._stale = address, False
            if self._faults:
                self._behave()

    def ends(self) -> None:
        """The process is about to end, and the next one will count from 0."""
        with self._lock:
            if self._address is not None:
                self._before = {tag: None if (n := self._last_count(tag)) is None else -n for tag in self._faults}
                self._address = None

    def goes_on(self) -> None:
        """The process is no longer paused."""
        with self._lock:
            self._refresh()

    def add(self, fault: ServerFault, tag: str) -> None:
        """Tells the server to have `fault` too. FleetError if it cannot hear, or has an error of another code."""
        with self._lock:
            if not self._hears():
                state = "down" if self._address is None else "paused"
                raise FleetError(f"{self._name} took no order: it is {state}")
            check_together(self._name, (fault, *self._faults.values()))
            self._faults[tag] = fault
            self._before[tag] = counted(fault, self._behave())

    def remove(self, tag: str) -> None:
        """Ends the fault of this tag; one that the server does not have is fine."""
        with self._lock:
            self._before.pop(tag, None)
            self._stale |= self._faults.pop(tag, None) is not None
            self._refresh()

    def touched(self, tag: str) -> int | None:
        """How often the fault acted, in all processes since it was added; None if one of them could not be asked."""
        with self._lock:
            return self._touched(tag)

    def _touched(self, tag: str) -> int | None:
        before = self._before.get(tag)
        if before is None:
            return None
        if self._address is None:
            return -before
        if self._paused():
            return None
        return counted(self._faults[tag], self._order("Observe", ObserveRequest())) - before

    def _last_count(self, tag: str) -> int | None:
        try:
            return self._touched(tag)
        except FleetError:
            return None

    def _hears(self) -> bool:
        return self._address is not None and not self._paused()

    def _refresh(self) -> None:
        """Tells the server what is left; one that is paused is told when it goes on."""
        if not self._stale or not self._hears():
            return
        try:
            self._behave()
        except FleetError:
            if self._hears():
                raise

    def _behave(self) -> Observed:
        """Tells the server all of its misbehaviour; returns what it has counted so far."""
        observed: Observed = self._order("Behave", behaviour(self._faults.values(), self._seed))
        self._stale = False
        return observed

    def _order(self, method: str, message: object) -> Any:
        assert self._address is not None
        try:
            with grpc.insecure_channel(self._address) as channel:
                return getattr(ControlStub(channel), method)(message, timeout=ORDER)
        except grpc.RpcError as error:
            raise FleetError(f"{self._name} took no order: {error.code().name}, {error.details()}") from error


def check_together(name: str, faults: Iterable[ServerFault]) -> None:
    """FleetError if the server `name` cannot have all of these at once."""
    faults = list(faults)
    codes = {fault.code for fault in faults if isinstance(fault, Errors)}
    if len(codes) > 1:
        raise FleetError(f"{name} can answer with one error at a time; it was told {' and '.join(sorted(codes))}")
    for kind in (ColdStart, StaleHealth):
        told = {fault for fault in faults if isinstance(fault, kind)}
        if len(told) > 1:
            raise FleetError(
                f"{name} can have one {kind.__name__} at a time; it was told {' and '.join(map(str, told))}"
            )


def seed_for(name: str, seed: int) -> int:
    """What the server `name` draws its misbehaviour from, in a run of this seed."""
    return random.Random(f"{seed} {name}").getrandbits(62)


def behaviour(faults: Iterable[ServerFault], seed: int) -> Behaviour:
    """All of these together, as one order."""
    faults = list(faults)
    errors = [fault for fault in faults if isinstance(fault, Errors)]
    overloads = [fault for fault in faults if isinstance(fault, Overload)]
    cold = [fault for fault in faults if isinstance(fault, ColdStart)]
    lies = [fault for fault in faults if isinstance(fault, StaleHealth)]
    return Behaviour(
        error_rate=_any_of(fault.rate for fault in errors),
        error_code=grpc.StatusCode[errors[0].code].value[0] if errors else 0,
        hang_rate=_any_of(fault.rate for fault in faults if isinstance(fault, Hang)),
        wrong_rate=_any_of(fault.rate for fault in faults if isinstance(fault, WrongAnswer)),
        limit=min((fault.limit for fault in overloads if fault.limit), default=0),
        delay=sum(fault.delay for fault in overloads),
        cold_delay=cold[0].delay if cold else 0.0,
        cold_for=cold[0].lasting if cold else 0.0,
        health=_SAYS[lies[0].serving] if lies else Health.AS_IT_IS,
        memory=sum(fault.size for fault in faults if isinstance(fault, MemoryHog)),
        seed=seed,
    )


def _any_of(rates: Iterable[float]) -> float:
    """How often at least one of them happens, each drawn by itself."""
    return 1.0 - math.prod(1.0 - rate for rate in rates)


def counted(fault: ServerFault, observed: Observed) -> int:
    """How often a server has acted so, by its own count; a fault that acts all the time meets every call."""
    match fault:
        case Errors():
            return observed.errors
        case Overload():
            return observed.refused + observed.delayed
        case Hang():
            return observed.hung
        case WrongAnswer():
            return observed.wrong
        case ColdStart():
            return observed.cold
        case StaleHealth():
            return observed.lied
    return observed.received
