"""Faults of a server's (or the client's) operating-system process. Healing starts or continues it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from faults.base import Fault, bounded, check, whole


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


@dataclass(frozen=True, slots=True)
class CpuHog(ProcessFault):
    """Something else takes `share` (0.01 to 0.99) of the processor's time: the process runs in slices.

    Of every tenth of a second it is stopped (SIGSTOP) for that share, and continued (SIGCONT) for the rest, as a
    container is that has used up its quota.
    """

    share: float

    def __post_init__(self) -> None:
        check(self, bounded("share", self.share, 0.01, 0.99, way_out="a fraction; Pause() takes all of it"))


@dataclass(frozen=True, slots=True)
class FileDescriptors(ProcessFault):
    """The process may open `left` files and connections more than it has open now, then no others: EMFILE.

    The kernel still takes connections for it, so that clients wait for a word that does not come. The limit is
    RLIMIT_NOFILE; healing puts it back.
    """

    _: KW_ONLY
    left: int = 0

    def __post_init__(self) -> None:
        check(self, whole("left", self.left, 0, 1_000_000, way_out="files and connections"))


@dataclass(frozen=True, slots=True)
class MemoryLimit(ProcessFault):
    """The container may use `left` bytes more than it uses now; a process that needs more is killed by the kernel.

    Its control group's limit, so only of containers. Healing takes the limit away, and starts again what was killed.
    """

    left: int

    def __post_init__(self) -> None:
        check(self, whole("left", self.left, 0, 10**12, way_out="bytes"))
