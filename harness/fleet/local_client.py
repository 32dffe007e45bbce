"""The client's process of a local fleet: it can be killed and paused as servers can, and started again."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path

from faults import Fault, Kill, Pause, Restart
from harness.client import DONE
from harness.fleet.errors import FleetError
from harness.fleet.keeper import Process
from harness.fleet.victim import Victim
from harness.workload import Batch, Streams, Workload

#: Seconds until a stopped process has stopped.
STOP = 2.0


def cannot(fault: Fault, workload: Workload | None = None) -> str | None:
    """Why `fault` cannot be done to a client (with this workload), or None if it can."""
    if not isinstance(fault, Kill | Pause | Restart):
        return f"{fault} cannot act on the client: only Kill, Pause and Restart can"
    if workload is None or isinstance(workload, Batch):
        return None
    if not isinstance(workload, Streams):
        return f"{fault} on the client needs a Batch or Streams, the only workloads that can be taken up again"
    # What is due while the client is stopped begins late, and nobody could say whose doing that is.
    return f"{fault} on the client needs a Batch: Streams would begin late" if isinstance(fault, Pause) else None


class LocalClient(Victim):
    """Started by `start(generation)`: with 0 at once, and with the next number whenever it was killed and is healed."""

    def __init__(self, start: Callable[[int], Process], log: Path) -> None:
        super().__init__("client")
        self._start = start
        self._log = log
        self._generation = 0
        self._down = False  # by a fault
        self._process = start(0)

    def told(self, timeout: float) -> str | None:
        """The line that it says when it is ready; None if it ends first, or says nothing for `timeout` seconds."""
        with contextlib.suppress(FleetError):
            return self._process.told(timeout)
        return None

    def over(self, seconds: float) -> bool:
        """Waits up to `seconds`; whether the client has ended by itself."""
        if self._down:
            time.sleep(seconds)
            return False
        with contextlib.suppress(TimeoutError):
            self._process.wait(seconds)
            return not self._down
        return False

    def close(self) -> None:
        """SIGKILLs it if it is alive."""
        self._process.close()

    def problems(self) -> list[str]:
        """Why the end that it made by itself was not a good one; empty if it was."""
        status = self._process.wait(0)
        through = status == 0 and self.told(0) == DONE
        return [] if through else [self.fate() if status else "the client ended with status 0 before it was through"]

    def fate(self) -> str:
        """How it ended, if it has, and its last words."""
        what = "is still running" if self._process.alive else f"ended with status {self._process.wait()}"
        return f"the client {what}: {_last_words(self._log)}"

    def _apply(self, fault: Fault, tag: str) -> float:  # noqa: ARG002
        if reason := cannot(fault):
            raise FleetError(reason)
        now = time.monotonic()
        if isinstance(fault, Pause):
            self._process.signal(signal.SIGSTOP)
            return max(now, self._process.stopped(STOP))
        if not self._down and not self._process.alive:
            raise FleetError("the client was through before it could be killed; give it more items, or kill it earlier")
        self._down = True
        self._process.close()
        began = max(now, self._process.exited_at or now)
        if isinstance(fault, Restart):
            time.sleep(fault.downtime)
            self._revive()
        return began

    def _heal(self, fault: Fault, tag: str) -> None:  # noqa: ARG002
        if not isinstance(fault, Pause):
            self._revive()
        elif not self._suffers(Pause):
            self._process.signal(signal.SIGCONT)

    def _revive(self) -> None:
        if self._down and not self._suffers(Kill):
            self._generation += 1
            self._process = self._start(self._generation)
            self._down = False


def _last_words(log: Path) -> str:
    """The last line of `log`; of a traceback also where it was."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    places = [line.strip() for line in lines if line.startswith('  File "')]
    return f"{lines[-1]}" + f" ({places[-1]})" * bool(places) if lines else "it said nothing"
