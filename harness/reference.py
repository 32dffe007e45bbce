"""docs/reference.md, made from the code's own registries: `python -m harness.reference` writes it, a test keeps it current."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import faults
import harness
import stormproof
from harness.fleet.docker.fleet import DockerFleet
from harness.fleet.local import LocalFleet
from harness.fleet.mechanisms import mechanism
from harness.fleet.sim.fleet import SimFleet
from harness.guarantees import GUARANTEES

#: Of the faults that need to be told something.
_EXAMPLES: dict[type[faults.Fault], Callable[[], faults.Fault]] = {
    faults.Latency: lambda: faults.Latency(0.1),
    faults.Bandwidth: lambda: faults.Bandwidth(1000),
    faults.SlowClose: lambda: faults.SlowClose(0.1),
    faults.Slice: lambda: faults.Slice(10),
    faults.Truncate: lambda: faults.Truncate(10),
    faults.PacketLoss: lambda: faults.PacketLoss(0.1),
    faults.CpuHog: lambda: faults.CpuHog(0.5),
    faults.Overload: lambda: faults.Overload(1),
    faults.ColdStart: lambda: faults.ColdStart(0.1),
    faults.MemoryHog: lambda: faults.MemoryHog(1000),
    faults.MemoryLimit: lambda: faults.MemoryLimit(1000),
}
PAGE = Path(__file__).parents[1] / "docs" / "reference.md"
_INTRODUCTION = """\
# Reference

Made by `python -m harness.reference` from the docstrings; change those. Seconds are floats, sizes bytes, fractions 0 to 1.
"""


def page() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    parts.append(_section("Guarantees", "What can be promised. Each is a pure function of a history.", GUARANTEES))
    kinds = [getattr(faults, name) for name in faults.__all__]
    bad = [
        kind for kind in kinds if isinstance(kind, type) and issubclass(kind, faults.Fault) and kind is not faults.Fault
    ]
    parts.append(_section("Faults", f"What can go wrong.\n\n{_table(bad)}", bad, lead=lambda kind: f"*{kind.kind}*. "))
    parts.append(
        _section(
            "Targets", "Whom it hits; drawn by the run's seed.", _functions("one", "some", "majority", "every", "named")
        )
    )
    parts.append(_section("Times", "When it acts.", _functions("at", "during", "every_so_often", "rolling")))
    work = [getattr(harness, name) for name in ("Poisson", "Steady", "Streams", "Closed", "Batch")]
    parts.append(_section("Workloads", "What is called, and when; arrivals are drawn by the run's seed.", work))
    times = [getattr(harness, name) for name in ("Normal", "LogNormal", "Pareto", "Trace")]
    parts.append(_section("Service times", "How long `Servers(service_time=...)` work on a call.", times))
    shipped = ("RoundRobin", "RandomChoice", "LeastRequest", "PeakEwma", "Adaptive", "ConsistentHash")
    parts.append(_section("Balancers", "Who is called.", [getattr(stormproof, name) for name in shipped]))
    sources = [getattr(stormproof, name) for name in ("Dns", "File", "Polled", "Subset")]
    parts.append(_section("Resolvers", "Where endpoints come from.", sources))
    configuration = (
        "Endpoint", "Policy", "Retry", "Backoff", "Hedge", "Checkpoint", "RetryBudget", "Failover", "HealthCheck",
        "SlowStart", "LoadReports",
    )  # fmt: skip
    parts.append(_section("Policies", "What a call may do.", [getattr(stormproof, name) for name in configuration]))
    return "\n".join(parts)


def _section(title: str, about: str, things: Iterable[Any], lead: Any = lambda thing: "") -> str:  # noqa: ARG005
    entries = [f"### `{_spelled(thing)}`\n\n{lead(thing)}{_doc(thing)}\n" for thing in things]
    return f"\n## {title}\n\n{about}\n\n" + "\n".join(entries)


def _table(kinds: Iterable[type[faults.Fault]]) -> str:
    """Each fault with the fleets that can apply it, by what it acts on real servers, and how it is undone."""
    rows = ["| fault | fleets | acts by | undone: | known to have acted by |", "|---|---|---|---|---|"]
    for kind in kinds:
        how = mechanism(kind)
        rows.append(f"| `{kind.__name__}` | {', '.join(_fleets(kind))} | {how.by} | {how.undone} | {how.seen} |")
    return "\n".join(rows)


def _fleets(kind: type[faults.Fault]) -> list[str]:
    fault, servers = _EXAMPLES.get(kind, kind)(), harness.Servers(1)
    fleets = (LocalFleet(), SimFleet(), DockerFleet())
    return [fleet.name for fleet in fleets if fleet.cannot(fault, servers) is None]


def _functions(*names: str) -> list[Any]:
    return [getattr(faults, name) for name in names]


def _spelled(thing: Any) -> str:
    if isinstance(thing, type):
        positional = [_argument(field) for field in fields(thing) if field.init and not field.kw_only]
        keywords = [_argument(field) for field in fields(thing) if field.init and field.kw_only]
        return f"{thing.__name__}({', '.join([*positional, *(['*', *keywords] if keywords else [])])})"
    if inspect.isfunction(thing):
        names = [
            ("*" if p.kind is p.VAR_POSITIONAL else "") + p.name + ("" if p.default is p.empty else f"={p.default}")
            for p in inspect.signature(thing).parameters.values()
        ]
        return f"{thing.__name__}({', '.join(names)})"
    return str(thing)


def _argument(field: Any) -> str:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    if default is MISSING:
        return str(field.name)
    if isinstance(default, frozenset):
        default = "{" + ", ".join(sorted(getattr(item, "name", str(item)) for item in default)) + "}"
    elif field.default_factory is not MISSING:
        default = f"{type(default).__name__}()"
    return (
        f"{field.name}={default!r}"
        if isinstance(default, str) and field.default is default
        else f"{field.name}={default}"
    )


def _doc(thing: Any) -> str:
    """The docstring; its aligned lists stay as they are."""
    blocks = (inspect.getdoc(thing) or "").split("\n\n")
    return "\n\n".join(f"```text\n{b}\n```" if _aligned(b) else b for b in blocks)


def _aligned(block: str) -> bool:
    return any("  " in line.strip() for line in block.splitlines())


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
