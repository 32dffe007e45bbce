"""The generated modules beside the .proto files are what protoc makes of them today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
GENERATE = "import sys, pathlib; from protos.generate import generate; generate(pathlib.Path(sys.argv[1]))"


def generated(folder: Path) -> dict[str, bytes]:
    """The generated modules in `folder`, by name."""
    return {path.name: path.read_bytes() for path in folder.glob("*_pb2*") if path.suffix in {".py", ".pyi"}}


def test_the_generated_modules_are_current(tmp_path: Path) -> None:
    """Promise: nobody edited a .proto file or a generated module without `python -m protos.generate`."""
    command = [sys.executable, "-c", GENERATE, str(tmp_path)]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 0, made.stderr
    fresh, committed = generated(tmp_path / "protos"), generated(ROOT / "protos")
    assert sorted(committed) == sorted(fresh)
    assert [name for name in fresh if committed[name] != fresh[name]] == []
    assert sorted(name for name in fresh if name.endswith("_pb2.py")) == ["control_pb2.py", "hello_pb2.py"]
