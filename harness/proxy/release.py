"""Downloads the programs of a release of Toxiproxy and checks them against the checksums published with it.

A release is a folder of files at one address: `toxiproxy-server-<os>-<arch>`, `toxiproxy-cli-<os>-<arch>` (arch as Go names
it) and `checksums.txt`, lines of SHA-256 and file name. A file whose checksum is missing or another one is not kept.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from pathlib import Path

import requests

from harness.proxy.errors import ToxiproxyError

CHECKSUMS = "checksums.txt"
#: Seconds to connect, and between two pieces of a file.
LIMITS = (10.0, 60.0)
#: Bytes after which a file is none of a release: its programs have 11 MB.
MOST = 200 * 10**6
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armv7", "armv6l": "armv6"}


def download(programs: Iterable[str], folder: Path, releases: str, *, way_out: str) -> None:
    """Puts `programs`, made for this machine, into `folder`. ToxiproxyError, ending in `way_out`, when that fails."""
    base = releases.rstrip("/")
    known = dict(_lines(_fetch(f"{base}/{CHECKSUMS}", way_out).decode(errors="replace")))
    for program in programs:
        name = f"{program}-{platform_name()}"
        if name not in known:
            raise ToxiproxyError(f"{base}/{CHECKSUMS} has no {name}: that release is not made for here; {way_out}")
        content = _fetch(f"{base}/{name}", way_out)
        found = hashlib.sha256(content).hexdigest()
        if found != known[name]:
            raise ToxiproxyError(
                f"{base}/{name} has the SHA-256 {found}, published is {known[name]}: it is damaged or another file, and was "
                f"not kept; try again, or {way_out}"
            )
        (folder / program).write_bytes(content)
        (folder / program).chmod(0o755)


def platform_name() -> str:
    """This machine as the release's files name it, as in "linux-amd64"."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}-{ARCHITECTURES.get(machine, machine)}"


def _lines(text: str) -> Iterable[tuple[str, str]]:
    for line in text.splitlines():
        digest, _, name = line.partition(" ")
        yield name.strip(" *"), digest.lower()


def _fetch(url: str, way_out: str) -> bytes:
    try:
        with requests.get(url, timeout=LIMITS, stream=True) as answer:
            answer.raise_for_status()
            content = bytearray()
            for piece in answer.iter_content(1 << 16):
                content += piece
                if len(content) > MOST:
                    raise ToxiproxyError(f"{url} has more than {MOST} bytes: that is no file of a release; {way_out}")
            return bytes(content)
    except requests.RequestException as error:
        raise ToxiproxyError(f"{url} could not be downloaded: {error}; {way_out}") from error
