"""report.md: what a reviewer must know, short enough for a pull request: a table, and the bad ones in full.

A comment on GitHub may have 65,536 characters; what does not fit is left out from the end, and the page says
so. Whatever comes from outside stands in code spans or fenced blocks, where nothing of it is markup, a link
or a mention.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.report.files import write_text
from harness.report.model import GuaranteeReport, Report, ScenarioReport
from harness.report.text import NOTHING, SIGNS, duration, found, moment, percent, ratio, tally

#: The page is kept below this many characters.
LIMIT = 60_000
#: The table may have this many rows; the broken and the unknown come first.
ROWS = 100
#: A guarantee may have this many lines of reasons.
REASONS = 12

_HEADINGS = ("verdict", "scenario", "guarantees", "calls", "ok", "attempts per call", "p50", "p99")
_ORDER = ("broken", "unknown", "held")


def write(report: Report, folder: Path) -> Path:
    """Writes `report` to report.md in `folder`."""
    return write_text(folder / "report.md", page(report))


def page(report: Report) -> str:
    """The whole page."""
    scenarios = sorted(report.scenarios, key=lambda scenario: _ORDER.index(scenario.verdict))
    blocks = [*_head(report), *_table(scenarios)]
    bad = [scenario for scenario in scenarios if scenario.verdict != "held"]
    room = LIMIT - sum(len(block) + 2 for block in blocks)
    for index, scenario in enumerate(bad):
        block = "\n\n".join(_detail(scenario))
        if (room := room - len(block) - 2) < 0:
            blocks.append(f"{len(bad) - index} more did not fit here; report.html tells all of them.")
            break
        blocks.append(block)
    return "\n\n".join(blocks) + "\n"


def _head(report: Report) -> Iterator[str]:
    words = [scenario.verdict for scenario in report.scenarios]
    yield f"## {SIGNS[report.verdict]} stormproof: {report.verdict}"
    yield (
        f"Scenarios: {tally(words) or 'none ran'}. "
        f"Fleet {_code(report.fleet)}, proxy {_code(report.proxy)}, seed {report.seed}, "
        f"{moment(report.started)}, {duration(report.seconds)}."
    )


def _table(scenarios: list[ScenarioReport]) -> Iterator[str]:
    if not scenarios:
        return
    lines = [_row(_HEADINGS), _row("---" for _ in _HEADINGS)]
    lines += [_row(_cells(scenario)) for scenario in scenarios[:ROWS]]
    yield "\n".join(lines)
    if left := scenarios[ROWS:]:
        yield f"And {len(left)} more: {tally([scenario.verdict for scenario in left])}."


def _cells(scenario: ScenarioReport) -> Iterator[str]:
    verdict = f"{SIGNS[scenario.verdict]} {scenario.verdict}"
    yield f"**{verdict}**" if scenario.verdict != "held" else verdict
    yield _code(scenario.name).replace("|", "\\|")
    yield tally([guarantee.verdict for guarantee in scenario.guarantees]) or "none"
    yield f"{scenario.calls:,}"
    yield percent(scenario.outcomes.ok, scenario.calls)
    yield ratio(scenario.attempts, scenario.calls)
    yield duration(scenario.latency.p50) if scenario.calls else NOTHING
    yield duration(scenario.latency.p99) if scenario.calls else NOTHING


def _detail(scenario: ScenarioReport) -> Iterator[str]:
    yield f"### {SIGNS[scenario.verdict]} {_code(scenario.name)}: {scenario.verdict}"
    lines = [f"problem: {problem}" for problem in scenario.problems]
    for guarantee in scenario.guarantees:
        if guarantee.verdict != "held":
            lines += _reasons(guarantee)
    yield _fenced("\n".join(lines or ["no guarantee was checked"]))
    if scenario.again:
        yield "Again:\n\n" + _fenced(scenario.again, "sh")


def _reasons(guarantee: GuaranteeReport) -> Iterator[str]:
    yield f"{guarantee.name}  {guarantee.verdict}: {found(guarantee.measured, guarantee.bound)}"
    yield from (f"    {line}" for line in guarantee.why[:REASONS])
    if len(guarantee.why) > REASONS:
        yield f"    and {len(guarantee.why) - REASONS} more lines, in report.html"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _code(text: str) -> str:
    """A code span of one line: its fence is longer than any run of backticks inside (CommonMark 6.1)."""
    line = " ".join(text.split()) or NOTHING
    fence = "`" * (_longest_run(line) + 1)
    return f"{fence}{line}{fence}" if fence == "`" else f"{fence} {line} {fence}"


def _fenced(text: str, language: str = "") -> str:
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
