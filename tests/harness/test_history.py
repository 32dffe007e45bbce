"""The history as a value: which faults met traffic."""

from __future__ import annotations

import pytest

from harness.history import Acted, Attempt, Execution, History, Operation, Server, touching


def history(*operations: Operation, executions: tuple[Execution, ...] = ()) -> History:
    """Of two servers; Refuse acts on the first, from when it was planned for 1 s and seen to act at 1.1 s until 2 s."""
    return History(
        scenario="a day", fleet="local", proxy="", seed=1, seconds=3.0, servers=(Server(name="a"), Server(name="b")),
        operations=operations, executions=executions,
        faults=(Acted(fault="Refuse()", on="a", start=1.0, end=2.0, began=1.1, healed=2.0),),
    )  # fmt: skip


def called(invoked: float, result: str, *attempts: Attempt) -> Operation:
    ended = invoked + 0.01
    return Operation(id=0, due=invoked, invoked=invoked, ended=ended, result=result, code="?", attempts=attempts)


def arrived(server: str, at: float) -> tuple[Execution, ...]:
    return (Execution(server=server, operation=0, sent=1, received=at, ended=at),)


@pytest.mark.parametrize(
    ("told", "touched"),
    [
        # A client that tells of its attempts.
        (history(called(1.5, "fail", Attempt(number=1, server="a", started=1.5, ended=1.51))), 1),
        (history(called(1.5, "fail", Attempt(number=1, server="b", started=1.5, ended=1.51))), 0),
        (history(called(1.05, "fail", Attempt(number=1, server="a", started=1.05, ended=1.06))), 0),
        # One that does not: by the journals, and by its failures.
        (history(called(1.5, "ok"), executions=arrived("a", 1.505)), 1),
        (history(called(1.5, "ok"), executions=arrived("b", 1.505)), 0),
        (history(called(1.5, "ok")), 0),
        (history(called(1.5, "fail")), 1),
        (history(called(1.5, "info"), executions=arrived("a", 1.505)), 1),
        (history(called(1.5, "info"), executions=arrived("b", 1.505)), 0),
        (history(called(1.05, "fail")), 1),
        (history(called(0.5, "fail")), 0),
        (history(called(2.5, "fail")), 0),
    ],
)
def test_a_fault_touched_what_met_it(told, touched):
    """An attempt on its server while it acted; where none are told, a failure from its planned start on is one as well."""
    (acted,) = touching(told).faults
    assert acted.touched == touched
