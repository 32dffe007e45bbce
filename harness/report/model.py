"""The report as values: what every writer tells, and nothing else; docs/report.md is made from it.

It summarises a history and carries the verdicts; it judges nothing itself. An underscore at the end of a
field's name is not part of its name in report.json (`from` is a word of Python's).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from importlib import metadata
from typing import Annotated

from harness.guarantees.base import Verdict, Word, overall
from harness.history import Acted, History
from harness.report import names, summary

#: Grows by one when a field is removed or changes its meaning; a field that is added changes nothing.
SCHEMA = 1
#: Where a scenario's history lies, seen from the report's folder.
HISTORY = "history/{}.jsonl.gz"


@dataclass(frozen=True, slots=True)
class Told:
    """What a field of report.json means, and its unit."""

    means: str
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """How the calls of a scenario ended; the three add up to `calls`."""

    ok: Annotated[int, Told("answered, and rightly", "calls")]
    fail: Annotated[int, Told("surely not done", "calls")]
    info: Annotated[int, Told("nobody can know whether they were done; never ended, for one", "calls")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long the calls took, whatever their result, from when each was due. A quantile is the shortest of
    these times that no more than the rest of all exceeded, never one in between. A call that never ended
    counts as infinite, for which JSON has no number: such a quantile is null. So are all without any call."""

    p50: Annotated[float | None, Told("median", "s")]
    p90: Annotated[float | None, Told("exceeded by at most one call in 10", "s")]
    p99: Annotated[float | None, Told("exceeded by at most one call in 100", "s")]
    p999: Annotated[float | None, Told("exceeded by at most one call in 1000", "s")]
    max: Annotated[float | None, Told("the slowest call", "s")]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultReport:
    """One fault on one target. Times count from the start of the workload."""

    name: Annotated[str, Told("the fault and its arguments")]
    on: Annotated[str, Told("the server that it hit; `client` is the client's own process")]
    from_: Annotated[float | None, Told("when it was seen to act; null: it could not be applied", "s")]
    until: Annotated[float | None, Told("when it was seen to be over; null: not before the fleet was stopped", "s")]
    planned_from: Annotated[float, Told("when it should have begun to act", "s")]
    planned_until: Annotated[float | None, Told("when it should have been over; null: at the end of the run", "s")]
    touched: Annotated[int, Told("the attempts and requests that met it", "attempts")]
    problem: Annotated[str, Told("why it could not be applied; empty if it was")]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuaranteeReport:
    """One promise and what became of it."""

    name: Annotated[str, Told("the guarantee and its arguments")]
    verdict: Annotated[Word, Told("`unknown`: the history can carry neither claim")]
    measured: Annotated[str, Told("what was found")]
    bound: Annotated[str, Told("what was promised")]
    why: Annotated[tuple[str, ...], Told("lines that say what happened, when and where")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioReport:
    """One run of one scenario."""

    name: Annotated[str, Told("the test or scenario that ran; two runs may share one")]
    doc: Annotated[str, Told("what it is about, in one line")]
    verdict: Annotated[
        Word,
        Told("`broken` if a guarantee is; else `unknown` if one is, if there is none or a problem; else `held`"),
    ]
    seed: Annotated[int, Told("what the run drew its chances from")]
    started: Annotated[str, Told("when its workload began (ISO 8601, UTC)")]
    seconds: Annotated[float, Told("length of the workload, from its start to its last end", "s")]
    servers: Annotated[int, Told("servers in the fleet", "servers")]
    calls: Annotated[int, Told("calls that the workload made", "calls")]
    attempts: Annotated[
        int,
        Told(
            "tries of these calls, first ones and those that never left the client included; if the client "
            "tells of none, those that arrived at a server",
            "attempts",
        ),
    ]
    messages: Annotated[
        int, Told("messages of answer streams that reached their callers; 0 if the workload has no streams", "messages")
    ]
    outcomes: Annotated[Outcomes, Told("how the calls ended")]
    codes: Annotated[dict[str, int], Told("calls by their gRPC status, the most frequent first", "calls")]
    latency: Annotated[Latency, Told("how long the calls took")]
    shares: Annotated[
        dict[str, int],
        Told(
            "by server: the attempts that were sent to it; if the client tells of none, that arrived there",
            "attempts",
        ),
    ]
    faults: Annotated[tuple[FaultReport, ...], Told("what was broken on purpose, in the order of the scenario")]
    guarantees: Annotated[tuple[GuaranteeReport, ...], Told("what was promised")]
    problems: Annotated[tuple[str, ...], Told("why the history cannot be trusted; empty if it can")]
    spoiled: Annotated[
        tuple[str, ...],
        Told("why earlier runs were made again: the machine was too busy for them to say anything; mostly empty"),
    ]
    again: Annotated[str, Told("the command that runs it again with this seed; empty if there is none")]
    history: Annotated[str, Told("the file that holds everything that happened, seen from this folder")]

    def __post_init__(self) -> None:
        _check_started(self, self.started)

    @property
    def slug(self) -> str:
        """A name for links and files: letters, digits, `.`, `_` and `-`; its own for each run in a report."""
        return self.history.removeprefix("history/").removesuffix(".jsonl.gz")

    @classmethod
    def of(
        cls,
        history: History,
        verdicts: Sequence[Verdict],
        *,
        name: str,
        doc: str,
        again: str,
        started: str,
        spoiled: tuple[str, ...] = (),
    ) -> ScenarioReport:
        """What `history` and its `verdicts` come to. `started` is the time of its start, ISO 8601 in UTC."""
        words: list[Word] = [verdict.verdict for verdict in verdicts]
        if history.problems:
            words.append("unknown")
        outcomes = Counter(operation.result for operation in history.operations)
        return cls(
            name=name,
            doc=doc,
            verdict=overall(words),
            seed=history.seed,
            started=started,
            seconds=history.seconds,
            servers=len(history.servers),
            calls=len(history.operations),
            attempts=summary.attempts(history),
            messages=sum(operation.heard_messages for operation in history.operations),
            outcomes=Outcomes(ok=outcomes["ok"], fail=outcomes["fail"], info=outcomes["info"]),
            codes=summary.codes(history),
            latency=Latency(**summary.latency(history)),
            shares=summary.shares(history),
            faults=tuple(_fault(acted) for acted in history.faults),
            guarantees=tuple(
                GuaranteeReport(name=v.guarantee, verdict=v.verdict, measured=v.measured, bound=v.bound, why=v.why)
                for v in verdicts
            ),
            problems=history.problems,
            spoiled=spoiled,
            again=again,
            history=HISTORY.format(names.slug(name)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that one run of stormproof found."""

    schema: Annotated[int, Told("version of these tables; see above")]
    stormproof: Annotated[str, Told("version of stormproof that wrote it")]
    fleet: Annotated[str, Told("what the scenarios ran on: `sim`, `local` or `docker`")]
    proxy: Annotated[str, Told("the proxy that applied network faults, and its version")]
    seed: Annotated[int, Told("what the scenarios' own seeds were drawn from")]
    started: Annotated[str, Told("when the run began (ISO 8601, UTC)")]
    seconds: Annotated[float, Told("how long it took, starting and stopping the fleets included", "s")]
    verdict: Annotated[Word, Told("`broken` if a scenario is; else `unknown` if one is, or there is none; else `held`")]
    scenarios: Annotated[tuple[ScenarioReport, ...], Told("in the order in which they ran")]

    def __post_init__(self) -> None:
        _check_started(self, self.started)

    @classmethod
    def of(
        cls,
        scenarios: Iterable[ScenarioReport],
        *,
        fleet: str,
        proxy: str,
        seed: int,
        started: str,
        seconds: float,
    ) -> Report:
        """The report on `scenarios`; those that share a history's file name are given different ones.

        `proxy` is a name and a version ("toxiproxy 2.12.0"), `started` a time in UTC (ISO 8601), `seconds`
        the length of the whole run.
        """
        given = list(scenarios)
        slugs = names.distinct(scenario.slug for scenario in given)
        distinct = tuple(
            replace(scenario, history=HISTORY.format(slug)) for scenario, slug in zip(given, slugs, strict=True)
        )
        return cls(
            schema=SCHEMA,
            stormproof=_version(),
            fleet=fleet,
            proxy=proxy,
            seed=seed,
            started=started,
            seconds=seconds,
            verdict=overall([scenario.verdict for scenario in distinct]),
            scenarios=distinct,
        )


def _check_started(owner: object, started: str) -> None:
    """A time without its zone would be read differently by every reader."""
    try:
        utc = datetime.fromisoformat(started).utcoffset() == timedelta(0)
    except ValueError:
        utc = False
    if not utc:
        raise ValueError(
            f"{type(owner).__name__}: started must be an ISO 8601 time in UTC, such as 2026-01-31T12:00:00Z; "
            f"got {started!r}"
        )


def _version() -> str:
    try:
        return metadata.version("stormproof")
    except metadata.PackageNotFoundError:
        return "source tree"


def _fault(acted: Acted) -> FaultReport:
    return FaultReport(
        name=acted.fault,
        on=acted.on,
        from_=acted.began,
        until=acted.healed,
        planned_from=acted.start,
        planned_until=acted.end,
        touched=acted.touched or 0,
        problem=acted.problem,
    )
