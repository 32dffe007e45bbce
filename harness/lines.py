"""Journals are files of lines that a SIGKILL may have torn: the last one may lack its end, and is then no record."""

from __future__ import annotations

import os
from pathlib import Path


def whole_lines(path: str | os.PathLike[str]) -> list[bytes]:
    """The lines of the file at `path`, without their ends; a torn last line is left out."""
    *lines, _torn = Path(path).read_bytes().split(b"\n")
    return lines


def cut_torn_tail(path: str | os.PathLike[str]) -> None:
    """Whoever was killed may have left half a line, and the next writer must not go on in it."""
    if Path(path).is_file() and (content := Path(path).read_bytes()) and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)
