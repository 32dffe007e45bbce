"""JSON that somebody else wrote, field by field: each is read with its path, and all problems are found.

What is taken leniently is what gRPC takes: numbers may stand as texts, null is not there. What nobody took is noted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from stormproof.core.outcome import Code

_DURATION = re.compile(r"(\d{1,12}(\.\d{0,9})?|\.\d{1,9})s")
#: Seconds: ten thousand years (google.protobuf.Duration).
LONGEST = 315_576_000_000
#: Thirty years will do for more: a call with a timeout of 9e9 s ends at once in gRPC for Python (measured, 1.85.1).
ENOUGH = 1e9


class Findings:
    """What is wrong (`problems`), and what cannot be carried over as it stands (`notes`)."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._notes: dict[str, list[str]] = {}

    def note(self, path: str, said: str) -> None:
        """Something cannot be carried over. What is said of several places becomes one line."""
        self._notes.setdefault(said, []).append(path)

    @property
    def notes(self) -> tuple[str, ...]:
        """One line each: the paths, and what is done there."""
        return tuple(f"{', '.join(paths)}: {said}" for said, paths in self._notes.items())


class Fields:
    """One JSON object at `path`. Each field is taken once; `rest` notes those that were not."""

    def __init__(self, path: str, data: Mapping[str, Any], findings: Findings) -> None:
        self.path = path
        self.findings = findings
        self._left = {key: value for key, value in data.items() if value is not None}

    def at(self, name: str) -> str:
        """The path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def bad(self, name: str, must: str, value: object) -> None:
        """The field (or the object itself: "") is wrong."""
        self.findings.problems.append(f"{self.at(name) if name else self.path} must be {must}; got {value!r}")

    def note(self, name: str, said: str) -> None:
        """The field (or the object itself: "") cannot be carried over as it stands."""
        self.findings.note(self.at(name) if name else self.path, said)

    @property
    def names(self) -> list[str]:
        """The fields that nobody took yet."""
        return list(self._left)

    def drop(self, name: str, said: str) -> None:
        """Notes that the field is not carried over, if it is there."""
        if self._left.pop(name, None) is not None:
            self.note(name, said)

    def whole(self, name: str, low: int, default: int | None = None) -> int:
        """A whole number from `low` on. Without a default it must be there."""
        value = self._left.pop(name, default)
        number = int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value) else value
        if isinstance(number, int) and not isinstance(number, bool) and number >= low:
            return number
        self.bad(name, f"a whole number, {low} or more", value)
        return low

    def positive(self, name: str) -> float:
        """A number over 0. It must be there."""
        value = self._left.pop(name, None)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if number > 0 and math.isfinite(number):
            return number
        self.bad(name, "a number over 0, such as 2.0", value)
        return 1.0

    def seconds(self, name: str, *, needed: bool = False) -> float | None:
        """A length of time as JSON has it, "1.5s"; None if it is not there. What is `needed` is there, and over 0."""
        value = self._left.pop(name, None)
        told = float(value[:-1]) if isinstance(value, str) and _DURATION.fullmatch(value) else None
        if told is not None and told > LONGEST:
            told = None
        if not told if needed else told is None and value is not None:
            self.bad(name, f"a text of seconds, {'over' if needed else 'from'} 0 to {LONGEST}, such as '1.5s'", value)
        return told if told is None else min(told, ENOUGH)

    def flag(self, name: str) -> bool:
        """True or false; false if it is not there."""
        value = self._left.pop(name, False)
        if not isinstance(value, bool):
            self.bad(name, "true or false", value)
        return value is True

    def text(self, name: str) -> str:
        """A text; "" if it is not there."""
        value = self._left.pop(name, "")
        if not isinstance(value, str):
            self.bad(name, "a text", value)
        return str(value)

    def codes(self, name: str, *, needed: bool = False) -> frozenset[Code]:
        """Status codes by name or number. What is `needed` holds at least one."""
        told = self._list(name, "status codes")
        codes = [_code(value) for value in told]
        for index, code in enumerate(codes):
            if code is None:
                self.bad(f"{name}[{index}]", "a gRPC status code, such as 'UNAVAILABLE'", told[index])
        if needed and not codes:
            self.bad(name, "a list of at least one status code, such as 'UNAVAILABLE'", told)
        return frozenset(code for code in codes if code is not None)

    def object(self, name: str) -> Fields | None:
        """The object that the field holds; None if it is not there."""
        value = self._left.pop(name, None)
        if value is not None and not isinstance(value, Mapping):
            self.bad(name, "an object", value)
        return Fields(self.at(name), value, self.findings) if isinstance(value, Mapping) else None

    def objects(self, name: str) -> list[Fields]:
        """The objects that the field's list holds; none if it is not there."""
        found = []
        for index, value in enumerate(self._list(name, "objects")):
            if isinstance(value, Mapping):
                found.append(Fields(self.at(f"{name}[{index}]"), value, self.findings))
            else:
                self.bad(f"{name}[{index}]", "an object", value)
        return found

    def rest(self) -> None:
        """Notes the fields that nobody took."""
        for name in self._left:
            self.note(name, "not known here, and ignored, as gRPC does")

    def _list(self, name: str, of: str) -> list[Any]:
        value = self._left.pop(name, [])
        if isinstance(value, list | tuple):
            return list(value)
        self.bad(name, f"a list of {of}", value)
        return []


def _code(value: object) -> Code | None:
    if isinstance(value, str):
        return Code.__members__.get(value.upper())
    known = isinstance(value, int) and not isinstance(value, bool) and value in set(Code)
    return Code(value) if known else None  # type: ignore[arg-type]
