"""Bad things, as values: what (network, process, server), to whom (target) and when (timeline).

Nothing here performs I/O. A fleet turns these values into toxics, signals and control messages.
"""

from faults.base import Fault
from faults.network import (
    Bandwidth,
    Blackhole,
    Latency,
    PacketLoss,
    Partition,
    Refuse,
    Reset,
    Slice,
    SlowClose,
    Toxic,
    Truncate,
)
from faults.process import CpuHog, Drain, FileDescriptors, Kill, MemoryLimit, Pause, Restart
from faults.server import ColdStart, Errors, Hang, MemoryHog, Overload, StaleHealth, WrongAnswer
from faults.target import Named, Some, Target, every, majority, named, one, some
from faults.timeline import Injection, at, during, every_so_often, rolling

__all__ = [
    "Fault",
    "Latency", "Bandwidth", "Blackhole", "Reset", "Refuse", "SlowClose", "Slice", "Truncate", "PacketLoss", "Partition",
    "Toxic",
    "Kill", "Drain", "Pause", "Restart", "CpuHog", "FileDescriptors", "MemoryLimit",
    "Errors", "Overload", "Hang", "WrongAnswer", "ColdStart", "StaleHealth", "MemoryHog",
    "Target", "Some", "Named", "one", "some", "majority", "every", "named",
    "Injection", "at", "during", "every_so_often", "rolling",
]  # fmt: skip
