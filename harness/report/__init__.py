"""The report of a run: `Report.of` makes it out of histories and verdicts, `write_all` puts it into a folder.

Each writer is one file that takes a report and a folder; none knows of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.history import History
from harness.report import histories as history_files
from harness.report import html, json, junit, markdown
from harness.report.model import Report, ScenarioReport

__all__ = ["Report", "ScenarioReport", "write_all"]


def write_all(report: Report, histories: Sequence[History], folder: Path) -> tuple[Path, ...]:
    """Writes `report` in every form into `folder`, and the history of each of its scenarios, in their order.

    report.json comes last: who finds it finds all that it speaks of. Each file is replaced whole, so that
    an interrupted run leaves the old one or the new one. Files of scenarios that did not run again are left
    alone.
    """
    if len(histories) != len(report.scenarios):
        raise ValueError(
            f"write_all: histories must be as many as the report's scenarios, {len(report.scenarios)}, "
            f"and in their order; got {len(histories)}"
        )
    paths = [
        history_files.write(history, folder / scenario.history)
        for scenario, history in zip(report.scenarios, histories, strict=True)
    ]
    paths.append(html.write(report, folder, histories))
    paths.extend(writer.write(report, folder) for writer in (markdown, junit, json))
    return tuple(paths)
