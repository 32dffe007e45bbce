"""One part in a process of its own, from its start to its end: in this machine's threads, or in a Dask worker's.

A process for each part, since suites are modules: a worker that lives longer would go on with the ones that it knows.
Nothing is raised for what the world does; a process that dies is told in what was found.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from hashlib import sha256
from importlib import metadata
from pathlib import Path

import msgspec

import harness
from harness.campaign.part import Found, Part

PACKAGES = ("stormproof", "faults", "harness", "protos")
#: Lines of its last words that are told of a process that died.
WORDS = 5
#: Seconds that a process may take to end, once it can answer no more.
ENDING = 5.0

_lock = threading.Lock()
_running: dict[str, set[subprocess.Popen[bytes]]] = {}
_stopped: set[str] = set()


def identity() -> str:
    """Which stormproof this is, by its version and its sources: "0.1.0, sources 3f9a1c2e7b04"."""
    try:
        version = metadata.version("stormproof")
    except metadata.PackageNotFoundError:
        version = "source tree"
    digest = sha256()
    root = Path(harness.__file__).parents[1]
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return f"{version}, sources {digest.hexdigest()[:12]}"


def perform(part: Part) -> Found:
    """Does `part` in a new process, and waits for it."""
    where = f"{socket.gethostname()}, process {os.getpid()}"
    here = identity()
    if here != part.identity:
        return Found(
            where=where,
            refused=f"{where} has stormproof {here}, but the campaign is of {part.identity}: install the same on all",
        )
    if part.files is None:
        return _performed(part, where, Path(part.folder))
    with tempfile.TemporaryDirectory(prefix="stormproof-campaign-") as root:
        for name, text in part.files.items():
            path = Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        folder = Path(root, part.folder)
        folder.mkdir(parents=True, exist_ok=True)
        return _performed(part, where, folder)


def stop(campaign: str) -> None:
    """Ends every process of `campaign` that was started here; none begins any more."""
    with _lock:
        _stopped.add(campaign)
        for process in _running.get(campaign, ()):
            process.kill()


def _performed(part: Part, where: str, folder: Path) -> Found:
    with tempfile.TemporaryFile() as words:
        process = _started(part.campaign, folder, words.fileno())
        if process is None:
            return Found(where=where, died="the campaign was stopped")
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018
        try:
            # Its standard input stays open until it has answered, which tells it that somebody waits.
            with suppress(BrokenPipeError):
                process.stdin.write(f"{where}\n".encode() + msgspec.json.encode(part) + b"\n")
                process.stdin.flush()
            answer = process.stdout.read()
            if not answer:  # it is about to end, and how is worth knowing
                with suppress(subprocess.TimeoutExpired):
                    process.wait(ENDING)
        finally:
            with _lock:
                process.kill()
                _running[part.campaign].discard(process)
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
            status = process.wait()
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(answer, type=Found)
        words.seek(0)
        last = words.read().decode(errors="replace").strip().splitlines()[-WORDS:]
    return Found(where=where, died=f"the process ended with {_named(status)}" + "".join(f"\n    {w}" for w in last))


def _started(campaign: str, folder: Path, words: int) -> subprocess.Popen[bytes] | None:
    with _lock:
        if campaign in _stopped:
            return None
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "harness.campaign.session"],
            cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words,
            start_new_session=True,  # Ctrl-C at the terminal is for the campaign, which then stops its processes
        )  # fmt: skip
        _running.setdefault(campaign, set()).add(process)
        return process


def _named(status: int) -> str:
    with suppress(ValueError):
        return signal.Signals(-status).name
    return f"status {status}"
