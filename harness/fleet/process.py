"""One process that the keeper started, as the harness sees it: its state, and what can be done to it."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from harness.fleet.errors import FleetError
from harness.fleet.keeper_messages import Continued, Event, Exited, Failed, Started, Stopped, Told

_CLOSE_SECONDS = 10.0


class WaitFor(Protocol):
    """Whether something `happened` within `timeout` seconds; FleetError when the keeper is gone."""

    def __call__(self, happened: Callable[[], object], timeout: float | None) -> bool: ...


class Process:
    """The leader of a process group of its own, made by `Keeper.spawn` and `Keeper.execute`.

    Every method may be called from any thread, and raises FleetError once the keeper has died with it: the
    kernel has then killed this process, but nobody saw how it ended.
    """

    def __init__(self, what: str, log: Path, *, send: Callable[[int], bool], wait_for: WaitFor) -> None:
        self.log = log
        self.what = what
        self.refused = ""
        self._send = send
        self._wait_for = wait_for
        self._pid = 0
        self._stopped_at: float | None = None
        self._exit: Exited | None = None
        self._told: deque[str] = deque()

    def __repr__(self) -> str:
        return f"<Process {self._pid}: {self.what}>"

    @property
    def pid(self) -> int:
        """Its process id; 0 before it was started."""
        return self._pid

    @property
    def alive(self) -> bool:
        """Whether it has not been seen to end."""
        return not self._ended(0)

    @property
    def exited_at(self) -> float | None:
        """When (time.monotonic()) the keeper saw it end; None while it is alive."""
        return None if self._exit is None else self._exit.at

    def signal(self, signum: int) -> bool:
        """Sends `signum` to its process group; returns False, and sends nothing, if it has ended.

        After SIGCONT it runs when this returns; for SIGSTOP see `stopped`, for SIGKILL `wait`.
        """
        return self._exit is None and self._send(signum)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status once it has ended; negative for a signal. TimeoutError after `timeout` seconds."""
        if not self._ended(timeout) or self._exit is None:
            raise TimeoutError(f"{self!r} was still running after {timeout:g} s; its log is {self.log}")
        return self._exit.code

    def stopped(self, timeout: float) -> float:
        """Waits until a SIGSTOP has taken effect on all of its threads and returns when (time.monotonic()).

        TimeoutError after `timeout` seconds; FleetError if it has ended instead.
        """
        self._wait_for(lambda: self._stopped_at or self._exit, timeout)
        if not self.alive:
            raise FleetError(f"{self!r} cannot be stopped: it has ended with status {self.wait()}")
        if self._stopped_at is None:
            raise TimeoutError(f"{self!r} was not stopped after {timeout:g} s")
        return self._stopped_at

    def told(self, timeout: float) -> str:
        """The next line that a spawned function wrote to descriptor 3 (`keeper_child.TELL_FD`).

        FleetError, with the end of its log, if it ends first or says nothing for `timeout` seconds.
        """
        self._wait_for(lambda: self._told or self._exit, timeout)
        if self._told:
            return self._told.popleft()
        if self._exit is not None:
            fate = f"ended with status {self._exit.code} before it said that it is ready"
        else:
            fate = f"did not say within {timeout:g} s that it is ready"
        raise FleetError(f"{self.what} (pid {self._pid}) {fate}; {self.log} ends:\n{_last_lines(self.log)}")

    def close(self) -> None:
        """SIGKILLs its group if it is alive and waits until it has ended. May be called again."""
        if self.signal(signal.SIGKILL):
            self.wait(_CLOSE_SECONDS)

    def take(self, event: Event) -> None:
        """What the keeper reports of it; called by `Keeper` only, with its lock held."""
        match event:
            case Started():
                self._pid = event.pid
            case Failed():
                self.refused = event.why
            case Told():
                self._told.append(event.line)
            case Stopped():
                self._stopped_at = event.at
            case Continued():
                self._stopped_at = None
            case Exited():
                self._exit = event

    def _ended(self, timeout: float | None) -> bool:
        return self._exit is not None or self._wait_for(lambda: self._exit, timeout)


def _last_lines(log: Path, count: int = 10) -> str:
    """The last `count` lines of `log`, each indented, to stand in an error message."""
    lines = log.read_text(errors="replace").splitlines()[-count:] if log.exists() else []
    return "\n".join(f"    {line}" for line in lines) or "    (nothing)"
