"""What a process does between its fork from the keeper and its own work: it settles, then calls or executes.

To settle is: a session of its own, death with the keeper (PR_SET_PDEATHSIG, Linux only), default signals,
none of the keeper's descriptors, no input, all output to the log. Descriptor 3 leads to the harness (s6's
idea of a readiness descriptor): a called function may write lines there; an executed command does not inherit
it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, NoReturn

from harness.fleet.keeper_messages import Start

#: The way to the harness: the keeper's socket, and what a called function tells its lines by (Process.told).
TELL_FD = 3
#: First line on it: the work begins, or why it cannot.
BEGUN, REFUSED = "+", "-"

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Looked up before any fork: loading a library in each child would cost each of them.
_PRCTL: Callable[..., int] | None = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def adopt_orphans() -> None:
    """From now on, descendants whose parent dies become children of this process (Linux)."""
    if _PRCTL is not None:
        _PRCTL(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def perform(order: Start, *, keeper: int, tell: int, foreign: Iterable[int]) -> NoReturn:
    """Settles, does what `order` says, and ends in SystemExit.

    `keeper` is the keeper's pid, `foreign` its descriptors, `tell` the way to the harness.
    """
    try:
        _settle(order, keeper=keeper, tell=tell, foreign=foreign)
        work = _resolve(order.function) if order.function else None
        if work is None:
            _execute(order)
    except Exception as error:
        _say(REFUSED + " ".join(str(error).split()))
        raise SystemExit(127) from error
    _say(BEGUN)
    sys.exit(work(**order.arguments))


def _settle(order: Start, *, keeper: int, tell: int, foreign: Iterable[int]) -> None:
    os.setsid()
    os.dup2(tell, TELL_FD, inheritable=False)  # in the keeper this is the way to the harness
    for descriptor in (tell, *foreign):
        os.close(descriptor)
    die_with(keeper)
    _reset_signals()
    for path, flags, target in (
        (os.devnull, os.O_RDONLY, 0),
        (order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 1),
    ):
        descriptor = os.open(path, flags, 0o644)
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.dup2(1, 2)
    if order.cwd is not None:
        os.chdir(order.cwd)


def die_with(parent: int) -> None:
    """This process ends with `parent`, which forked it: with the thread that did, the only one of a keeper.

    It may be dead already.
    """
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _reset_signals() -> None:
    """Default actions and nothing blocked, whatever the harness's shell or the keeper had set."""
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _resolve(name: str) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    # What Python sets for itself at its start; a command needs the plain defaults instead.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        module = import_module(module_name)
    except Exception as error:
        raise ImportError(f"importing {module_name} failed: {type(error).__name__}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ImportError(f"module {module_name} has no function {function_name!r}")
    return function  # type: ignore[no-any-return]


def _execute(order: Start) -> NoReturn:
    env = os.environ if order.env is None else order.env
    try:
        os.execvpe(order.argv[0], order.argv, env)
    except FileNotFoundError:
        where = "at this path" if os.sep in order.argv[0] else f"on PATH ({env.get('PATH', '')})"
        raise FileNotFoundError(f"no program {order.argv[0]!r} {where}") from None


def _say(line: str) -> None:
    os.write(TELL_FD, line.encode() + b"\n")
