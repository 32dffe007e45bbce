"""What a balancer is: a frozen configuration that makes a picker, and a picker that chooses one member a pick.

To write one's own: a frozen dataclass with `picker(rng)`, and a picker with `pick` and `load`. The pool counts the
attempts in flight (`member.in_flight`), ejects, avoids and tries; a picker only chooses among those it is given.
One that chooses by a key of the call has `key_of` as well, and its picker `pick_for`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from stormproof.core.eligible import Eligible
    from stormproof.core.load import Load
    from stormproof.core.pool import Member

#: What the caller of a method sends along: names, in lower case, and values (bytes where the name ends in "-bin").
Metadata = Sequence[tuple[str, str | bytes]]


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


class KeyedPicker(Picker, Protocol):
    """The running state of a keyed balancer. `pick` serves the calls that have no key."""

    def pick_for(self, key: str, eligible: Eligible, tried: Sequence[Member], now: float) -> Member:
        """One of `eligible.members` for this key; one in `tried` only if there is no other.

        `eligible` is the same object until the set changes, so what is costly to make of it can be kept.
        """
        ...


@runtime_checkable
class Keyed(Balancer, Protocol):
    """The configuration of a balancer that looks at what is called, not only at who can answer."""

    def picker(self, rng: random.Random) -> KeyedPicker: ...

    def key_of(self, request: Any, metadata: Metadata | None) -> str | None:
        """The key of a call, or None if it has none. `request` is None for a client stream."""
        ...


class Unloaded:
    """A picker that needs no load estimate of its own."""

    __slots__ = ()

    def load(self) -> Load | None:
        return None
