"""By what each fault acts on real servers, and what undoes it; docs/reference.md shows it as a table."""

from __future__ import annotations

from dataclasses import dataclass

from faults import (
    Bandwidth,
    Blackhole,
    ColdStart,
    CpuHog,
    Drain,
    Errors,
    Fault,
    FileDescriptors,
    Hang,
    Kill,
    Latency,
    MemoryHog,
    MemoryLimit,
    Overload,
    PacketLoss,
    Partition,
    Pause,
    Refuse,
    Reset,
    Restart,
    Slice,
    SlowClose,
    StaleHealth,
    Truncate,
    WrongAnswer,
)
from faults.network import NetworkFault
from faults.server import ServerFault


@dataclass(frozen=True, slots=True)
class Mechanism:
    """In a few words each: by what it acts, how it is undone, and by what it is known to have acted."""

    by: str
    undone: str
    seen: str


_TOXIC = "the toxic is removed"
_AGAIN = "the process is started again, on the same port"
_ORDER = "the server is told to stop it"
_TRAFFIC = "the calls under way on it meanwhile"

_BY = {
    Latency: "toxic `latency`",
    Bandwidth: "toxic `bandwidth`",
    Blackhole: "toxic `timeout` with timeout 0",
    Reset: "toxic `reset_peer`",
    Refuse: "the proxy is disabled",
    SlowClose: "toxic `slow_close`",
    Slice: "toxic `slicer`",
    Truncate: "toxic `limit_data`",
    PacketLoss: "toxic `packet_loss` (built-in proxy)",
    Partition: "toxic `timeout` with timeout 0; of a container, network disconnect",
    Kill: "SIGKILL",
    Drain: "SIGTERM, then SIGKILL",
    Pause: "SIGSTOP; of a container, the freezer",
    Restart: "SIGTERM or SIGKILL, and a start",
    CpuHog: "SIGSTOP and SIGCONT, ten times a second; of a container, its quota",
    FileDescriptors: "RLIMIT_NOFILE (prlimit)",
    MemoryLimit: "the memory limit of the container's control group",
}
_UNDONE = {
    Refuse: "the proxy is enabled",
    Partition: "the toxic is removed; of a container, network connect",
    Kill: _AGAIN,
    Drain: _AGAIN,
    Pause: "SIGCONT",
    Restart: "over by itself",
    CpuHog: "SIGCONT for good",
    FileDescriptors: "the old limit is set",
    MemoryLimit: "the old limit is set (or the machine's memory), and a start",
}
_SAYS = {
    Errors: "errors",
    Overload: "delayed and refused calls",
    Hang: "calls left hanging",
    WrongAnswer: "wrong answers",
    ColdStart: "calls while it was cold",
    StaleHealth: "untrue answers about its health",
    MemoryHog: "calls meanwhile",
}


def mechanism(fault: type[Fault]) -> Mechanism:
    """That of this class of faults. KeyError for one that has none: it must be entered here."""
    if issubclass(fault, ServerFault):
        return Mechanism("an order to the server (control.proto)", _ORDER, f"its own count of {_SAYS[fault]}")
    seen = _TRAFFIC
    if issubclass(fault, NetworkFault) and fault is not Refuse:
        seen = f"the built-in proxy's count of the toxic; else {_TRAFFIC}"
    return Mechanism(_BY[fault], _UNDONE.get(fault, _TOXIC), seen)
