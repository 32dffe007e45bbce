"""How many files and connections another process may have open: its RLIMIT_NOFILE, changed from outside (prlimit, Linux)."""

from __future__ import annotations

import resource

import psutil

from harness.fleet.errors import FleetError


def limit(pid: int, left: int) -> int:
    """From now on the process may open `left` more than it has now; returns what its limit was. FleetError if it cannot be."""
    try:
        process = psutil.Process(pid)
        before, most = process.rlimit(resource.RLIMIT_NOFILE)
        process.rlimit(resource.RLIMIT_NOFILE, (min(process.num_fds() + left, before), most))
    except (psutil.Error, OSError, AttributeError) as error:
        raise FleetError(f"the descriptors of process {pid} cannot be limited: {error}") from error
    return before


def free(pid: int, before: int) -> None:
    """Gives it back what it might open before; one that has ended needs nothing."""
    try:
        process = psutil.Process(pid)
        process.rlimit(resource.RLIMIT_NOFILE, (before, process.rlimit(resource.RLIMIT_NOFILE)[1]))
    except psutil.NoSuchProcess:
        return
    except (psutil.Error, OSError) as error:
        raise FleetError(f"the descriptors of process {pid} cannot be freed: {error}") from error
