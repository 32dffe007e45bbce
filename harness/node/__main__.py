"""`python -m harness.node --port 50051`: a Hello server run by hand, or in a container."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from harness.node.server import Settings, serve


def main(words: list[str] | None = None) -> int:
    """Runs a server as `words` (default: the command line) say; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.node", description="Serves hello.proto until Ctrl-C or SIGTERM."
    )
    add = parser.add_argument
    defaults = Settings()
    add("--port", type=int, default=defaults.port, help="0 picks a free one (default %(default)s)")
    add("--host", default=defaults.host, help="the address to listen on (default %(default)s)")
    add(
        "--service-time",
        type=float,
        default=defaults.service_time,
        help="seconds a reply takes (default %(default)s)",
    )
    add("--workers", type=int, default=defaults.workers, help="calls that work at once (default %(default)s)")
    add("--journal", default=defaults.journal, help="file to append a record of every call to (default: none)")
    add("--name", default=defaults.name, help="what it calls itself (default %(default)s)")
    add("--control-port", type=int, default=None, help="port to be told to misbehave on (default: none)")
    add("--settings", type=Path, default=None, help="file with JSON of settings that go before these, if it is there")
    arguments = vars(parser.parse_args(words))
    file: Path | None = arguments.pop("settings")
    if file is not None and file.exists():
        arguments |= json.loads(file.read_text())
    return serve(**arguments)


if __name__ == "__main__":
    sys.exit(main())
