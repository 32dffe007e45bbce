"""What a guarantee is: a promise, checked on a history by a pure function, with one of three verdicts.

`held` and `broken` are claims; `unknown` is what is left when the history cannot carry either. Which
statistics stand behind a claim is decided in statistics.py, what of a history counts in evidence.py.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from harness.history import History

Word = Literal["held", "broken", "unknown"]
#: Error rate of every statistical claim of the harness: a hundred are wrong together less than once in 10^4.
ALPHA = 1e-6
#: A verdict tells the worst of what was found, not all of it.
LINES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a guarantee found: `measured` against `bound`, as text; `why`: lines of what, when, where."""

    guarantee: str
    verdict: Word
    measured: str
    bound: str
    why: tuple[str, ...] = ()


@runtime_checkable
class Guarantee(Protocol):
    """A promise. Implementations are frozen dataclasses; `check` reads nothing but the history."""

    def check(self, history: History) -> Verdict: ...


def overall(words: list[Word]) -> Word:
    """broken if anything is broken, else unknown if anything is (or there is nothing at all), else held."""
    if "broken" in words:
        return "broken"
    return "unknown" if "unknown" in words or not words else "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One of the claims that a verdict is made of. Whoever finds several puts the worst first."""

    word: Word
    measured: str
    why: tuple[str, ...] = ()


def unjudged(*why: str) -> Finding:
    """A finding of nothing, and the reasons."""
    return Finding(word="unknown", measured="not judged", why=why)


class Promise:
    """What the guarantees here share: how they are spelled, and how findings become a verdict."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __str__(self) -> str:
        return spelled(self)

    def verdict(self, bound: str, *findings: Finding) -> Verdict:
        """The verdict of all findings: its text is of those that decided it."""
        word = overall([finding.word for finding in findings])
        deciding = [finding for finding in findings if finding.word == word]
        lines = [line for finding in deciding for line in finding.why]
        return Verdict(
            guarantee=str(self),
            verdict=word,
            measured=deciding[0].measured if deciding else "not judged",
            bound=bound,
            why=tuple(lines[:LINES]),
        )


def spelled(promise: Promise) -> str:
    """`promise` as one would write it, with those arguments only that differ from their defaults."""
    said = []
    for part in fields(promise):
        value = getattr(promise, part.name)
        if part.default is MISSING or value != part.default:
            said.append(f"{part.name}={plain(value)}" if part.kw_only else plain(value))
    return f"{type(promise).__name__}({', '.join(said)})"


def plain(value: object) -> str:
    """`value` as source; between 0 and 1 with three digits at least, as milliseconds and shares are read."""
    if isinstance(value, float) and 0 < value < 1 and float(f"{value:.3f}") == value:
        return f"{value:.3f}"
    return repr(value)
