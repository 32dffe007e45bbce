"""Hello servers as the local fleet starts them: forked by a keeper, with a control port and a journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
import pytest

from harness.fleet.keeper import Keeper, Process
from harness.history import Execution
from harness.node.journal import read_journal
from harness.node.ready import Ready, wait_ready
from protos.control_pb2_grpc import ControlStub
from protos.hello_pb2_grpc import HelloStub


@dataclass
class Server:
    """One running server and the ways to talk to it. Everything is closed by `close`."""

    process: Process
    ready: Ready
    journal: Path
    channels: list[grpc.Channel] = field(default_factory=list)

    @cached_property
    def hello(self) -> HelloStub:
        return HelloStub(self._channel(self.ready.port))

    @cached_property
    def control(self) -> ControlStub:
        return ControlStub(self._channel(self.ready.control_port))

    def executions(self) -> tuple[Execution, ...]:
        return read_journal(self.journal, server="server-0", origin=0.0)

    def wait_for(self, told: Callable[[tuple[Execution, ...]], bool]) -> tuple[Execution, ...]:
        """The journal as soon as `told` of it is true, 5 s at most."""
        deadline = time.monotonic() + 5.0
        while not told(executions := self.executions()):
            assert time.monotonic() < deadline, f"the journal never told of it: {executions}"
            time.sleep(0.005)
        return executions

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        self.process.close()

    def _channel(self, port: int | None) -> grpc.Channel:
        # gRPC removes grpc-previous-rpc-attempts of anybody else's as long as it may retry itself.
        options = [("grpc.enable_retries", 0)]
        self.channels.append(grpc.insecure_channel(f"127.0.0.1:{port}", options=options))
        return self.channels[-1]


@pytest.fixture(scope="session")
def keeper() -> Iterator[Keeper]:
    with Keeper() as keeper:
        yield keeper


@pytest.fixture
def start(keeper: Keeper, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server with the given settings; by default it works no time at all."""
    servers: list[Server] = []

    def start(**settings: Any) -> Server:
        journal = tmp_path / "journal.jsonl"
        arguments = {
            "port": 0,
            "control_port": 0,
            "service_time": 0.0,
            "name": "server-0",
            "journal": str(journal),
            "ready_fd": 3,
            **settings,
        }
        process = keeper.spawn("harness.node.server:serve", arguments, log=tmp_path / "server.log")
        servers.append(Server(process, wait_ready(process), journal))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
