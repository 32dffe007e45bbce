"""Names for links and files out of names that people gave to their tests."""

from __future__ import annotations

import re
from collections.abc import Iterable


def slug(name: str) -> str:
    """The end of `name` in letters, digits, `.`, `_` and `-`, at most 80 of them, or "scenario"."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name)[-80:].strip("-.") or "scenario"


def distinct(slugs: Iterable[str]) -> list[str]:
    """`slugs` in their order, with a number behind each that another has before it.

    Upper and lower case do not tell two apart: for some file systems they do not either.
    """
    taken: dict[str, str] = {}
    for name in slugs:
        free, turn = name, 1
        while free.lower() in taken:
            turn += 1
            free = f"{name}-{turn}"
        taken[free.lower()] = free
    return list(taken.values())
