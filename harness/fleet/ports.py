"""Port numbers that stay ours while nobody listens on them.

A server that is down leaves its port free. Were it one of the kernel's ephemeral ports, any outgoing
connection could be given it meanwhile, and the restart would fail. So ports are drawn below that range, and
not given out twice.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
from pathlib import Path

from harness.fleet.errors import FleetError

_given: set[int] = set()
_rng = random.Random(os.urandom(8))


def free_port() -> int:
    """A loopback port that nobody listens on, below the ephemeral range. FleetError if none is found."""
    low, high = 10_000, _ephemeral() - 1
    for _ in range(1000):
        port = _rng.randint(low, high)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise FleetError(f"no free loopback port found from {low} to {high}: stop what listens there, and try again")


def _ephemeral() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return max(int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]), 11_000)
    return 32_768


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
