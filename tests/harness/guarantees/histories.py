"""Histories to judge: a clean run in a line, and its sabotage in another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from harness.history import Acted, Attempt, Execution, History, Operation, Result, Server

SLOW = "Latency(0.300, jitter=0.050)"


def call(
    id: int,
    on: Sequence[str] | str = "server-0",
    *,
    at: float | None = None,
    took: float = 0.003,
    result: Result = "ok",
    code: str = "",
    item: int | None = None,
) -> Operation:
    """One call, a hundred a second, on one server or on several in turn, of which the last one answered."""
    due = id / 100 if at is None else at
    names = [on] if isinstance(on, str) else list(on)
    each = took / len(names)
    tries = tuple(
        Attempt(
            number=place + 1,
            server=name,
            started=due + place * each,
            ended=due + (place + 1) * each,
            code="OK" if result == "ok" and place + 1 == len(names) else "UNAVAILABLE",
            sent=place + 1,
        )
        for place, name in enumerate(names)
    )
    word = code or ("OK" if result == "ok" else "UNAVAILABLE")
    return Operation(id=id, due=due, invoked=due, ended=due + took, result=result, code=word, attempts=tries, item=item)


def steady(count: int, servers: int = 5, on: Callable[[int], str] | None = None) -> list[Operation]:
    """`count` good calls at a hundred a second, on all servers in turn or as `on` says."""
    return [call(id, f"server-{id % servers}" if on is None else on(id)) for id in range(count)]


def journal(operations: Iterable[Operation], *, timeout: float = 1.0) -> tuple[Execution, ...]:
    """What honest servers wrote down: every attempt that was sent, and the work of those that answered."""
    return tuple(
        Execution(
            server=attempt.server,
            operation=operation.id,
            sent=attempt.sent,
            received=attempt.started + 0.001,
            executed=attempt.started + 0.002 if attempt.code == "OK" else None,
            ended=attempt.ended,
            code=attempt.code,
            remaining=timeout - (attempt.started - operation.invoked) - 0.001,
            item=operation.item,
        )
        for operation in operations
        for attempt in operation.attempts
        if attempt.sent
    )


def history(operations: Iterable[Operation], servers: int | Sequence[Server] = 5, **more: Any) -> History:
    """A run of these calls; its journals are honest unless `executions` says otherwise."""
    calls = tuple(operations)
    fleet = tuple(Server(name=f"server-{n}") for n in range(servers)) if isinstance(servers, int) else tuple(servers)
    parts: dict[str, Any] = {"executions": journal(calls)} | more
    return History(
        scenario="a test", fleet="none", proxy="none", seed=1, seconds=len(calls) / 100, servers=fleet,
        operations=calls, **parts,
    )  # fmt: skip


def fault(
    began: float | None = 5.0,
    healed: float | None = 15.0,
    *,
    on: str = "server-4",
    name: str = SLOW,
    touched: int = 1,
    problem: str = "",
) -> Acted:
    """A fault that acted exactly when it should."""
    return Acted(
        fault=name,
        on=on,
        start=began or 0.0,
        end=healed,
        began=began,
        healed=healed,
        touched=touched,
        problem=problem,
    )


def changed(
    operations: Iterable[Operation],
    where: Callable[[Operation], bool],
    change: Callable[[Operation], Operation],
) -> list[Operation]:
    """`operations`, those `where` it says so changed."""
    return [change(operation) if where(operation) else operation for operation in operations]


def failed(operation: Operation) -> Operation:
    """The same call, with nothing done and an error."""
    tries = tuple(replace(attempt, code="UNAVAILABLE") for attempt in operation.attempts)
    return replace(operation, result="fail", code="UNAVAILABLE", attempts=tries)
