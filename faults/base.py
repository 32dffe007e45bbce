"""What every fault has in common, and the checks that all values here share."""

from __future__ import annotations

import math


class Fault:
    """A bad thing as a value. Subclasses are frozen dataclasses whose `str` is how a report names them."""

    __slots__ = ()

    #: Where it acts: "network", "process" or "server". A fleet supports faults by kind.
    kind: str = ""


def check(owner: object, problems: list[str]) -> None:
    """Raises one ValueError that names every problem of `owner`, or returns when there is none."""
    if problems:
        raise ValueError(f"{type(owner).__name__}: " + "; ".join(problems))


def bounded(name: str, value: float, low: float, high: float = math.inf, *, way_out: str = "") -> list[str]:
    """One message if `value` is not a number from `low` to `high` (both included), else none."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if good:
        return []
    bound = f"from {low:g} to {high:g}" if math.isfinite(high) else f"{low:g} or more"
    return [f"{name} must be a number, {bound}; got {value!r}" + (f" ({way_out})" if way_out else "")]


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> list[str]:
    """One message if `value` is not among `allowed`, else none."""
    return [] if value in allowed else [f"{name} must be one of {', '.join(allowed)}; got {value!r}"]
