"""Puts the real Toxiproxy, server and command line, into the user's cache folder: built with Go, or downloaded.

The version is fixed: its behaviour is what the built-in proxy follows and what the tests compare. Nothing is
installed twice, and nobody ever sees half an installation.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness.proxy.errors import ToxiproxyError
from harness.proxy.release import download

VERSION = "2.12.0"
SERVER, CLI = "toxiproxy-server", "toxiproxy-cli"
#: What `go install` calls them, after their folders.
BUILT = {"server": SERVER, "cli": CLI}
PACKAGE = "github.com/Shopify/toxiproxy/v2"
#: What the go.mod of that version asks for.
OLDEST_GO = (1, 23)
#: Seconds that the build may take, download included; 35 on two cores.
PATIENCE = 900
WAY_OUT = "set STORMPROOF_TOXIPROXY=builtin to go without it"
#: Where the release's files are, if not at the project's own address: a mirror, say.
RELEASES = "STORMPROOF_TOXIPROXY_RELEASES"
PUBLIC = f"https://github.com/Shopify/toxiproxy/releases/download/v{VERSION}"
SOURCES = ("auto", "go", "release")


def install(environ: Mapping[str, str] = os.environ, *, source: str = "auto") -> Path:
    """The server's path, installed now if it is not there.

    `source`: "go" builds it (about half a minute, and the sources are downloaded); "release" downloads the programs from
    STORMPROOF_TOXIPROXY_RELEASES, or else from the project's own address, and checks them; "auto" builds where there is a
    Go of 1.23 or later, else downloads. Raises ToxiproxyError when it fails.
    """
    if source not in SOURCES:
        raise ToxiproxyError(f"the source of Toxiproxy must be one of {', '.join(SOURCES)}; got {source!r}")
    there = installed(environ)
    if there is not None:
        return there
    folder = cache_folder(environ)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{VERSION}-", dir=folder.parent) as scratch:
        built = Path(scratch) / VERSION
        built.mkdir()
        go = None if source == "release" else _go(environ, needed=source == "go")
        if go is not None:
            _build(go, built, environ)
        else:
            download(BUILT.values(), built, environ.get(RELEASES) or PUBLIC, way_out=WAY_OUT)
        _put(built, folder)
    return folder / SERVER


def installed(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The path of the server that `install` put there, or None."""
    folder = cache_folder(environ)
    whole = all(os.access(folder / name, os.X_OK) for name in BUILT.values())
    return folder / SERVER if whole else None


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where `install` puts the two programs: below XDG_CACHE_HOME, or ~/.cache."""
    home = environ.get("HOME") or str(Path.home())
    base = environ.get("XDG_CACHE_HOME") or f"{home}/.cache"
    return Path(base) / "stormproof" / "toxiproxy" / VERSION


def _go(environ: Mapping[str, str], *, needed: bool) -> str | None:
    """The path of a Go that is new enough; None where there is none, unless it is `needed`."""
    go = shutil.which("go", path=environ.get("PATH"))
    if go is None and needed:
        raise ToxiproxyError(
            f"Toxiproxy {VERSION} is built with Go, and there is no go on PATH: install Go, take the release "
            f"(--from=release), or {WAY_OUT}"
        )
    if go is None:
        return None
    told = _run([go, "env", "GOVERSION"], environ).strip()
    found = re.match(r"go(\d+)\.(\d+)", told)
    if found is not None and (int(found[1]), int(found[2])) < OLDEST_GO:
        if not needed:
            return None
        oldest = ".".join(map(str, OLDEST_GO))
        raise ToxiproxyError(f"Toxiproxy {VERSION} needs Go {oldest} or later; {go} is {told}: update it, or {WAY_OUT}")
    return go


def _build(go: str, folder: Path, environ: Mapping[str, str]) -> None:
    # Without the flag the server calls itself "git", and clients that compare versions choose wrongly.
    flags = f"-s -w -X {PACKAGE}.Version={VERSION}"
    packages = [f"{PACKAGE}/cmd/{name}@v{VERSION}" for name in BUILT]
    _run([go, "install", "-ldflags", flags, *packages], {**environ, "GOBIN": str(folder), "CGO_ENABLED": "0"})
    for built, name in BUILT.items():
        (folder / built).rename(folder / name)


def _put(built: Path, folder: Path) -> None:
    """Moves what was built into place; where somebody else was quicker, theirs is as good."""
    try:
        built.rename(folder)
    except OSError:
        if all(os.access(folder / name, os.X_OK) for name in BUILT.values()):
            return
        shutil.rmtree(folder)  # half of an installation, from which something was deleted
        built.rename(folder)


def _run(command: list[str], environ: Mapping[str, str]) -> str:
    """What `command` printed. GOTOOLCHAIN=local: a Go that is too old says so instead of downloading another one."""
    environ = {**environ, "GOTOOLCHAIN": "local"}
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToxiproxyError(f"{' '.join(command)} did not work: {error}; {WAY_OUT}") from error
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
        raise ToxiproxyError(f"{' '.join(command)} ended with {done.returncode}; {WAY_OUT}. It said:\n{last}")
    return done.stdout
