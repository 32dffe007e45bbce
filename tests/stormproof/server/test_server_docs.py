"""docs/server.md does what it says: its code is run, and what it prints is what stands beside it."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from protos.hello_pb2_grpc import add_HelloServicer_to_server

PAGE = Path(__file__).parents[3] / "docs" / "server.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def serve():
    """Starts a servicer with interceptors on a port of its own; returns the address."""
    with ExitStack() as running:

        def start(servicer, *interceptors):
            server = grpc.server(ThreadPoolExecutor(8), interceptors=interceptors)
            add_HelloServicer_to_server(servicer, server)
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            running.callback(lambda: server.stop(0).wait(5))
            return f"127.0.0.1:{port}"

        yield start


def test_the_recipes_print_what_the_page_says(serve, tmp_path, capsys):
    """All blocks in their order, as one program."""
    names = {"serve": serve, "folder": tmp_path, "time": time, "threading": threading}
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), names)
    assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)  # (.*)", "".join(BLOCKS))
