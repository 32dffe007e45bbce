"""Bad things, as values: what (network, process, server), to whom (target) and when (timeline).

Nothing here performs I/O. A fleet turns these values into toxics, signals and control messages.
"""

from faults.base import Fault
from faults.network import Bandwidth, Blackhole, Latency, Refuse, Reset, Toxic
from faults.process import Drain, Kill, Pause, Restart
from faults.server import Errors, Overload
from faults.target import Named, Some, Target, every, majority, named, one, some
from faults.timeline import Injection, at, during, every_so_often

__all__ = [
    "Fault",
    "Latency", "Bandwidth", "Blackhole", "Reset", "Refuse", "Toxic",
    "Kill", "Drain", "Pause", "Restart",
    "Errors", "Overload",
    "Target", "Some", "Named", "one", "some", "majority", "every", "named",
    "Injection", "at", "during", "every_so_often",
]  # fmt: skip
