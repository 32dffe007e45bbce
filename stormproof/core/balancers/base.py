"""What a balancer is: a frozen configuration that makes a picker, and a picker that chooses one member a pick.

To write one's own: a frozen dataclass with `picker(rng)`, and a picker with `pick` and `load`. The pool counts the
attempts in flight (`member.in_flight`), ejects, avoids and tries; a picker only chooses among those it is given.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from stormproof.core.eligible import Eligible
    from stormproof.core.load import Load
    from stormproof.core.pool import Member


class Picker(Protocol):
    """The running state of a balancer, for one channel."""

    def pick(self, eligible: Eligible, now: float) -> Member:
        """One of `eligible.members`, of which there is at least one."""
        ...

    def load(self) -> Load | None:
        """A fresh load estimate for one member, or None if attempts in flight are all this balancer looks at."""
        ...


@runtime_checkable
class Balancer(Protocol):
    """The configuration of a balancer."""

    def picker(self, rng: random.Random) -> Picker: ...


class Unloaded:
    """A picker that needs no load estimate of its own."""

    __slots__ = ()

    def load(self) -> Load | None:
        return None
