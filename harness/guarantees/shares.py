"""Who gets how many of the calls: all of EvenShare and WeightedShare but the shares that are due."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from harness.guarantees import evidence
from harness.guarantees.base import ALPHA, Finding, Word, overall, unjudged
from harness.guarantees.statistics import EXPECTED, chi_square, fits, missing, within
from harness.history import Counts, History

#: A broken verdict names so many servers, those furthest from their due.
FURTHEST = 3


def judged(history: History, due: Mapping[str, float], width: float, grace: float) -> Finding:
    """Whether first attempts fall on the servers as `due`, over the calls that were due in quiet times.

    Quiet is when no fault acts and none has been healed for less than `grace` seconds; after one that was never
    healed it is not quiet again.
    `width` 0 asks whether chance explains all counts together (chi-square); otherwise every share must lie
    between (1 - width) and (1 + width) of its due (Clopper-Pearson, the error rate split evenly over the
    servers).
    """
    spans = evidence.spans(history)
    quiet = Counts(o.id for o in history.operations if not any(start <= o.due < end + grace for start, end in spans))
    seen = Counter(t.server for t in evidence.first_tries(history) if quiet[t.operation])
    counts = {name: seen[name] for name in due}
    if not sum(counts.values()):
        return unjudged(f"no first attempt of a call that was due {_quiet(grace)}")
    return found(counts, due, width, _quiet(grace))


def found(
    counts: Mapping[str, int], due: Mapping[str, float], width: float, when: str, alpha: float = ALPHA
) -> Finding:
    """What `counts`, of which there are some, tell of the shares that are `due`; `when` says of which time they are."""
    total = sum(counts.values())
    words = _words(counts, due, width, alpha)
    word = overall(list(words.values()))
    far = sorted(due, key=lambda name: _off(counts[name], total * due[name]), reverse=True)
    measured = f"{_share(far[0], counts, due)}, of {total} calls, furthest from its due"
    why: list[str] = []
    if word == "broken":
        why = [*_why(counts, due, far), when]
    elif word == "unknown":
        why = [_doubt(counts, due, far[0])]
    return Finding(word=word, measured=measured, why=tuple(why))


def _off(count: int, due: float) -> float:
    """How far off its due a count is, as a fraction of it."""
    if due:
        return abs(count - due) / due
    return math.inf if count else 0.0


def _words(counts: Mapping[str, int], due: Mapping[str, float], width: float, alpha: float) -> dict[str, Word]:
    """One word for all servers together (under "", at ALPHA), or one for each, which err at `alpha` together."""
    if not width:
        return {"": fits(list(counts.values()), list(due.values()))}
    total, alpha = sum(counts.values()), alpha / len(due)
    words: dict[str, Word] = {}
    for name, share in due.items():
        low, high = share * (1 - width), min(1.0, share * (1 + width))
        empty = counts[name] == 0 and missing(total, share, alpha)
        words[name] = "broken" if empty else _word(counts[name], total, low, high, alpha)
    return words


def _word(count: int, total: int, low: float, high: float, alpha: float) -> Word:
    """A share of 0 has no width: no call keeps it and any call breaks it."""
    if high == 0:
        return "broken" if count else "held"
    return within(count, total, low, high, alpha)


def _why(counts: Mapping[str, int], due: Mapping[str, float], far: list[str]) -> list[str]:
    total = sum(counts.values())
    lines = [_share(name, counts, due) for name in far[:FURTHEST]]
    empty = [name for name in due if due[name] and not counts[name]]
    if empty:
        lines.insert(0, f"no call at all of {total}: {', '.join(empty[:FURTHEST])}")
    if all(due.values()):
        lines.append(f"chance explains such counts with probability {_chance(counts, due):.1g} (chi-square)")
    return lines


def _quiet(grace: float) -> str:
    return "while no fault acted" + (f", nor within {grace:g} s of a healing" if grace else "")


def _chance(counts: Mapping[str, int], due: Mapping[str, float]) -> float:
    return chi_square(list(counts.values()), list(due.values()))


def _doubt(counts: Mapping[str, int], due: Mapping[str, float], far: str) -> str:
    total = sum(counts.values())
    fewest = min(share for share in due.values() if share)
    if total * fewest < EXPECTED:
        return f"{total} calls counted, {EXPECTED / fewest:.0f} needed to expect {EXPECTED:.0f} on every server"
    return f"{far} is off its due, but {total} calls cannot tell that from chance (broken is below {ALPHA:g})"


def _share(name: str, counts: Mapping[str, int], due: Mapping[str, float]) -> str:
    return f"{name} got {counts[name] / sum(counts.values()):.3f}, due {due[name]:.3f}"
