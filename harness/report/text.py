"""How numbers and texts are spelled for people: the one place where seconds become milliseconds.

report.json never comes here; it keeps seconds and exact counts. What is printed is rounded so that it never
flatters: a share that is not the whole is never shown as 100 %.
"""

from __future__ import annotations

import re
from datetime import datetime

from harness.guarantees.base import Word

#: Stands where there is no number.
NOTHING = "-"
#: A verdict's sign, so that colour is never the only one.
SIGNS: dict[Word, str] = {"held": "✓", "broken": "✗", "unknown": "?"}
#: What XML 1.0 forbids, and the control characters that it discourages.
_UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    """`text` with U+FFFD in place of every character that neither XML nor HTML may carry."""
    return _UNPRINTABLE.sub("\ufffd", text)


def duration(seconds: float | None) -> str:
    """`seconds` with three digits and its own unit; None is a time that never ended."""
    if seconds is None:
        return "never"
    if seconds < 0.001:
        return f"{number(seconds * 1e6)} µs"
    return f"{number(seconds * 1e3)} ms" if seconds < 1 else f"{number(seconds)} s"


def moment(started: str) -> str:
    """A time as ISO 8601 has it in UTC, to the second, for people."""
    return f"{datetime.fromisoformat(started):%Y-%m-%d %H:%M:%S} UTC"


def number(value: float) -> str:
    """`value` with three digits, and all those before the point."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def percent(part: int, whole: int) -> str:
    """`part` of `whole`, rounded down to a hundredth of a percent; a dash if there is no whole."""
    if not whole:
        return NOTHING
    hundredths = part * 10_000 // whole
    return f"{hundredths / 100:.2f}".rstrip("0").rstrip(".") + " %"


def ratio(part: int, whole: int) -> str:
    """`part` for each of `whole`, three digits behind the point; a dash if there is no whole."""
    return f"{part / whole:.3f}" if whole else NOTHING


def span(began: float | None, ended: float | None) -> str:
    """From when until when, in seconds; an end of None is the end of the run."""
    if began is None:
        return "never"
    return f"{began:.3f} s to " + ("the end" if ended is None else f"{ended:.3f} s")


def found(measured: str, bound: str) -> str:
    """What was measured, and the bound in brackets if there is one."""
    return f"{measured} (bound: {bound})" if bound else measured


def tally(words: list[Word]) -> str:
    """How many of each verdict, the bad ones first, without those that did not occur: "1 broken, 2 held"."""
    kinds: tuple[Word, ...] = ("broken", "unknown", "held")
    return ", ".join(f"{words.count(kind)} {kind}" for kind in kinds if kind in words)
