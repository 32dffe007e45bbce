"""report.html: the report to look at, one file that asks nothing of the network, with a picture of each run.

The page holds no script, and its Content-Security-Policy forbids every request and every script, so that what
a test's name or a server's error text smuggles in stays text. Its looks stand in template.html.j2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from harness.history import History
from harness.report import picture, series, text
from harness.report.files import write_text
from harness.report.model import Report, ScenarioReport

TEMPLATE = Path(__file__).with_name("template.html.j2")
#: How many calls of a scenario are told in full.
CALLS = 6
#: A fleet of more servers than this shows only the busiest and the idlest, this many of them together.
SERVERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One scenario as the page shows it. `shares` are server, attempts, and how many of the most."""

    of: ScenarioReport
    picture: Markup
    calls: tuple[str, ...]
    shares: tuple[tuple[str, int, float], ...]
    left_out: int


def write(report: Report, folder: Path, histories: Sequence[History] = ()) -> Path:
    """Writes `report` to report.html in `folder`.

    `histories` are those of the report's scenarios, in their order; a scenario without one has no picture.
    """
    return write_text(folder / "report.html", page(report, histories))


def page(report: Report, histories: Sequence[History] = ()) -> str:
    """The whole page."""
    shown = [_shown(scenario, history) for scenario, history in zip_longest(report.scenarios, histories)]
    template = _environment().from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(report=report, shown=shown)


def _shown(scenario: ScenarioReport, history: History | None) -> Shown:
    shares = list(scenario.shares.items())
    if len(shares) > SERVERS:
        busiest = sorted(shares, key=lambda share: -share[1])
        shares = busiest[: SERVERS // 2] + busiest[-SERVERS // 2 :]
    most = max((count for _, count in shares), default=0) or 1
    return Shown(
        of=scenario,
        picture=Markup("") if history is None else picture.draw(history),
        calls=() if history is None else tuple(picture.tell(c) for c in series.worst(history.operations, CALLS)),
        shares=tuple((server, count, count / most) for server, count in shares),
        left_out=len(scenario.shares) - len(shares),
    )


def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    for helper in (text.duration, text.moment, text.percent, text.ratio, text.span, text.tally):
        environment.filters[helper.__name__] = helper
    environment.globals |= {"signs": text.SIGNS, "nothing": text.NOTHING}
    return environment
