"""Faults of a server's (or the client's) operating-system process. Healing starts or continues it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from faults.base import Fault, bounded, check


class ProcessFault(Fault):
    """A fault that a signal brings about."""

    __slots__ = ()
    kind = "process"


@dataclass(frozen=True, slots=True)
class Kill(ProcessFault):
    """SIGKILL: the process is gone in the middle of whatever it did. Healing starts it again on the same port."""


@dataclass(frozen=True, slots=True)
class Drain(ProcessFault):
    """SIGTERM: the server takes no new calls, tells its clients so (GOAWAY), finishes those in flight and is gone.

    What is left of it after `grace` seconds gets SIGKILL; a Hello server itself cancels what is still in flight after 5.
    Healing starts it again on the same port.
    """

    _: KW_ONLY
    grace: float = 5.0

    def __post_init__(self) -> None:
        check(self, bounded("grace", self.grace, 0, 3600, way_out="seconds"))


@dataclass(frozen=True, slots=True)
class Pause(ProcessFault):
    """SIGSTOP: the process keeps its connections and answers nothing. Healing is SIGCONT."""


@dataclass(frozen=True, slots=True)
class Restart(ProcessFault):
    """The process is stopped and started again on the same port, `downtime` seconds later.

    `graceful` is SIGTERM (finish what is in flight, up to 5 s, then exit); otherwise SIGKILL.
    """

    _: KW_ONLY
    downtime: float = 0.0
    graceful: bool = True

    def __post_init__(self) -> None:
        problems = bounded("downtime", self.downtime, 0, 3600, way_out="seconds")
        if not isinstance(self.graceful, bool):
            problems.append(f"graceful must be True or False; got {self.graceful!r}")
        check(self, problems)
