"""Faults inside a server: it is there, it listens, and it does the wrong thing. Told through control.proto."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from faults.base import Fault, acting, bounded, check, one_of, whole

#: The status names of gRPC that an error may have (all but OK).
CODES = (
    "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
    "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip


class ServerFault(Fault):
    """A fault that only a server which serves control.proto can be told to have."""

    __slots__ = ()
    kind = "server"


@dataclass(frozen=True, slots=True)
class Errors(ServerFault):
    """Calls are answered at once, without any work, with the status `code`, at this `rate` (over 0 to 1)."""

    rate: float = 1.0
    _: KW_ONLY
    code: str = "UNAVAILABLE"

    def __post_init__(self) -> None:
        problems = bounded("rate", self.rate, 0, 1, way_out="a fraction") + acting("rate", self.rate != 0)
        check(self, problems + one_of("code", self.code, CODES))


@dataclass(frozen=True, slots=True)
class Overload(ServerFault):
    """Capacity is gone: each call takes `delay` seconds longer, and above `limit` calls at once it is refused.

    The refusal is RESOURCE_EXHAUSTED. `limit` 0 refuses nothing, and then `delay` is more than 0.
    """

    limit: int
    _: KW_ONLY
    delay: float = 0.0

    def __post_init__(self) -> None:
        problems = whole("limit", self.limit, 0, 1_000_000, way_out="calls at once; 0 is no limit")
        problems += bounded("delay", self.delay, 0, 3600, way_out="seconds")
        check(self, problems + acting("limit or delay", self.limit != 0 or self.delay != 0))


@dataclass(frozen=True, slots=True)
class Hang(ServerFault):
    """Calls are taken and never answered, at this `rate` (over 0 to 1); each holds on until its caller goes."""

    rate: float = 1.0

    def __post_init__(self) -> None:
        check(self, bounded("rate", self.rate, 0, 1, way_out="a fraction") + acting("rate", self.rate != 0))


@dataclass(frozen=True, slots=True)
class WrongAnswer(ServerFault):
    """Calls are answered OK, and with what was not asked for, at this `rate` (over 0 to 1)."""

    rate: float = 1.0

    def __post_init__(self) -> None:
        check(self, bounded("rate", self.rate, 0, 1, way_out="a fraction") + acting("rate", self.rate != 0))


@dataclass(frozen=True, slots=True)
class ColdStart(ServerFault):
    """Caches are cold: calls take `delay` seconds longer, fading evenly to nothing within `lasting` seconds.

    It counts from when the fault begins to act, and anew from each start of the server's process meanwhile.
    """

    delay: float
    _: KW_ONLY
    lasting: float = 5.0

    def __post_init__(self) -> None:
        problems = bounded("delay", self.delay, 0, 3600, way_out="seconds") + acting("delay", self.delay != 0)
        problems += bounded("lasting", self.lasting, 0, 3600, way_out="seconds")
        check(self, problems + acting("lasting", self.lasting != 0))


@dataclass(frozen=True, slots=True)
class StaleHealth(ServerFault):
    """The standard health service says `serving`, whatever is true: of a server that serves that it does not, by default.

    With True it is the other lie: a server that fails its calls, or drains, still says that it serves.
    """

    _: KW_ONLY
    serving: bool = False

    def __post_init__(self) -> None:
        check(self, [] if isinstance(self.serving, bool) else [f"serving must be True or False; got {self.serving!r}"])


@dataclass(frozen=True, slots=True)
class MemoryHog(ServerFault):
    """The server holds `size` bytes more than it needs, each page of them written to."""

    size: int

    def __post_init__(self) -> None:
        check(self, whole("size", self.size, 1, 10**11, way_out="bytes"))
