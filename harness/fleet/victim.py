"""What a fault acts on, a server or the client: faults come and go on it, and none ends what another began.

Each fault that is applied has a tag of its own for as long as it acts, so that two of one kind, even two that are
equal, can overlap. Faults of one kind take turns: a kill in the middle of a restart waits until that is through.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from faults import Fault


@dataclass(slots=True)
class _Kind:
    """The faults of one kind that act, each with its tag."""

    turn: threading.Lock = field(default_factory=threading.Lock)
    acting: list[tuple[Fault, str]] = field(default_factory=list)


class Victim:
    """What servers and client share. They say how a fault is applied, healed and counted: `_apply`, `_heal`, `_touched`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._kinds: dict[str, _Kind] = {}
        self._tags: Iterator[int] = count(1)

    def apply(self, fault: Fault) -> float:
        """Lets `fault` act; returns when it was seen to (time.monotonic()). FleetError or ToxiproxyError if it cannot."""
        kind = self._kind(fault)
        with kind.turn:
            tag = str(next(self._tags))
            kind.acting.append((fault, tag))
            return self._apply(fault, tag)

    def heal(self, fault: Fault) -> float:
        """Ends what one `apply` of it began, as far as that came; returns when it was seen to be over."""
        kind = self._kind(fault)
        with kind.turn:
            tag = self._tag(fault)
            if tag is not None:
                kind.acting.remove((fault, tag))
                self._heal(fault, tag)
            return time.monotonic()

    def touched(self, fault: Fault) -> int | None:
        """How often it was counted to act since it was applied; None where only the traffic can tell."""
        with self._kind(fault).turn:
            tag = self._tag(fault)
            return None if tag is None else self._touched(fault, tag)

    def _apply(self, fault: Fault, tag: str) -> float:
        raise NotImplementedError  # servers and client have their own

    def _heal(self, fault: Fault, tag: str) -> None:
        raise NotImplementedError  # servers and client have their own

    def _touched(self, fault: Fault, tag: str) -> int | None:  # noqa: ARG002
        return None

    def _suffers(self, fault: type[Fault]) -> bool:
        """Whether a fault of this class acts; for use in one's turn."""
        return any(isinstance(acting, fault) for acting, _ in self._kinds.get(fault.kind, _Kind()).acting)

    def _kind(self, fault: Fault) -> _Kind:
        return self._kinds.setdefault(fault.kind, _Kind())

    def _tag(self, fault: Fault) -> str | None:
        return next((tag for acting, tag in self._kind(fault).acting if acting == fault), None)
