"""The Hello server as a program: how it starts, what it says when it cannot, and how it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import grpc
import pytest

from harness.fleet.errors import FleetError
from harness.node.ready import wait_ready
from protos.control_pb2 import DrainRequest
from protos.hello_pb2 import HelloRequest
from protos.hello_pb2_grpc import HelloStub

ADA = HelloRequest(name="Ada")
PROGRAM = [sys.executable, "-m", "harness.node"]


def test_by_hand_it_says_where_it_listens_and_stops_with_ctrl_c():
    """One line, then calls are answered, then SIGINT ends it with status 0."""
    command = [*PROGRAM, "--port", "0", "--service-time", "0", "--name", "ada"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        try:
            said = program.stdout.readline()
            assert said.startswith("Hello server ada listens on 127.0.0.1:")
            assert said.endswith("; stop with Ctrl-C\n")
            address = said.split()[5].rstrip(";")
            with grpc.insecure_channel(address) as channel:
                assert HelloStub(channel).SayHello(ADA).message == "Hello, Ada!"
            program.send_signal(signal.SIGINT)
            rest, errors = program.communicate(timeout=10)
        finally:
            program.kill()
    assert (program.returncode, rest, errors) == (0, "", "")


def test_a_taken_port_is_one_clear_line_and_status_2():
    """It names the port, the reason and the way out; the port is never shared in silence."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run([*PROGRAM, "--port", str(port)], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another port with --port "
        "(0 picks a free one), or stop the program that listens there\n"
    )


def test_settings_out_of_bounds_are_named_together():
    """Status 2 and the problems, not a traceback."""
    words = ["--workers", "0", "--service-time", "-1"]
    ended = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert ended.stderr == (
        "Settings: service_time must be a number, from 0 to 3600; got -1.0 (seconds); "
        "workers must be a number, 1 or more; got 0\n"
    )


def test_a_server_that_does_not_come_up_shows_the_end_of_its_log(start):
    """Whoever waits for it learns at once that it is dead, and why."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(FleetError) as caught:
        start(port=taken.getsockname()[1])
    assert "ended with status 2 before it said that it is ready" in str(caught.value)
    assert "Address already in use" in str(caught.value)


def test_a_server_that_says_nothing_is_not_waited_for_without_end(keeper, tmp_path):
    """The deadline names what was waited for."""
    process = keeper.execute(["sleep", "60"], log=tmp_path / "log")
    with pytest.raises(FleetError, match=r"sleep .* did not say within 0.1 s that it is ready"):
        wait_ready(process, timeout=0.1)
    process.close()


@pytest.mark.parametrize("how", ["SIGTERM", "Drain"])
def test_calls_in_flight_finish_when_it_is_told_to_end(start, how):
    """None of 20 calls fails, those that waited for a worker included; then it ends with status 0."""
    server = start(workers=10, service_time=0.3)
    calls = [server.hello.SayHello.future(ADA) for _ in range(20)]
    server.wait_for(lambda told: len(told) == 20)
    if how == "SIGTERM":
        server.process.signal(signal.SIGTERM)
    else:
        assert server.control.Drain(DrainRequest(grace=5.0)).received == 20
    assert [call.result().message for call in calls] == ["Hello, Ada!"] * 20
    assert server.process.wait(5.0) == 0
    assert [execution.code for execution in server.executions()] == ["OK"] * 20


def test_calls_that_outlast_the_grace_are_cut(start):
    """Draining with 0.1 s of grace does not wait for work of 60 s."""
    server = start(service_time=60.0)
    call = server.hello.SayHello.future(ADA)
    server.wait_for(lambda told: len(told) == 1)
    server.control.Drain(DrainRequest(grace=0.1))
    assert server.process.wait(5.0) == 0
    assert call.exception() is not None
    assert server.executions()[0].code == "CANCELLED"


def test_a_restarted_server_takes_its_port_again(start):
    """Straight after a SIGKILL, with connections of the dead one still open."""
    first = start()
    assert first.hello.SayHello(ADA).message == "Hello, Ada!"
    first.process.close()
    second = start(port=first.ready.port)
    assert second.hello.SayHello(ADA).message == "Hello, Ada!"
