"""Every example does what its first lines say."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def port(tmp_path):
    """A Hello server run by hand, as the examples tell."""
    command = [sys.executable, "-m", "harness.node", "--port", "0", "--service-time", "0.01"]
    server = subprocess.Popen(command, cwd=tmp_path, env=ENVIRON, stdout=subprocess.PIPE, text=True)
    try:
        said = server.stdout.readline()
        assert "listens on 127.0.0.1:" in said
        yield said.split("127.0.0.1:")[1].split(";")[0]
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0


def example(name: str, *arguments: str, cwd: Path) -> list[str]:
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    done = subprocess.run(command, cwd=cwd, env=ENVIRON, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_hello_greets_twice(port, tmp_path):
    """The plain stub and the Channel say the same."""
    assert example("hello.py", port, cwd=tmp_path) == ["plain stub: Hello, Ada!", "stormproof: Hello, Ada!"]


def test_observed_tells_what_happened(port, tmp_path):
    """A port where nobody listens, then a server: one failed attempt, three spans, and the metrics by gRPC's names."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        closed = nobody.getsockname()[1]
        said = example("observed.py", str(closed), port, cwd=tmp_path)
    assert said[:6] == [
        f"127.0.0.1:{closed} is left out for now",
        "span: Attempt.hello.Hello/SayHello ERROR",
        "attempt 1 failed: UNAVAILABLE, never sent",
        "span: Attempt.hello.Hello/SayHello UNSET",
        "span: Sent.hello.Hello/SayHello UNSET",
        "Hello, Ada!",
    ]
    assert sorted(said[6:]) == [
        "metric: grpc.client.attempt.duration (s)",
        "metric: grpc.client.attempt.started ({attempt})",
        "metric: grpc.client.call.duration (s)",
        "metric: grpc.client.call.retry_delay (s)",
        "metric: grpc.client.call.transparent_retries ({transparent_retry})",
        "metric: stormproof.client.ejections ({ejection})",
    ]


def test_the_batch_goes_on_where_it_was_killed(port, tmp_path):
    """Killed after some greetings and started again: none is missing, at most ten are said twice."""
    command = [sys.executable, "-u", str(ROOT / "examples" / "batch.py"), port]
    first = subprocess.Popen(command, cwd=tmp_path, env=ENVIRON, stdout=subprocess.PIPE, text=True)
    said = [first.stdout.readline() for _ in range(35)]
    first.kill()
    said += first.communicate()[0].splitlines(keepends=True)
    again = example("batch.py", port, cwd=tmp_path)
    greeted = [line.strip() for line in said] + again
    assert set(greeted) == {f"Hello, guest {number}!" for number in range(1, 101)}
    assert len(greeted) <= 111
    assert example("batch.py", port, cwd=tmp_path) == []


def test_the_listing_goes_on_where_it_was_killed(tmp_path):
    """Killed after some guests and started again: none is missing, at most a hundred come again, and those are marked."""
    command = [sys.executable, "-u", str(ROOT / "examples" / "listing.py")]
    first = subprocess.Popen(command, cwd=tmp_path, env=ENVIRON, stdout=subprocess.PIPE, text=True)
    said = [first.stdout.readline() for _ in range(350)]
    first.kill()
    said += first.communicate()[0].splitlines(keepends=True)
    seen = {line.strip() for line in said if line.endswith("\n")}
    again = example("listing.py", cwd=tmp_path)
    fresh = {line for line in again if "perhaps" not in line}
    assert seen & fresh == set()
    listed = seen | {line.removesuffix(" (perhaps for the second time)") for line in again}
    assert listed == {f"{number - 1}: guest {number}" for number in range(1, 1001)}
    assert len(again) - len(fresh) <= 100
    assert example("listing.py", cwd=tmp_path) == []


def test_the_tests_by_hand_pass(tmp_path):
    """examples/test_checkout.py under plain pytest."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(ROOT / "examples" / "test_checkout.py"),
    ]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRON, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_every_example_is_run():
    """A new example needs a test above."""
    here = Path(__file__).read_text()
    assert [path.name for path in (ROOT / "examples").glob("*.py") if path.name not in here] == []
