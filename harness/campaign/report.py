"""campaign.json, for programs, and campaign.md, for a pull request: all rows with their bounds, and every bad seed."""

from __future__ import annotations

from pathlib import Path

import msgspec

from harness.campaign.part import Row
from harness.campaign.process import identity
from harness.campaign.run import Campaign, Run
from harness.campaign.tally import rate
from harness.report.files import write_bytes, write_text

#: Grows by one when a field is removed or changes its meaning.
SCHEMA = 1
#: Bad seeds of each row that campaign.md tells.
FIRST = 5


def write(campaign: Campaign, done: Run, folder: Path) -> None:
    """Writes both into `folder`, campaign.json last."""
    write_text(folder / "campaign.md", _markdown(campaign, done))
    content = msgspec.json.format(msgspec.json.encode(_plain(campaign, done)), indent=2)
    write_bytes(folder / "campaign.json", content + b"\n")


def _plain(campaign: Campaign, done: Run) -> dict[str, object]:
    tally = done.tally
    return {
        "schema": SCHEMA,
        "stormproof": identity(),
        "fleet": "sim",
        "suites": campaign.suites,
        "seed": campaign.first,
        "seeds": {"asked": campaign.seeds, "run": tally.seeds},
        "runs": tally.runs,
        "verdict": "unknown" if done.stopped and tally.verdict == "held" else tally.verdict,
        "problems": [*tally.lost, *filter(None, [done.stopped])],
        "left_out": tally.left_out,
        "rows": [_row(row) for row in tally.rows],
    }


def _row(row: Row) -> dict[str, object]:
    found = rate(row)
    rates = None if found is None else dict(zip(("measured", "at_least", "at_most"), found, strict=True))
    return {
        "test": row.test, "guarantee": row.guarantee, "held": row.held, "broken": row.broken, "unknown": row.unknown,
        "rate_of_broken": rates, "bad": row.bad,
    }  # fmt: skip


def _markdown(campaign: Campaign, done: Run) -> str:
    from harness.campaign.show import spelled  # which uses this

    tally = done.tally
    lines = [
        f"# Campaign: {done.tally.verdict}",
        "",
        f"{tally.runs:,} runs on {tally.seeds} of {campaign.seeds} seeds from {campaign.first} on, in virtual time.",
        "",
        "| test | guarantee | held | broken | unknown | rate of broken (at 1e-6) | first bad seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in tally.rows:
        seeds = ", ".join(str(bad.seed) for bad in row.bad[:FIRST])
        cells = [row.test, row.guarantee, f"{row.held:,}", f"{row.broken:,}", f"{row.unknown:,}", spelled(row), seeds]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", *(f"- {line}" for line in (*tally.lost, *tally.left_out, *filter(None, [done.stopped])))]
    commands = [f"{row.bad[0].again}" for row in tally.rows if row.bad]
    if commands:
        lines += ["", "See them again:", "", "```sh", *dict.fromkeys(commands), "```"]
    return "\n".join(lines).rstrip() + "\n"
