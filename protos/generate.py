"""Makes the modules beside this file from the .proto files: `python -m protos.generate [FOLDER]`.

The generated modules are committed; tests/test_protos.py runs this into an empty folder and compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent


def generate(out: Path) -> list[Path]:
    """Writes the generated modules under `out`/protos and returns their paths."""
    from grpc_tools import protoc  # a development dependency

    names = sorted(path.name for path in HERE.glob("*.proto"))
    arguments = [f"-I{HERE.parent}", f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"]
    if protoc.main(["protoc", *arguments, *(f"protos/{name}" for name in names)]) != 0:
        raise SystemExit(f"protoc failed on {', '.join(names)}")
    made = sorted((out / "protos").glob("*_pb2*"))
    return made


if __name__ == "__main__":
    for path in generate(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent):
        print(path)
