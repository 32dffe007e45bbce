"""What becomes of an answer to "where are the servers?": is it sound, whose part is it, is it news, when to ask again.

Law 1: an answer is taken whole or not at all; a bad one changes nothing. Law 2: an address is one endpoint, however often it
is named (gRFC A48). Law 3: only news is told, and the order of an answer is no news. Asking is a driver's business.

    a resolution ended well    the next one a period later
    it failed                  0.1 s later, then 0.2, 0.4 ... up to the period, until one ends well
    `soon` was asked for       a second after the last one ended, if that is earlier

Every wait is shortened by up to a tenth at random, so that clients which began together do not stay together.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
import re
from collections.abc import Iterable
from dataclasses import replace

from stormproof.core.endpoint import Endpoint

#: Seconds to the second try after the first failure in a row; then it doubles.
FIRST_WAIT = 0.1
#: Seconds between resolutions that `soon` asked for. (gRPC's own DNS resolver: 30.)
SOONEST = 1.0
#: The part of a wait that chance may take away.
JITTER = 0.1

#: "host:port", "[IPv6]:port", or the schemes that gRPC itself resolves. Texts come from files and registries: what is
#: cut off ("10.0.0.1:") or something else ("http://...", a line of YAML) must not become an endpoint.
_ADDRESS = re.compile(
    r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]):(?P<port>[0-9]{1,5})"
    r"|(?:unix|unix-abstract|vsock|dns|ipv4|ipv6|xds|google-c2p):\S+"
)


def endpoints_in(answer: Iterable[tuple[str, object]]) -> tuple[list[Endpoint], list[str]]:
    """The endpoints of an answer (pairs: where it stands, an address or `Endpoint`), and what is wrong with it.

    The weights of an address that is named more than once add up: "that is intended to indicate that the address
    should be more heavily weighted. However, it should not result in more than one connection" (gRFC A48).
    """
    found: dict[str, Endpoint] = {}
    problems: list[str] = []
    for where, value in answer:
        try:
            endpoint = _endpoint(value)
            known = found.get(endpoint.address)
            found[endpoint.address] = endpoint if known is None else _both(known, endpoint)
        except ValueError as error:
            problems.append(f"{where}: {error}")
    if not found and not problems:
        problems.append("no address is in it; at least one is needed, such as '10.0.0.1:50051'")
    return list(found.values()), problems


def _endpoint(value: object) -> Endpoint:
    endpoint = value if isinstance(value, Endpoint) else Endpoint(value)  # type: ignore[arg-type]  # it says so itself
    match = _ADDRESS.fullmatch(endpoint.address)
    if match is None or (match["port"] is not None and not 1 <= int(match["port"]) <= 65535):
        raise ValueError(
            f"address must be 'host:port' with a port from 1 to 65535, '[IPv6]:port' or 'unix:/path'; got {value!r}"
        )
    return endpoint


def _both(known: Endpoint, again: Endpoint) -> Endpoint:
    if replace(again, weight=known.weight) != known:
        raise ValueError(f"{known.address} is named before with other properties; got {again!r} after {known!r}")
    return replace(known, weight=known.weight + again.weight)


def subset(endpoints: Iterable[Endpoint], size: int, identity: str) -> list[Endpoint]:
    """The `size` endpoints of each priority tier that are for the client `identity`; all of a tier that has fewer.

    Rendezvous hashing (gRFC A68): they are those whose address, hashed with the identity, comes first. Each client
    draws on its own, so servers get equally many clients on average, and one address more or less changes at most one
    of a client's. By tier, because nobody should have only spare servers.
    """
    salted = hashlib.blake2b(identity.encode() + b"\0", digest_size=16)

    def place(endpoint: Endpoint) -> bytes:
        hashed = salted.copy()
        hashed.update(endpoint.address.encode())
        return hashed.digest()

    tiers: dict[int, list[Endpoint]] = {}
    for endpoint in endpoints:
        tiers.setdefault(endpoint.priority, []).append(endpoint)
    return [chosen for _, tier in sorted(tiers.items()) for chosen in heapq.nsmallest(size, tier, key=place)]


class Schedule:
    """When the next resolution is due, and whether what one found is news. Times as `now`, never going back.

    `due` is the moment of the next one: at once to begin with, and never while one is under way.
    """

    __slots__ = ("_asked", "_ended", "_period", "_rng", "_told", "_wait", "due")

    def __init__(self, period: float, rng: random.Random) -> None:
        self.due = -math.inf
        self._period = period
        self._rng = rng
        self._told: frozenset[Endpoint] = frozenset()
        self._wait = 0.0  # after the last failure; 0 after a success
        self._ended = -math.inf
        self._asked = False  # for another one, while one was under way

    @property
    def knows(self) -> bool:
        """Whether endpoints have been told."""
        return bool(self._told)

    def began(self) -> None:
        """A resolution has begun."""
        self.due = math.inf
        self._asked = False

    def found(self, endpoints: Iterable[Endpoint], now: float) -> bool:
        """It found these endpoints, at least one. True: they are news, and to be told."""
        self._wait = 0.0
        self._end(self._period, now)
        before, self._told = self._told, frozenset(endpoints)
        return self._told != before

    def failed(self, now: float) -> None:
        """It found nothing that can be used; what was told stays."""
        self._wait = min(self._period, 2 * self._wait or FIRST_WAIT)
        self._end(self._wait, now)

    def not_taken(self) -> None:
        """What was told last did not arrive: it will be news again."""
        self._told = frozenset()

    def soon(self, now: float) -> None:
        """Somebody has reason to think that the endpoints have changed."""
        if self.due == math.inf:
            self._asked = True
        else:
            self.due = min(self.due, max(now, self._ended + SOONEST))

    def _end(self, wait: float, now: float) -> None:
        self._ended = now
        self.due = now + wait * (1 - JITTER * self._rng.random())
        if self._asked:
            self.soon(now)
