"""Files that are there whole or not at all: written under another name in the same folder, then renamed.

It protects against a run that is killed while it writes (POSIX's rename), not against a loss of power.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from harness.report.text import clean


def write_bytes(path: Path, content: bytes | Iterable[bytes]) -> Path:
    """Puts `content` (whole, or in parts) in place of whatever is at `path`, and makes the folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process id keeps two runs that report into one folder from writing into each other's file.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def write_text(path: Path, content: str) -> Path:
    """The same for text in UTF-8, without the characters that no reader can show."""
    return write_bytes(path, clean(content).encode())
