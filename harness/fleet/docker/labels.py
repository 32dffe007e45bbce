"""By which labels containers, networks and volumes are known, and whose they are.

What a run makes has its owner's label. What it only borrows (containers of a compose project) cannot be given one, so a
volume that is empty stands for it, and says in its own labels what there is to put back or to remove. So a run that was
killed has left all that `stormproof clean` must know with the engine, and in no file.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

import psutil

OWNER, ROLE = "stormproof.owner", "stormproof.role"
#: Of a volume: the compose project that was brought up; and what was borrowed, as JSON.
BROUGHT_UP, BORROWED = "stormproof.brought-up", "stormproof.borrowed"
PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"
NUMBER, FILES = "com.docker.compose.container-number", "com.docker.compose.project.config_files"


def owner() -> str:
    """A new owner: this process, in a form by which others can tell whether it is alive."""
    return f"{_place()}-{os.getpid()}-{_started(os.getpid())}-{secrets.token_hex(3)}"


def alive(owner: str) -> bool | None:
    """Whether the owner's process is alive; None where that cannot be seen from here (it was in a container, or elsewhere)."""
    place, pid, started = owner.rsplit("-", 3)[:3]
    if place != _place():
        return None
    return _started(int(pid)) == int(started)


def _place() -> str:
    """This boot of this machine, and the space in which its process ids are."""
    boot, pids = "unknown", "0"
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
        pids = str(os.stat("/proc/self/ns/pid").st_ino)
    return f"{boot}-{pids}"


def _started(pid: int) -> int:
    with suppress(psutil.Error):
        return int(psutil.Process(pid).create_time() * 100)
    return -1
