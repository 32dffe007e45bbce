"""docs/checkpoints.md does what it says: its code is run, and what it prints is what stands beside it."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from protos.hello_pb2 import HelloReply
from protos.hello_pb2_grpc import HelloServicer, add_HelloServicer_to_server

PAGE = Path(__file__).parents[2] / "docs" / "checkpoints.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


class Guests(HelloServicer):
    def SayHello(self, request, context):  # noqa: N802
        return HelloReply(message=f"Hello, {request.name}!")

    def SayHelloToEach(self, request, context):  # noqa: N802
        for number in range(int(request.name), 11):
            yield HelloReply(message=f"guest {number}")


def test_the_recipes_print_what_the_page_says(tmp_path, capsys):
    """All blocks in their order, as one program."""
    server = grpc.server(ThreadPoolExecutor(4))
    add_HelloServicer_to_server(Guests(), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    names = {"address": address, "folder": tmp_path}
    try:
        for block in BLOCKS:
            exec(compile(block, str(PAGE), "exec"), names)
    finally:
        server.stop(0).wait(5)
    beside = re.findall(r"print\(.*\)  # (.*)", "".join(BLOCKS))
    assert capsys.readouterr().out.splitlines() == [line for said in beside for line in said.split(" and ")]
