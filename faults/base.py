"""What every fault has in common, and the checks that all values here share."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """A bad thing as a value. Subclasses are frozen dataclasses, and `str` is how a report names them.

    Positional fields are always said, keyword-only ones where they differ from their default:
    `Latency(0.3, jitter=0.05)`.
    """

    #: Where it acts: "network", "process" or "server". A fleet supports faults by kind.
    kind: ClassVar[str] = ""

    def __str__(self) -> str:
        said = [
            f"{field.name}={_spelled(value)}" if field.kw_only else _spelled(value)
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default or not field.kw_only
        ]
        return f"{type(self).__name__}({', '.join(said)})"


def _spelled(value: object) -> str:
    # 12 digits tell any two faults apart, and hide what binary fractions add to 0.1 + 0.2.
    return f"{value:.12g}" if isinstance(value, float) else repr(value)


#: What a number without a bound of its own may be at most. `math.isfinite` cannot be asked: it fails for 10**400.
_LARGEST = 1e300


def check(owner: object, problems: list[str]) -> None:
    """Raises one ValueError that names every problem of `owner`, or returns when there is none."""
    if problems:
        raise ValueError(f"{type(owner).__name__}: " + "; ".join(problems))


def bounded(name: str, value: float, low: float, high: float = math.inf, *, way_out: str = "") -> list[str]:
    """One message if `value` is not a finite number from `low` to `high` (both included), else none."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if good and low <= value <= min(high, _LARGEST):
        return []
    return [f"{name} must be a number, {_bound(low, high)}; got {value!r}{_hint(way_out)}"]


def whole(name: str, value: int, low: int, high: float = math.inf, *, way_out: str = "") -> list[str]:
    """One message if `value` is not a whole number from `low` to `high` (both included), else none."""
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return []
    return [f"{name} must be a whole number, {_bound(low, high)}; got {value!r}{_hint(way_out)}"]


def acting(names: str, acts: bool) -> list[str]:
    """One message if these arguments make a fault that does nothing, else none."""
    return [] if acts else [f"{names} must be more than 0; got 0, which does nothing (leave the fault out instead)"]


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> list[str]:
    """One message if `value` is not among `allowed`, else none."""
    return [] if value in allowed else [f"{name} must be one of {', '.join(allowed)}; got {value!r}"]


def _bound(low: float, high: float) -> str:
    return f"from {low:.12g} to {high:.12g}" if math.isfinite(high) else f"{low:.12g} or more"


def _hint(way_out: str) -> str:
    return f" ({way_out})" if way_out else ""
