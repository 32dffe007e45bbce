"""When a count carries a claim: exact binomial for rates, Clopper-Pearson for one share, chi-square for all.

Every test here errs by chance at most once in a million (ALPHA), in the direction of `broken`. `held` is
never a matter of a test: the figure itself must keep the bound, in a sample big enough to tell it from a
worse one. What lies between is `unknown`.

scipy is imported where it is used, and of it only the functions behind scipy.stats (their values are the same): they
take 0.3 s to load, three times the rest of the harness's values, and most checks find nothing that has to be tested.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.guarantees.base import ALPHA, Word

#: No claim stands on fewer samples than this.
SAMPLES = 20
#: Chi-square is an approximation; from this many expected calls in a cell it is a good one.
EXPECTED = 50.0
#: Fractions that differ by less are the same: 1 - 0.9 is a little less than 0.1.
SAME = 1e-9


def needed(allowed: float) -> int:
    """How many samples `held` needs: 20, and enough to tell the bound from 0 and from 1 by one sample."""
    narrow = min(allowed, 1 - allowed)
    return SAMPLES if narrow <= 0 else max(SAMPLES, math.ceil(1 / max(narrow, SAME) - 1e-6))


def chance(bad: int, n: int, allowed: float) -> float:
    """The probability of `bad` or more of `n`, if each is bad with probability `allowed`; exact binomial."""
    from scipy.special import betainc

    return float(betainc(bad, n - bad + 1, allowed)) if bad else 1.0


def at_most(bad: int, n: int, allowed: float) -> Word:
    """Whether at most the fraction `allowed` (0 to 1) is bad, when `bad` of `n` are.

    held: bad/n is within it, and n is at least `needed(allowed)`. broken: bad/n is beyond it and chance
    explains that less than once in a million (one-sided exact binomial); with `allowed` 0, any bad one.
    unknown: between.
    """
    if not 0 <= bad <= n or not 0 <= allowed <= 1:
        raise ValueError(f"at_most: bad must be from 0 to n and allowed from 0 to 1; got {bad}, {n} and {allowed}")
    if bad <= n * (allowed + SAME):
        return "held" if n >= needed(allowed) else "unknown"
    return "broken" if allowed == 0 or chance(bad, n, allowed) < ALPHA else "unknown"


def doubt(bad: int, n: int, allowed: float, *, of: str = "calls", are: str = "were bad", promise: str = "it") -> str:
    """Why `at_most` of the same numbers is unknown, in words: `bad` of `n` calls `are` what was not promised."""
    if bad <= n * (allowed + SAME):
        return f"{n} {of} counted, {needed(allowed)} needed to promise {promise}"
    return f"{bad} of {n} {of} {are}, {allowed * n:.6g} allowed; {excuse(bad, n, allowed)}"


def excuse(bad: int, n: int, allowed: float) -> str:
    """That chance may have done it, and how likely."""
    return f"chance alone explains that with p = {chance(bad, n, allowed):.1g} (broken is below {ALPHA:g})"


def interval(count: int, n: int, alpha: float = ALPHA) -> tuple[float, float]:
    """Clopper and Pearson's: it misses the true rate behind `count` of `n` at most at the rate `alpha`."""
    from scipy.special import betaincinv

    low = 0.0 if count == 0 else float(betaincinv(count, n - count + 1, alpha / 2))
    high = 1.0 if count == n else float(betaincinv(count + 1, n - count, 1 - alpha / 2))
    return low, high


def within(count: int, n: int, low: float, high: float, alpha: float = ALPHA) -> Word:
    """Whether a rate lies from `low` to `high`, when `count` of `n` do.

    broken: the Clopper-Pearson interval lies outside. held: count/n lies inside, with 50 expected. unknown:
    between.
    """
    least, most = interval(count, n, alpha)
    if least > high or most < low:
        return "broken"
    inside = n * (low - SAME) <= count <= n * (high + SAME)
    return "held" if inside and n * (low + high) / 2 >= EXPECTED else "unknown"


def missing(n: int, share: float, alpha: float = ALPHA) -> bool:
    """Whether chance does not explain, at `alpha`, that a cell due `share` of `n` has none."""
    return 0 < share < 1 and (1 - share) ** n < alpha


def chi_square(counts: Sequence[int], shares: Sequence[float]) -> float:
    """The probability of counts as far from `shares` (which sum to 1) as these, or farther."""
    from scipy.special import chdtrc

    n = sum(counts)
    expected = [n * share for share in shares]
    distance = sum((count - due) ** 2 / due for count, due in zip(counts, expected, strict=True))
    return float(chdtrc(len(counts) - 1, distance)) if len(counts) > 1 else 1.0


def fits(counts: Sequence[int], shares: Sequence[float]) -> Word:
    """Whether `counts` are draws from `shares`, which sum to 1.

    broken: a share of 0 got a call; a cell is empty that chance does not leave empty; or chi-square is below
    one in a million. unknown: fewer than 50 expected in a cell. held: none of these. All in all one claim at
    ALPHA, as chi-square is not asked below 50 expected, and above it the chance of an empty cell is below
    1e-21.
    """
    n = sum(counts)
    if any(count and not share for count, share in zip(counts, shares, strict=True)):
        return "broken"
    due = [(count, share) for count, share in zip(counts, shares, strict=True) if share]
    if any(count == 0 and missing(n, share, ALPHA / len(due)) for count, share in due):
        return "broken"
    if min(n * share for _, share in due) < EXPECTED:
        return "unknown"
    return "broken" if chi_square(*zip(*due, strict=True)) < ALPHA else "held"
