"""What a campaign comes to: one row for each test and guarantee, with how often it was broken and how sure that is. Pure.

The rate of broken runs is over all runs. Its bounds are Clopper and Pearson's, which miss the true rate at most once in a
million (1e-6), whatever it is: the lower one as if all that could not be judged had held, the upper one as if it were broken.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from harness.campaign.part import ITSELF, Bad, Found, Part, Row
from harness.guarantees.base import Word, overall
from harness.guarantees.statistics import interval


class Tally:
    """Adds up what is found. `seeds` counts those that are done, `runs` the scenarios that were run on them."""

    def __init__(self) -> None:
        self.seeds = 0
        self.runs = 0
        self.lost: list[str] = []  # seeds that nobody could run, and why
        self._rows: dict[tuple[str, str], Row] = {}
        self._left_out: dict[str, str] = {}

    def add(self, part: Part, found: Found) -> None:
        """`part` is done."""
        self.seeds += part.count
        self.runs += found.runs
        self._left_out.update(found.left_out)
        for row in found.rows:
            key = (row.test, row.guarantee)
            self._rows[key] = joined(self._rows[key], row) if key in self._rows else row

    def lose(self, part: Part, why: str) -> None:
        """`part` will not be done."""
        self.lost.append(f"{part.seeds} could not be run: {why}")

    @property
    def rows(self) -> tuple[Row, ...]:
        """All guarantees by test; what a test asserts by hand only where that did not always hold."""
        rows = sorted(self._rows.values(), key=lambda row: (row.test, row.guarantee == ITSELF))
        return tuple(row for row in rows if row.guarantee != ITSELF or row.bad)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Tests that were skipped, those of one reason in one line."""
        reasons = Counter(self._left_out.values())
        return tuple(
            f"{count} test{'s' if count > 1 else ''} left out, such as "
            f"{next(test for test, why in self._left_out.items() if why == reason)}: {reason}"
            for reason, count in reasons.items()
        )

    @property
    def counts(self) -> dict[Word, int]:
        """How many verdicts of each kind."""
        rows = self.rows
        return {
            "held": sum(row.held for row in rows),
            "broken": sum(row.broken for row in rows),
            "unknown": sum(row.unknown for row in rows),
        }

    @property
    def verdict(self) -> Word:
        """broken if anything was, on any seed; else unknown if anything was, or was not run; else held."""
        words: list[Word] = [word for word, count in self.counts.items() if count]
        return overall([*words, "unknown"] if self.lost else words)


def joined(one: Row, other: Row) -> Row:
    """Two rows of the same guarantee as one, its bad runs in the order of their seeds."""
    bad: tuple[Bad, ...] = tuple(sorted((*one.bad, *other.bad), key=lambda found: found.seed))
    return replace(
        one, held=one.held + other.held, broken=one.broken + other.broken, unknown=one.unknown + other.unknown, bad=bad
    )


def rate(row: Row) -> tuple[float, float, float] | None:
    """The fraction of runs that were broken, and its exact bounds; None if none could be judged."""
    runs = row.held + row.broken + row.unknown
    if row.unknown == runs:
        return None
    return row.broken / runs, interval(row.broken, runs)[0], interval(row.broken + row.unknown, runs)[1]
