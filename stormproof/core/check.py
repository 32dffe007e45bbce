"""How configuration is checked: every problem of a value is found, and all are reported together."""

from __future__ import annotations

import math

#: What a number without a bound of its own may be at most: infinity is a special case nobody asked for.
LARGEST = 1e300
#: Characters of a problem that are told.
LONGEST_PROBLEM = 1000
#: Longest time, in seconds. gRPC for Python ends a call at once whose timeout is 9e9 s or more.
LONGEST = 1e9


def number(
    name: str, value: object, low: float, high: float = math.inf, *, unit: str, whole: bool = False
) -> list[str]:
    """One message if `value` is not a number from `low` to `high` (both included), else none."""
    kinds: tuple[type, ...] = (int,) if whole else (int, float)
    if isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= min(high, LARGEST):  # type: ignore[operator]
        return []
    kind = "a whole number" if whole else "a number"
    bound = f"{low:g} or more" if math.isinf(high) else f"from {low:g} to {high:g}"
    return [f"{name} must be {kind}, {bound} ({unit}); got {value!r}"]


def seconds(name: str, value: object, *, low: float = 0.0, optional: bool = False) -> list[str]:
    """One message if `value` is not a length of time in seconds (or None, where that is allowed), else none."""
    if optional and value is None:
        return []
    return number(name, value, low, LONGEST, unit="seconds" + (", or None for no limit" if optional else ""))


def instance(name: str, value: object, kind: type, example: str) -> list[str]:
    """One message if `value` is not a `kind`, else none."""
    return [] if isinstance(value, kind) else [f"{name} must be a {kind.__name__}, such as {example}; got {value!r}"]


def complain(owner: object, problems: list[str]) -> None:
    """Raises one ValueError that names every problem of `owner`, or returns when there is none."""
    if problems:
        name = owner if isinstance(owner, str) else type(owner).__name__
        raise ValueError(f"{name}: " + "; ".join(map(_short, problems)))


def _short(problem: str) -> str:
    """Who passes a megabyte by mistake need not read it."""
    return problem if len(problem) <= LONGEST_PROBLEM else f"{problem[: LONGEST_PROBLEM - 100]} ... {problem[-80:]}"
