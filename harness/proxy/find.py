"""Which Toxiproxy a run uses, and why. Nothing is started here: the fleet starts what `command` says.

In this order: the running one at STORMPROOF_TOXIPROXY_URL; the one that STORMPROOF_TOXIPROXY names
("builtin" or "real"); a `toxiproxy-server` on PATH; the one that `stormproof toxiproxy install` built; else
the built-in one.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from harness.proxy.errors import ToxiproxyError
from harness.proxy.install import SERVER, cache_folder, installed

URL, WHICH = "STORMPROOF_TOXIPROXY_URL", "STORMPROOF_TOXIPROXY"
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A Toxiproxy: the program to start (`command`), or the `url` of one that runs and is not ours to stop.

    `why` says in words where it comes from.
    """

    name: Literal["toxiproxy", "builtin"]
    command: tuple[str, ...] | None = None
    url: str | None = None
    why: str = ""


def find(environ: Mapping[str, str]) -> Found:
    """The Toxiproxy to use. Raises ToxiproxyError for a setting that makes no sense or that cannot be met."""
    which = environ.get(WHICH, "")
    if which not in ("", "builtin", "real"):
        raise ToxiproxyError(f'{WHICH} must be "builtin", "real" or not set; got {which!r}')
    url = environ.get(URL, "")
    if url:
        return Found(name="toxiproxy", url=_checked(url), why=f"{URL} is set")
    if which == "builtin":
        return _builtin(f"{WHICH} is builtin")
    real = _real(environ)
    if real is None and which == "real":
        raise ToxiproxyError(
            f"{WHICH} is real, but there is no {SERVER} on PATH nor in {cache_folder(environ)}: "
            f"run `stormproof toxiproxy install`, or unset {WHICH}"
        )
    return real or _builtin(f"there is no {SERVER} on PATH nor in {cache_folder(environ)}")


def command(found: Found, port: int, *, seed: int | None = None) -> list[str]:
    """How to start it, its HTTP API on `port` of 127.0.0.1, with counters. Raises ToxiproxyError when it
    runs already.

    `seed` fixes which connections toxics take; the real one has no such thing.
    """
    if found.command is None:
        raise ToxiproxyError(f"the Toxiproxy at {found.url} runs already and is not started by us")
    if found.name == "builtin":
        seeded = [] if seed is None else ["--seed", str(seed)]
        return [*found.command, "--host", HOST, "--port", str(port), "--proxy-metrics", *seeded]
    return [*found.command, "-host", HOST, "-port", str(port), "-proxy-metrics"]


def address(url: str) -> tuple[str, int]:
    """Host and port of `http://host:port`. Raises ToxiproxyError for anything else."""
    problem = ToxiproxyError(f"{URL} must look like http://127.0.0.1:8474; got {url!r}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise problem from error
    rest = (parts.path.strip("/"), parts.query, parts.fragment, parts.username, parts.password)
    if parts.scheme != "http" or not host or not port or any(rest):
        raise problem
    return host, port


def _checked(url: str) -> str:
    host, port = address(url)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _real(environ: Mapping[str, str]) -> Found | None:
    # An empty PATH is no PATH; shutil.which would take that of this process instead.
    on_path = shutil.which(SERVER, path=environ.get("PATH") or "/nonexistent")
    if on_path is not None:
        return Found(name="toxiproxy", command=(on_path,), why=f"{on_path} is on PATH")
    there = installed(environ)
    return None if there is None else Found(name="toxiproxy", command=(str(there),), why=f"{there} was installed")


def _builtin(why: str) -> Found:
    return Found(name="builtin", command=(sys.executable, "-m", "harness.proxy.serve"), why=why)
