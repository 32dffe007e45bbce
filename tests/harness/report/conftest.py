"""Three small runs by hand: one that held, one that broke a promise, one with nothing but trouble in it."""

from __future__ import annotations

import pytest

from harness.guarantees.base import Verdict
from harness.history import Acted, Attempt, Carried, Execution, History, Operation, Server
from harness.report import Report, ScenarioReport

STARTED = "2026-01-31T12:00:00+00:00"
#: What must never reach a page as it is.
EVIL = "<script>alert(1)</script> a|b\n``` @all \x00\x1b & 'x' \"y\""


def call(number: int, due: float, took: float | None, result: str = "ok", *servers: str) -> Operation:
    """A call with one attempt on each of `servers`, of which only the last may have answered."""
    code = {"ok": "OK", "fail": "UNAVAILABLE", "info": "DEADLINE_EXCEEDED"}[result]
    attempts = tuple(
        Attempt(
            number=place,
            server=server,
            started=due,
            ended=due + 0.001,
            code=code if place == len(servers) else "UNAVAILABLE",
            sent=place,
        )
        for place, server in enumerate(servers, 1)
    )
    ended = None if took is None else due + took
    return Operation(id=number, due=due, invoked=due, ended=ended, result=result, code=code, attempts=attempts)


@pytest.fixture
def calm() -> History:
    """Ten calls of 1 to 10 ms, one a second, alternating between two of three servers."""
    return History(
        scenario="calm",
        fleet="local",
        proxy="toxiproxy 2.12.0",
        seed=7,
        seconds=10.0,
        servers=(Server(name="a"), Server(name="b"), Server(name="c", weight=0.0)),
        operations=tuple(call(n, float(n), (n + 1) / 1000, "ok", "ab"[n % 2]) for n in range(10)),
        executions=(Execution(server="a", operation=0, sent=1, received=0.1, executed=0.2, code="OK"),),
        carried=(Carried(server="a", received=100, sent=200),),
    )


@pytest.fixture
def stormy() -> History:
    """Four calls under a fault: one fast, one retried, one failed, one that never ended."""
    return History(
        scenario="stormy",
        fleet="local",
        proxy="toxiproxy 2.12.0",
        seed=8,
        seconds=20.0,
        servers=(Server(name="a"), Server(name="b")),
        operations=(
            call(0, 1.0, 0.25, "ok", "a"),
            call(1, 6.0, 0.5, "ok", "a", "b"),
            call(2, 7.0, 1.0, "fail", "a", "b", "a"),
            call(3, 8.0, None, "info", "a"),
        ),
        faults=(Acted(fault="Down()", on="a", start=5.0, end=15.0, began=5.003, healed=15.011, touched=6),),
    )


@pytest.fixture
def evil() -> History:
    """Names and texts that try to break out of whatever they are put into."""
    return History(
        scenario=EVIL,
        fleet=EVIL,
        proxy=EVIL,
        seed=9,
        seconds=1.0,
        servers=(Server(name=EVIL),),
        operations=(call(0, 0.5, 0.1, "fail", EVIL),),
        faults=(Acted(fault=EVIL, on=EVIL, start=0.0, end=None, problem=EVIL),),
        problems=(EVIL,),
    )


@pytest.fixture
def histories(calm: History, stormy: History, evil: History) -> list[History]:
    return [calm, stormy, evil]


@pytest.fixture
def report(histories: list[History]) -> Report:
    """A report on the three: held, broken, unknown."""
    held = Verdict(guarantee="Available(0.9)", verdict="held", measured="10 of 10", bound="0.9 or more")
    broken = Verdict(
        guarantee="Fast(p99=0.050)",
        verdict="broken",
        measured="never",
        bound="0.050 s",
        why=("worst: call 3",),
    )
    unknown = Verdict(guarantee=EVIL, verdict="unknown", measured=EVIL, bound="", why=(EVIL, "second line"))
    found = [(held,), (held, broken), (unknown,)]
    scenarios = [
        ScenarioReport.of(h, v, name=h.scenario, doc="What it is.", again=f"replay {h.seed}", started=STARTED)
        for h, v in zip(histories, found, strict=True)
    ]
    return Report.of(scenarios, fleet="local", proxy="toxiproxy 2.12.0", seed=8123, started=STARTED, seconds=31.5)


@pytest.fixture
def empty() -> Report:
    """A report on nothing."""
    return Report.of([], fleet="sim", proxy="none", seed=1, started=STARTED, seconds=0.0)
