"""The built-in server as a program: its configuration, its seed, its counters, and that nothing ends it."""

from __future__ import annotations

import json
import resource
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from faults.network import Toxic
from harness.fleet.ports import free_port
from harness.proxy.control import Control
from harness.proxy.find import command

ROOT = Path(__file__).parents[3]
NOWHERE = "127.0.0.1:1"


@contextmanager
def program(argv: list[str], **options: object) -> Iterator[subprocess.Popen[str]]:
    """Runs it, and ends it whatever happens."""
    with subprocess.Popen(argv, text=True, **{"stdout": subprocess.DEVNULL, **options}) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(argv: list[str]) -> tuple[int, str]:
    """Status and stderr of the program, which ends by itself."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_configuration_is_there_from_the_start(start, tmp_path):
    """The same array that /populate takes, as toxiproxy-server has it."""
    config = tmp_path / "proxies.json"
    config.write_text(
        json.dumps([{"name": "a", "upstream": NOWHERE, "listen": "127.0.0.1:0"}, {"name": "b", "upstream": NOWHERE}])
    )
    server = start("--config", str(config))
    assert {name: proxy["upstream"] for name, proxy in server.call("GET", "/proxies").json().items()} == {
        "a": NOWHERE, "b": NOWHERE,
    }  # fmt: skip


def test_the_command_line_serves_with_all_of_it(tmp_path):
    """`stormproof toxiproxy serve`: its first line says where, and with which seed; it ends with status 0."""
    config = tmp_path / "proxies.json"
    config.write_text(json.dumps([{"name": "a", "upstream": NOWHERE, "listen": "127.0.0.1:0"}]))
    words = ["serve", "--host=127.0.0.1", "--port=0", f"--config={config}", "--seed=7", "--proxy-metrics"]
    argv = [sys.executable, "-m", "harness.cli", "toxiproxy", *words]
    with program(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("stormproof proxy 2.12.0-stormproof, seed 7, http://127.0.0.1:")
        url = first.split()[-1]
        assert list(requests.get(f"{url}/proxies", timeout=20).json()) == ["a"]
        assert requests.get(f"{url}/metrics", timeout=20).status_code == 200
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[{"name": "a"}]', "missing required field: upstream at proxy 1; it takes what POST /populate takes"),
        ("[", "bad request body: Expecting value: line 1 column 2 (char 1); it takes what POST /populate takes"),
        (
            '[{"name": "a", "upstream": "x", "listen": "x"}]',
            "listen tcp: address x: missing port in address; it takes what POST",
        ),
        (None, "No such file or directory; give a file with a JSON array of proxies"),
    ],
)
def test_a_configuration_that_cannot_be_carried_out_ends_the_program(builtin_found, real, tmp_path, text, why):
    """CONFIG: status 2, and a line that names the file and what is wrong; the real one starts, and has no proxies."""
    config = tmp_path / "proxies.json"
    if text is not None:
        config.write_text(text)
    status, words = ended([*command(builtin_found, free_port()), "--config", str(config)])
    assert (status, words.startswith(f"stormproof proxy: {config}: {why}")) == (2, True), words
    port = free_port()
    argv = [real.process.args[0], "-port", str(port), "-config", str(config)]
    with program(argv):
        Control("localhost", port).wait_ready(20)


def test_counters_are_served_where_they_were_asked_for(builtin_found, builtin):
    """404 without the flag, as with the real one; with it by any method."""
    port = free_port()
    argv = [word for word in command(builtin_found, port) if word != "--proxy-metrics"]
    with program(argv):
        control = Control("127.0.0.1", port)
        control.wait_ready(20)
        assert control.carried() == {}
        assert control.touched("a") is None
    assert builtin.call("POST", "/metrics").status_code == 200


def taken(server, control, name, seed="", count=24):
    """Which of so many connections, one after the other, a toxic with toxicity 0.5 takes: they are cut by it."""
    hit = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        upstream = f"127.0.0.1:{listener.getsockname()[1]}"
        host, _, port = control.create(name, upstream=upstream, listen="127.0.0.1:0", seed=seed).rpartition(":")
        body = {"type": "limit_data", "stream": "upstream", "toxicity": 0.5, "attributes": {"bytes": 0}}
        server.call("POST", f"/proxies/{name}/toxics", body)
        for _ in range(count):
            with socket.create_connection((host, int(port)), 20) as client, listener.accept()[0] as far:
                far.settimeout(20)
                client.sendall(b"a")
                hit.append(far.recv(1) == b"")
        control.delete(name)
    return hit


def test_the_servers_seed_repeats_who_is_hit(start):
    """SEED: two servers with one seed take the same connections of a proxy of that name, another seed others."""
    hits = [
        taken(server, server.control, "a")
        for server in (start("--seed", "7"), start("--seed", "7"), start("--seed", "8"))
    ]
    assert hits[0] == hits[1] != hits[2]
    assert 0 < sum(hits[0]) < 24


def test_a_proxys_own_seed_repeats_who_is_hit_by_any_name(builtin, real):
    """SEED: that is how a run's seed reaches its proxies, whose names are new in each run. The real one ignores it."""
    given = [("one-run", "7/server-0"), ("another-run", "7/server-0"), ("a-third", "8/server-0")]
    hits = [taken(builtin, builtin.control, name, seed) for name, seed in given]
    assert hits[0] == hits[1] != hits[2]
    assert len({tuple(taken(real, real.control, name, seed)) for name, seed in given[:2]}) == 2  # equal with 2 ** -24


KILLERS = [
    {"type": "bandwidth", "attributes": {"rate": -1}},
    {"type": "slicer"},
    {"type": "latency", "attributes": {"latency": 1, "jitter": 2**62}},
]


@pytest.mark.parametrize("toxic", KILLERS, ids=lambda toxic: toxic["type"])
def test_what_ends_the_real_server_is_refused_by_ours(builtin, proxied_builtin, toxic):
    """400, and bytes still pass."""
    line = proxied_builtin()
    assert builtin.call("POST", f"/proxies/{line.name}/toxics", toxic).status_code == 400
    line.client.sendall(b"alive")
    assert line.far.recv(5) == b"alive"


@pytest.mark.parametrize("toxic", [KILLERS[0], KILLERS[2]], ids=lambda toxic: toxic["type"])
def test_with_that_the_real_server_ends(real, toxic):
    """BOUNDS: it accepts the toxic, and panics with the first byte. (The slicer takes it a gigabyte of stack and seconds.)"""
    port = free_port()
    argv = [real.process.args[0], "-host", "127.0.0.1", "-port", str(port)]
    with (
        program(argv, stderr=subprocess.DEVNULL) as process,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        control = Control("127.0.0.1", port)
        control.wait_ready(20)
        upstream = f"127.0.0.1:{listener.getsockname()[1]}"
        host, _, at = control.create("a", upstream=upstream, listen="127.0.0.1:0").rpartition(":")
        assert requests.post(f"{control.url}/proxies/a/toxics", json={**toxic, "stream": "upstream"}, timeout=20).ok
        with socket.create_connection((host, int(at)), 20) as client:
            client.sendall(b"a")
            assert process.wait(20) == 2


def test_connections_without_end_end_at_the_limit_of_descriptors_and_harm_nobody(start):
    """400 connections to a server that may have 100 descriptors: an old one goes on, and new ones do once the crowd is gone."""
    server = start()
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (100, 100))
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        upstream = f"127.0.0.1:{listener.getsockname()[1]}"
        host, _, port = server.control.create("a", upstream=upstream, listen="127.0.0.1:0").rpartition(":")
        with socket.create_connection((host, int(port)), 20) as client, listener.accept()[0] as far:
            crowd = [socket.create_connection((host, int(port)), 20) for _ in range(400)]
            client.sendall(b"first")
            assert far.recv(5) == b"first"
            for one in crowd:
                one.close()
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with socket.create_connection((host, int(port)), 20) as late:
                    late.settimeout(1)
                    late.sendall(b"late")
                    listener.settimeout(1)
                    if b"late" in arriving(listener):
                        break
            else:
                pytest.fail("no connection got through in 20 s, though all were closed")
    assert server.control.version().endswith("-stormproof")


def arriving(listener):
    """What comes on the connections that wait there, each within a second."""
    came = set()
    while True:
        try:
            with listener.accept()[0] as far:
                far.settimeout(1)
                came.add(far.recv(10))
        except (TimeoutError, ConnectionResetError):
            return came


def test_a_toxic_edited_by_control_has_the_new_attributes(server, proxied):
    """The package cannot do that; the edit is looked at before it counts as made."""
    line = proxied()
    late = Toxic(type="latency", stream="downstream", attributes={"latency": 60_000})
    server.control.add(line.name, [late])
    server.control.edit(line.name, Toxic(type="latency", stream="downstream", attributes={"latency": 10}))
    line.far.sendall(b"a")
    assert line.client.recv(1) == b"a"
    assert server.call("GET", f"/proxies/{line.name}/toxics/{late.name}").json()["attributes"] == {
        "latency": 10,
        "jitter": 0,
    }


def test_whatever_is_thrown_at_it_the_server_lives():
    """benchmarks/fuzz_proxy.py for some 15 s: hundreds of cases and a crowd of 2,000; status 0, and the count is told."""
    script = ROOT / "benchmarks" / "fuzz_proxy.py"
    done = subprocess.run(
        [sys.executable, str(script), "--minutes=0.2", "--seed=3"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " cases in 0.2 minutes from seed 3 (" in done.stdout
    assert " crowd): the server lives, said nothing, and took " in done.stdout


def killed_in_the_middle(world):
    """What the fuzzer looks for after each batch, when there is no server any more."""
    with world() as (runner, around):
        around.process.kill()
        around.process.wait(20)
        runner.run(around.well())


def test_the_fuzzer_notices_a_server_that_ends():
    """Else its count would prove nothing: the process is killed under it."""
    fuzz = runpy.run_path(str(ROOT / "benchmarks" / "fuzz_proxy.py"), run_name="fuzz")
    with pytest.raises(AssertionError, match="the server ended"):
        killed_in_the_middle(fuzz["world"])
