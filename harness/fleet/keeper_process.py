"""The keeper: one process with one thread, which starts all others of a run and takes them all with it.

It ends, and SIGKILLs everything it started first, as soon as the harness is gone: when the socket to it ends,
or the process itself does (a fork of the harness may still hold the socket). Should the keeper be the one
that dies, the kernel kills its children (see keeper_child). Descendants that leave their process group fall
to it when they are orphaned.

It imports what its children will need, once, and never makes a grpc object or a thread: a fork copies only
the thread that forks. It decides nothing about what to start or when; the harness does (see keeper.py).
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import FrameType
from typing import NamedTuple, NoReturn

import psutil

from harness.fleet import keeper_child
from harness.fleet import keeper_messages as messages
from harness.fleet.keeper_child import BEGUN, REFUSED, TELL_FD


@dataclass(slots=True)
class Child:
    """A process that has not been reaped. `tells` is the other end of its descriptor 3, None once closed."""

    key: int
    pid: int
    tells: int | None
    unread: bytes = b""
    answered: bool = False


class Job(NamedTuple):
    """In a child: what it is to do. `tell` is its end of the pipe to the keeper; it closes `foreign`."""

    order: messages.Start
    tell: int
    foreign: list[int]


class Loop:
    """Serves the harness's orders until it has gone. It waits for descriptors to be readable, no more."""

    def __init__(self, harness: int) -> None:
        self.pid = os.getpid()
        self._children: dict[int, Child] = {}
        self._by_key: dict[int, Child] = {}
        self._unread = b""
        self._over = False
        self._selector = selectors.DefaultSelector()
        self._foreign: list[int] = []
        self._watch(TELL_FD, self._ordered)
        self._wakes, wake = _wakes_on_sigchld()
        self._foreign.append(wake)
        self._watch(self._wakes, self._reap)
        if sys.platform == "linux":
            self._watch_harness(harness)

    def run(self) -> Job | None:
        """Returns None when the harness has gone; in a child, returns at once what that child is to do."""
        while not self._over:
            for key, _ in self._selector.select():
                handle: Callable[[], Job | None] = key.data
                if job := handle():
                    return job
        return None

    def end_all(self) -> None:
        """SIGKILLs every child with its group, and what fell to the keeper; returns when none is left."""
        for child in self._children.values():
            _signal_group(child.pid, signal.SIGKILL)
        while self._children:
            self._note(*os.waitpid(-1, 0))
        with contextlib.suppress(ChildProcessError):
            while True:
                for orphan in psutil.Process().children():
                    _signal_group(orphan.pid, signal.SIGKILL)
                os.waitpid(-1, 0)

    def _watch(self, descriptor: int, handle: Callable[[], Job | None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, handle)
        if descriptor != TELL_FD:
            self._foreign.append(descriptor)

    def _stop_hearing(self, child: Child) -> None:
        if child.tells is not None:
            self._selector.unregister(child.tells)
            self._foreign.remove(child.tells)
            os.close(child.tells)
            child.tells = None

    def _watch_harness(self, harness: int) -> None:
        try:
            self._watch(os.pidfd_open(harness), self._harness_gone)
        except ProcessLookupError:
            self._over = True

    def _harness_gone(self) -> None:
        self._over = True

    def _ordered(self) -> Job | None:
        try:
            data = os.read(TELL_FD, 1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            self._harness_gone()
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            if job := self._obey(messages.decode_order(line)):
                return job
        return None

    def _obey(self, order: messages.Order) -> Job | None:
        if isinstance(order, messages.Start):
            return self._start(order)
        self._signal(order)
        return None

    def _start(self, order: messages.Start) -> Job | None:
        tells, tell = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(tells)
            os.close(tell)
            _say(messages.Failed(key=order.key, why=f"fork failed: {error}"))
            return None
        if pid == 0:
            self._selector.close()
            return Job(order, tell, [*self._foreign, tells])
        os.close(tell)
        os.set_blocking(tells, False)
        child = Child(key=order.key, pid=pid, tells=tells)
        self._children[pid] = self._by_key[order.key] = child
        self._watch(tells, lambda: self._hear(child))
        return None

    def _signal(self, order: messages.Signal) -> None:
        child = self._by_key.get(order.key)
        if child is not None:
            _signal_group(child.pid, order.signum)
            # SIGCONT acts before kill() returns, so the news of it goes out before the answer.
            self._reap()
        _say(messages.Signalled(ticket=order.ticket, sent=child is not None))

    def _hear(self, child: Child) -> None:
        """Passes on what `child` tells; its first line, or the end, says whether it was started."""
        while child.tells is not None:
            try:
                data = os.read(child.tells, 1 << 16)
            except BlockingIOError:
                return
            *lines, child.unread = (child.unread + data).split(b"\n")
            for line in lines:
                self._heard(child, line.decode(errors="replace"))
            if not data:
                self._stop_hearing(child)
                # A command closes its end by being executed; whatever died instead is seen to exit.
                self._heard(child, BEGUN)

    def _heard(self, child: Child, line: str) -> None:
        if child.answered:
            if line != BEGUN:
                _say(messages.Told(key=child.key, line=line))
            return
        child.answered = True
        if line.startswith(REFUSED):
            _say(messages.Failed(key=child.key, why=line.removeprefix(REFUSED)))
        else:
            _say(messages.Started(key=child.key, pid=child.pid))

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakes, 1 << 16)
        with contextlib.suppress(ChildProcessError):
            while (news := os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED))[0]:
                self._note(*news)

    def _note(self, pid: int, status: int) -> None:
        at = time.monotonic()
        child = self._children.get(pid)
        if child is None:  # an orphan that fell to the keeper
            return
        if os.WIFSTOPPED(status):
            _say(messages.Stopped(key=child.key, at=at))
        elif os.WIFCONTINUED(status):
            _say(messages.Continued(key=child.key))
        else:
            self._hear(child)
            self._stop_hearing(child)  # a descendant of it may still hold the other end
            del self._children[pid], self._by_key[child.key]
            _say(messages.Exited(key=child.key, code=os.waitstatus_to_exitcode(status), at=at))


def _say(event: messages.Event) -> None:
    line = messages.encode(event)
    # Nobody listens once the harness is dead; that is noticed elsewhere.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while line:
            line = line[os.write(TELL_FD, line) :]


def _wakes_on_sigchld() -> tuple[int, int]:
    """A pipe whose first end is readable whenever a child has changed its state."""
    wakes, wake = os.pipe()
    os.set_blocking(wakes, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, _nothing)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    return wakes, wake


def _nothing(signum: int, frame: FrameType | None) -> None:
    """A handler must exist, or the signal would not wake anything."""


def _signal_group(pid: int, signum: int) -> None:
    """To the group of the unreaped child `pid`; to it alone while it has no group of its own yet."""
    try:
        os.killpg(pid, signum)
    except (ProcessLookupError, PermissionError):
        os.kill(pid, signum)


def _preload(modules: Sequence[str]) -> None:
    """Imports `modules`; ends the process, having said why, where that fails or leaves a thread behind."""
    for name in modules:
        try:
            import_module(name)
        except Exception as error:
            _give_up(f"cannot import {name}, which it is to preload ({type(error).__name__}: {error})")
        if (threads := psutil.Process().num_threads()) > 1:
            _give_up(f"cannot preload {name}: importing it starts {threads - 1} threads, and no fork would be safe")
    gc.collect()
    gc.freeze()  # the collector would else write to, and so copy, every page that the children share


def _give_up(why: str) -> NoReturn:
    _say(messages.Broken(why=f"the keeper {why}"))
    sys.exit(2)


def main(control: int, harness: int, preload: Sequence[str], remove: str | None = None) -> None:
    """Runs the keeper for the process `harness`, whose orders come by the socket `control`.

    The folder `remove` is removed at the end: a harness that was killed cannot.
    """
    if control != TELL_FD:
        os.dup2(control, TELL_FD)
        os.close(control)
    os.set_inheritable(TELL_FD, False)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a killed child's log has all its lines
    keeper_child.adopt_orphans()
    _preload(preload)
    loop = Loop(harness)
    job = None
    try:
        job = loop.run()
    finally:
        if os.getpid() == loop.pid:
            loop.end_all()
            if remove is not None:
                shutil.rmtree(remove, ignore_errors=True)
    if job is not None:
        keeper_child.perform(job.order, keeper=loop.pid, tell=job.tell, foreign=job.foreign)
