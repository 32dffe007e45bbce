"""A file is the old one or the new one, never a part of either."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from harness.report.files import write_bytes, write_text

#: Writes two contents in turn until it is killed, and says when it begins to.
WRITER = """
import sys
from pathlib import Path
from harness.report.files import write_bytes
path = Path(sys.argv[1])
contents = [letter * 8_000_000 for letter in (b"a", b"b")]
while True:
    for content in contents:
        print(flush=True)
        write_bytes(path, content)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    """Killed at three different moments, it leaves one content or the other, eight million bytes of it."""
    path = tmp_path / "x"
    for turn in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        for _ in range(turn + 2):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert path.read_bytes() in (b"a" * 8_000_000, b"b" * 8_000_000)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    """The folder of the name that was wanted is in the way; it stays, and no temporary file does."""
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="x"):
        write_bytes(tmp_path / "x", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_text_loses_only_what_no_reader_can_show(tmp_path):
    """Tabs, newlines, umlauts and emoji stay; control characters and half surrogates are marked."""
    path = write_text(tmp_path / "x", "\tä\n✓ 😀\x00\x1b\ud800\x7f")
    assert path.read_text(encoding="utf-8") == "\tä\n✓ 😀\ufffd\ufffd\ufffd\ufffd"
