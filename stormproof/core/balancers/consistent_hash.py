"""Calls with the same key go to the same member, and a member that comes or goes moves only its own keys.

Each member owns points of a ring, by its weight; a key belongs to the next point round from its hash (Karger 1997;
ketama; gRFC A42). Positions are hashes of texts, so every client finds the same member without asking. A key everybody
wants would drown its member, so each takes at most `bound` times its fair share of the calls in flight, and the next
one round takes the rest (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016; HAProxy;
Envoy).

Members that may not be picked just now stay on the ring and are walked past, which finds the same member as a ring
without them: an ejection and a retry cost no ring. They leave when they own more of it than the others.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from struct import Struct, unpack
from typing import TYPE_CHECKING, Any

from stormproof.core.balancers.base import KeyedPicker, Metadata
from stormproof.core.check import complain, number

if TYPE_CHECKING:
    from stormproof.core.eligible import Eligible
    from stormproof.core.load import Load
    from stormproof.core.outcome import Outcome
    from stormproof.core.pool import Flight, Member

#: Most points of a ring: beyond it all members have half as many, or a quarter ... It takes about 1.5 s to build.
LARGEST_RING = 2**21

# A point is one float: a hash of 33 bits above the place of its owner in 20 bits, so that owners need no table.
_HASH = (2**33 - 1) << 31
_PLACE = 2**20 - 1
_SHIFT = 11

_HEADER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
_ONE = Struct("<Q").unpack_from


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistentHash:
    """The same key, the same endpoint: for caches and sessions. The key is `header` or `key`, exactly one of them.

    header  name of the metadata of a call whose (first) value is the key, in lower case.
    key     function of (request, metadata) that gives the key, or None for a call without one. `request` is None for a
            client stream, `metadata` None if the caller sent none. Asked once a call, so it should be quick.
    bound   an endpoint takes at most ceil(bound * its share by weight of the channel's calls in flight, this one in);
            what is more goes on to the next one round the ring (1 or more; default 1.25; None for no bound). So with
            fewer calls in flight than endpoints, two calls of one key at the same moment go to different ones.
    points  on the ring, for an endpoint of weight 1 (1 to 10 000; default 128). One of weight w has w times as many
            (and at least one), so weights should be small numbers, and its share of the keys strays from its weight's
            by a relative standard deviation of 1 / sqrt(points): 9 %, or 3 % for 1000.

    A call without a key goes to a random endpoint by weight; it counts for the bound and is not held to it. A retry
    goes to the next one round the ring that was not tried yet, be it full. The first call after an endpoint came costs
    about 10 ns a point of the whole ring.
    """

    header: str | None = None
    key: Callable[[Any, Metadata | None], str | None] | None = None
    bound: float | None = 1.25
    points: int = 128

    def __post_init__(self) -> None:
        header: object = self.header
        problems = []
        if (header is None) == (self.key is None):
            problems.append(
                "one of header and key must be given, such as header='user-id', and not both; "
                f"got header={header!r} and key={self.key!r}"
            )
        if header is not None and not (isinstance(header, str) and header and _HEADER.issuperset(header)):
            problems.append(f"header must be a metadata name in lower case, such as 'user-id'; got {header!r}")
        if self.key is not None and not callable(self.key):
            problems.append(f"key must be a function of (request, metadata); got {self.key!r}")
        if self.bound is not None:
            problems += number("bound", self.bound, 1, unit="times the fair share, or None for no bound")
        problems += number("points", self.points, 1, 10_000, unit="on the ring for weight 1", whole=True)
        complain(self, problems)

    def key_of(self, request: Any, metadata: Metadata | None) -> str | None:
        """The key of a call. TypeError if the function gives anything but a text or None."""
        if self.key is not None:
            key: object = self.key(request, metadata)
            if key is None or isinstance(key, str):
                return key
            raise TypeError(f"ConsistentHash: key must give a text, or None for no key; got {key!r}")
        for name, value in metadata or ():
            if name == self.header:
                return value if isinstance(value, str) else value.decode("latin-1")
        return None

    def picker(self, rng: random.Random) -> KeyedPicker:
        return _RingPicker(self, rng)


class _RingPicker:
    """The ring, and as the `Load` of every member the count of calls in flight on those that may be picked."""

    __slots__ = (
        "_bound", "_count", "_eligible", "_flying", "_live", "_owners", "_points", "_ring", "_rng", "_weight",
    )  # fmt: skip

    def __init__(self, config: ConsistentHash, rng: random.Random) -> None:
        self._bound = config.bound
        self._points = config.points
        self._rng = rng
        self._eligible: Eligible | None = None  # what the following is about
        self._live: set[Member] = set()
        self._flying = 0  # calls in flight on the live ones
        self._weight = 0.0  # of the live ones together
        self._ring = array("d")  # points in order
        self._owners: list[Member | None] = []  # by place
        self._count: dict[Member, int] = {}  # points of each on the ring

    def pick(self, eligible: Eligible, now: float) -> Member:  # noqa: ARG002
        return eligible.draw(self._rng)

    def pick_for(self, key: str, eligible: Eligible, tried: Sequence[Member], now: float) -> Member:  # noqa: ARG002
        if eligible is not self._eligible:
            self._turn_to(eligible)
        ring = self._ring
        at = bisect(ring, float(_ONE(blake2b(key.encode("utf-8", "surrogatepass")).digest())[0]))
        if at == len(ring):
            at = 0
        member = self._owners[int(ring[at]) >> _SHIFT & _PLACE]
        if member in self._live and not tried and (not member.in_flight or self._has_room(member)):
            return member
        return self._walk(at, tried)

    def load(self) -> Load | None:
        return None if self._bound is None else self

    def started(self, flight: Flight, now: float) -> None:  # noqa: ARG002
        self._flying += flight.member in self._live

    def finished(self, flight: Flight, outcome: Outcome, now: float) -> None:  # noqa: ARG002
        self._flying -= flight.member in self._live

    def _has_room(self, member: Member) -> bool:
        """Whether one more call keeps it within its cap; a whole number is under ceil(x) where it is under x."""
        if self._bound is None:
            return True
        return member.in_flight * self._weight < self._bound * (self._flying + 1) * (member.endpoint.weight or 1.0)

    def _walk(self, at: int, tried: Sequence[Member]) -> Member:
        """The first one round the ring with room and untried; else the first untried; else the first with room, if any."""
        ring, owners, live = self._ring, self._owners, self._live
        seen: set[Member] = set()
        full = spare = None
        for index in chain(range(at, len(ring)), range(at)):
            member = owners[int(ring[index]) >> _SHIFT & _PLACE]
            if member not in live or member in seen:
                continue
            room = self._has_room(member)
            if member in tried:
                if spare is None or (room and not self._has_room(spare)):
                    spare = member
            elif room:
                return member
            elif full is None:
                full = member
            seen.add(member)
            if len(seen) == len(live):
                break
        found = full or spare
        assert found is not None  # an eligible is never empty
        return found

    def _turn_to(self, eligible: Eligible) -> None:
        """Another set of members may be picked: those not on the ring yet join it."""
        members = eligible.members
        weight = self._weight = sum(member.endpoint.weight or 1.0 for member in members)
        self._eligible = eligible
        self._live = set(members)
        self._flying = sum(member.in_flight for member in members)
        per = float(self._points)
        while per * weight > LARGEST_RING:  # in halves, so that it is rarely done: it moves keys of all members
            per /= 2
        wanted = {member: max(1, round(per * (member.endpoint.weight or 1.0))) for member in members}
        for member in members:
            if self._count.get(member, wanted[member]) != wanted[member]:
                self._owners[self._owners.index(member)] = None  # it joins anew
                del self._count[member]
        joining = {member: wanted[member] for member in members if member not in self._count}
        if len(self._ring) + sum(joining.values()) > 2 * sum(wanted.values()):
            self._ring, self._owners, self._count, joining = array("d"), [], {}, wanted
        if joining:
            self._join(joining)

    def _join(self, joining: dict[Member, int]) -> None:
        points = list(self._ring)
        for member in sorted(joining, key=lambda member: member.endpoint.address):  # ties go alike for all clients
            points += _points(member.endpoint.address, joining[member], len(self._owners))
            self._owners.append(member)
        points.sort()
        self._ring = array("d", points)
        self._count.update(joining)


def _points(address: str, count: int, place: int) -> list[float]:
    """The first `count` points of an address, for the owner at `place`. A hash makes eight."""
    text, low = address.encode(), place << _SHIFT
    blocks = range((count + 7) // 8)
    hashes = b"".join([blake2b(b"%d %s" % (block, text)).digest() for block in blocks])
    return [float(number & _HASH | low) for number in unpack(f"<{count}Q", hashes[: 8 * count])]
