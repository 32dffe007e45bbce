"""Faults of the network between client and server, and the toxics they are in Toxiproxy's API.

A fault speaks seconds, bytes and bytes a second; a toxic speaks Toxiproxy's units (ms, KB/s), and only here
are the two converted. `towards` names the end that the harmed bytes travel to: "client" harms replies,
"server" harms requests. In HTTP/2 both directions of one connection are needed for any call, so either one
hurts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field

from faults.base import Fault, acting, bounded, check, one_of, whole

TOWARDS = ("client", "server", "both")
_STREAM = {"client": ("downstream",), "server": ("upstream",), "both": ("upstream", "downstream")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxic:
    """One toxic of Toxiproxy's API: type, stream ("upstream" or "downstream") and attributes, mostly whole numbers.

    `tag` tells it from others of the same type and stream in one proxy: it ends its name.
    """

    type: str
    stream: str
    attributes: Mapping[str, float] = field(default_factory=dict, hash=False)
    tag: str = ""

    @property
    def name(self) -> str:
        return "_".join(["stormproof", self.type, self.stream, *([self.tag] if self.tag else [])])


def _milliseconds(seconds: float) -> int:
    # The least that is more than nothing is 1: a fault must not vanish by being rounded.
    return max(round(seconds * 1000), 1) if seconds > 0 else 0


class NetworkFault(Fault):
    """A fault that a proxy applies. `toxics()` is empty only for `Refuse`, which closes the listener instead."""

    __slots__ = ()
    kind = "network"

    def toxics(self) -> tuple[Toxic, ...]:
        raise NotImplementedError  # every subclass below has its own


@dataclass(frozen=True, slots=True)
class Latency(NetworkFault):
    """Every chunk of bytes arrives `delay` seconds late, give or take up to `jitter` seconds (uniform).

    One of the two is more than 0. Order is kept, so chunks behind a late one wait too. Two directions ("both") add up
    for a round trip. Toxiproxy: `latency`, whole milliseconds, at least 1 of what is not 0.
    """

    delay: float
    _: KW_ONLY
    jitter: float = 0.0
    towards: str = "client"

    def __post_init__(self) -> None:
        check(self, bounded("delay", self.delay, 0, 3600, way_out="seconds")
              + bounded("jitter", self.jitter, 0, 3600, way_out="seconds")
              + acting("delay or jitter", self.delay != 0 or self.jitter != 0)
              + one_of("towards", self.towards, TOWARDS))  # fmt: skip

    def toxics(self) -> tuple[Toxic, ...]:
        attributes = {"latency": _milliseconds(self.delay), "jitter": _milliseconds(self.jitter)}
        return tuple(Toxic(type="latency", stream=s, attributes=attributes) for s in _STREAM[self.towards])


@dataclass(frozen=True, slots=True)
class Bandwidth(NetworkFault):
    """At most `rate` bytes a second, for each connection and direction.

    1000 or more, because Toxiproxy's `bandwidth` is in whole KB/s (of 1000 bytes), and `rate` is rounded to it.
    """

    rate: float
    _: KW_ONLY
    towards: str = "both"

    def __post_init__(self) -> None:
        problems = bounded("rate", self.rate, 1000, way_out="bytes a second; use Blackhole() to stop all bytes")
        check(self, problems + one_of("towards", self.towards, TOWARDS))

    def toxics(self) -> tuple[Toxic, ...]:
        attributes = {"rate": round(self.rate / 1000)}
        return tuple(Toxic(type="bandwidth", stream=s, attributes=attributes) for s in _STREAM[self.towards])


@dataclass(frozen=True, slots=True)
class Blackhole(NetworkFault):
    """Bytes vanish and the connection stays open: nobody is told. Toxiproxy: `timeout` with timeout 0.

    `towards="client"` loses replies only: the servers do the work and nobody hears of it.
    Healing closes the connections it touched.
    """

    _: KW_ONLY
    towards: str = "both"

    def __post_init__(self) -> None:
        check(self, one_of("towards", self.towards, TOWARDS))

    def toxics(self) -> tuple[Toxic, ...]:
        return tuple(Toxic(type="timeout", stream=s, attributes={"timeout": 0}) for s in _STREAM[self.towards])


@dataclass(frozen=True, slots=True)
class Reset(NetworkFault):
    """A connection is torn down `after` seconds from the first bytes that cross it. Toxiproxy: `reset_peer`.

    With `towards="client"` it is the reply that tears it: the server has done the work, the caller gets an
    error. Connections that were already open get a FIN from the real Toxiproxy, new ones a RST.
    """

    _: KW_ONLY
    after: float = 0.0
    towards: str = "client"

    def __post_init__(self) -> None:
        check(
            self,
            bounded("after", self.after, 0, 3600, way_out="seconds") + one_of("towards", self.towards, TOWARDS),
        )

    def toxics(self) -> tuple[Toxic, ...]:
        attributes = {"timeout": _milliseconds(self.after)}
        return tuple(Toxic(type="reset_peer", stream=s, attributes=attributes) for s in _STREAM[self.towards])


@dataclass(frozen=True, slots=True)
class SlowClose(NetworkFault):
    """The end of a connection is heard `delay` seconds late: whoever waits for it holds on to a dead one meanwhile.

    Toxiproxy: `slow_close`. Bytes are not harmed, so it touches only what ends while it acts.
    """

    delay: float
    _: KW_ONLY
    towards: str = "client"

    def __post_init__(self) -> None:
        problems = bounded("delay", self.delay, 0, 3600, way_out="seconds") + acting("delay", self.delay != 0)
        check(self, problems + one_of("towards", self.towards, TOWARDS))

    def toxics(self) -> tuple[Toxic, ...]:
        attributes = {"delay": _milliseconds(self.delay)}
        return tuple(Toxic(type="slow_close", stream=s, attributes=attributes) for s in _STREAM[self.towards])


@dataclass(frozen=True, slots=True)
class Slice(NetworkFault):
    """Bytes arrive in pieces of `size` at most, give or take up to `variation`, `delay` seconds apart: frames torn anywhere.

    Toxiproxy: `slicer`, whole microseconds. It halves what is too long, so that pieces may be half of `size`.
    """

    size: int
    _: KW_ONLY
    variation: int = 0
    delay: float = 0.0
    towards: str = "both"

    def __post_init__(self) -> None:
        problems = whole("size", self.size, 1, 2**31 - 1, way_out="bytes")
        most = self.size - 1 if not problems else 2**31 - 2
        problems += whole("variation", self.variation, 0, most, way_out="bytes, less than size")
        problems += bounded("delay", self.delay, 0, 3600, way_out="seconds")
        check(self, problems + one_of("towards", self.towards, TOWARDS))

    def toxics(self) -> tuple[Toxic, ...]:
        microseconds = max(round(self.delay * 1e6), 1) if self.delay > 0 else 0
        attributes = {"average_size": self.size, "size_variation": self.variation, "delay": microseconds}
        return tuple(Toxic(type="slicer", stream=s, attributes=attributes) for s in _STREAM[self.towards])


@dataclass(frozen=True, slots=True)
class Truncate(NetworkFault):
    """Each connection carries `after` more bytes that way and is then closed, in the middle of whatever it carries.

    Toxiproxy: `limit_data`, which counts each connection from when it acts.
    """

    after: int
    _: KW_ONLY
    towards: str = "client"

    def __post_init__(self) -> None:
        problems = whole("after", self.after, 0, 10**11, way_out="bytes")
        check(self, problems + one_of("towards", self.towards, TOWARDS))

    def toxics(self) -> tuple[Toxic, ...]:
        return tuple(
            Toxic(type="limit_data", stream=s, attributes={"bytes": self.after}) for s in _STREAM[self.towards]
        )


@dataclass(frozen=True, slots=True)
class PacketLoss(NetworkFault):
    """Each chunk of bytes vanishes with probability `rate` (over 0 to 1), and what follows arrives: the stream is broken.

    `correlation` (0 to 1) is how much a loss makes the next one likely. What TCP would mend is lost for good here, as
    behind a proxy that drops what it has accepted. Toxiproxy: `packet_loss`, which its releases up to 2.12 do not
    have; the built-in proxy does (STORMPROOF_TOXIPROXY=builtin).
    """

    rate: float
    _: KW_ONLY
    correlation: float = 0.0
    towards: str = "both"

    def __post_init__(self) -> None:
        problems = bounded("rate", self.rate, 0, 1, way_out="a fraction") + acting("rate", self.rate != 0)
        problems += bounded("correlation", self.correlation, 0, 1, way_out="a fraction")
        check(self, problems + one_of("towards", self.towards, TOWARDS))

    def toxics(self) -> tuple[Toxic, ...]:
        attributes = {"loss_rate": self.rate, "correlation": self.correlation}
        return tuple(Toxic(type="packet_loss", stream=s, attributes=attributes) for s in _STREAM[self.towards])


@dataclass(frozen=True, slots=True)
class Partition(NetworkFault):
    """The server is cut off: bytes and new connections vanish both ways, and nobody is told.

    Of a container it is true: it is disconnected from its network, and connected again; connections that outlive that go
    on. Elsewhere it is what `Blackhole()` does, and healing closes the connections it touched.
    """

    def toxics(self) -> tuple[Toxic, ...]:
        return Blackhole().toxics()


@dataclass(frozen=True, slots=True)
class Refuse(NetworkFault):
    """New connections are refused and open ones are closed. Toxiproxy: the proxy is disabled."""

    def toxics(self) -> tuple[Toxic, ...]:
        return ()
