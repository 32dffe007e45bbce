"""How the harness learns that a server it spawned answers: it says so on the descriptor that leads here."""

from __future__ import annotations

from msgspec import json

from harness.fleet.keeper import Process
from harness.node.server import Ready


def wait_ready(process: Process, *, timeout: float = 15.0) -> Ready:
    """The ports of a server spawned as `harness.node.server:serve` with `ready_fd` 3 (keeper_child.TELL_FD).

    Returns as soon as it listens. FleetError, with the last lines of its log, if it ends first or is not
    ready after `timeout` seconds.
    """
    return json.decode(process.told(timeout), type=Ready)
