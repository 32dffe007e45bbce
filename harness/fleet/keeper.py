"""The harness's side of the keeper: starts processes, signals them, and learns when they stop, speak and end.

All processes of a run are children of one keeper process (keeper_process.py), because that is what makes two
promises cheap: a server is a fork of an interpreter that has imported everything already, and nothing
outlives the harness, however it ends. This side only sends orders and keeps what was reported; it decides
nothing about servers or clients.

Every method may be called from any thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.fleet.errors import FleetError
from harness.fleet.keeper_messages import Broken, Event, Order, Signal, Signalled, Start, decode_event, encode
from harness.fleet.process import Process

__all__ = ["PRELOAD", "Keeper", "Process"]

#: What every keeper imports before it forks, unless told otherwise.
PRELOAD = ("harness.node.server",)

# `-m` would look for the harness in the working directory; the children need all of this path anyway.
_BOOT = (
    "import json, sys; control, harness, sys.path[:], preload, remove = json.loads(sys.argv[1]);"
    " from harness.fleet.keeper_process import main; main(control, harness, preload, remove)"
)
# A client's module may import much, on a machine whose cores are kept busy by a storm.
_START_SECONDS = 60.0
_ANSWER_SECONDS = 10.0


class Keeper:
    """Starts the keeper process; use it as a context manager, or call `close()`.

    `preload` are the modules to import before any fork; a module that starts a thread when imported (numpy
    does) cannot be among them. The import goes on while the caller does: only the first `spawn` or `execute`
    waits for it. `folder` is removed when all has ended, also if the harness was killed. A keeper that has
    died, or is closed, makes every call raise FleetError.
    """

    def __init__(self, preload: Sequence[str] = PRELOAD, *, folder: Path | None = None) -> None:
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._processes: list[Process] = []
        self._signalled: dict[int, bool] = {}
        self._tickets = 0
        self._why_lost = ""
        self._closing = False
        self._socket, control = socket.socketpair()
        with control:
            remove = None if folder is None else str(folder)
            boot = json.dumps([control.fileno(), os.getpid(), sys.path, list(preload), remove])
            self._program = subprocess.Popen(
                [sys.executable, "-c", _BOOT, boot],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[control.fileno()],
                start_new_session=True,  # Ctrl-C in a terminal is for the harness, which ends the rest
            )
        self._reader = threading.Thread(target=self._read, name="keeper-reader", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process id of the keeper process."""
        return self._program.pid

    def spawn(self, function: str, arguments: Mapping[str, Any], *, log: Path) -> Process:
        """Forks, and calls `function` ("module:function") with `arguments` (JSON values) in the new process.

        Its return value is the exit status, as `sys.exit` takes it; its output is appended to `log`. Returns
        when the call is about to begin. FleetError if there is no such function.
        """
        if function.count(":") != 1:
            raise FleetError(f"cannot start {function!r}: write it as 'module:function'")
        return self._start(function, log, function=function, arguments=dict(arguments))

    def execute(
        self, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Process:
        """Executes the command `argv` in a new process; its output is appended to `log`.

        `env` replaces the whole environment (None: the harness's own). Returns when the command runs.
        FleetError if there is no such program or folder.
        """
        return self._start(
            argv[0],
            log,
            argv=[os.fspath(word) for word in argv],
            env=None if env is None else dict(env),
            cwd=None if cwd is None else str(cwd),
        )

    def close(self) -> None:
        """Ends everything that was started (SIGKILL) and then the keeper. May be called again."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
        with contextlib.suppress(OSError):  # the keeper may be gone already
            self._socket.shutdown(socket.SHUT_WR)
        try:
            self._program.wait(_ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self._program.kill()
        self._reader.join()
        self._socket.close()

    def _start(self, what: str, log: Path, **order: Any) -> Process:
        with self._changed:
            key = len(self._processes)
            process = Process(what, Path(log).absolute(), send=partial(self._signal, key), wait_for=self._await)
            self._processes.append(process)
        self._send(Start(key=key, log=str(process.log), **order))
        if not self._await(lambda: process.pid or process.refused, _START_SECONDS):
            raise FleetError(f"cannot start {what}: it was not up after {_START_SECONDS:g} s; its log is {process.log}")
        if process.refused:
            raise FleetError(f"cannot start {what}: {process.refused}")
        return process

    def _signal(self, key: int, signum: int) -> bool:
        with self._changed:
            self._tickets += 1
            ticket = self._tickets
        self._send(Signal(key=key, signum=signum, ticket=ticket))
        if not self._await(lambda: ticket in self._signalled, _ANSWER_SECONDS):
            raise FleetError(f"the keeper (pid {self.pid}) gave no answer for {_ANSWER_SECONDS:g} s; is it stopped?")
        return self._signalled.pop(ticket)

    def _send(self, order: Order) -> None:
        self._check()
        try:
            with self._sending:
                self._socket.sendall(encode(order))
        except OSError:
            self._reader.join()  # it finds out why
            self._check()
            raise

    def _check(self) -> None:
        if self._closing:
            raise FleetError("the keeper is closed, and what it had started has ended")
        if self._why_lost:
            raise FleetError(self._why_lost)

    def _await(self, happened: Callable[[], object], timeout: float | None) -> bool:
        """Whether `happened` within `timeout` seconds (None: no limit). FleetError when it never can."""
        with self._changed:
            self._changed.wait_for(lambda: happened() or self._why_lost, timeout)
            if not happened():
                self._check()
                return False
            return True

    def _read(self) -> None:
        """The reader thread: takes in what the keeper reports until it ends, then says why it did."""
        why = ""
        # It may be killed with orders unread, which resets the connection.
        with contextlib.suppress(ConnectionResetError), self._socket.makefile("rb") as lines:
            for line in lines:
                event = decode_event(line)
                if isinstance(event, Broken):
                    why = event.why
                self._take(event)
        code = self._program.wait()
        with self._changed:
            self._why_lost = why or (
                f"the keeper (pid {self.pid}) has died (status {code}), and all that it had started with it; "
                "something on this machine killed it, or its error stands on stderr. Start the run again"
            )
            self._changed.notify_all()

    def _take(self, event: Event) -> None:
        with self._changed:
            if isinstance(event, Signalled):
                self._signalled[event.ticket] = event.sent
            elif not isinstance(event, Broken):
                self._processes[event.key].take(event)
            self._changed.notify_all()
