"""Each deliberate difference, shown on both servers, so that the list of them stays true; docs/toxiproxy.md prints the list."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from pathlib import Path

import pytest
from differences import Difference
from lines import Script, Step, all_of, black_hole, put, send
from twins import Pair, Request, Twin

from faults import Reset
from harness.fleet.ports import free_port

ROOT = Path(__file__).parents[3]
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def twins(builtin, real):
    """Both, without proxies, and one port that is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"<TAKEN>": taken.getsockname()[1]}
        pair = Pair(*(Twin(kind=s.kind, port=s.port, ports={**ports, "<P1>": free_port()}) for s in (builtin, real)))
        pair.clear()
        yield pair
        pair.clear()


def make(**more: object) -> Request:
    body = {"name": "a", "upstream": NOWHERE, "listen": "127.0.0.1:<P1>", **more}
    return Request(method="POST", path="/proxies", body=json.dumps(body))


def toxic(kind: str, more: str = "", **attributes: object) -> Request:
    """One that is added, or the edit of the one called `more`."""
    body = {"type": kind, "attributes": attributes}
    return Request(method="POST", path=f"/proxies/a/toxics{more}", body=json.dumps(body))


def change(**body: object) -> Request:
    return Request(method="PATCH", path="/proxies/a", body=json.dumps(body))


SHOWN_BY_REQUESTS = [
    (Difference.VERSION, [Request(method="GET", path="/version")]),
    (Difference.BOUNDS, [make(), toxic("bandwidth", rate=-1)]),
    (Difference.BOUNDS, [make(), toxic("slicer")]),
    (Difference.BOUNDS, [make(), toxic("latency", jitter=2**62)]),
    (Difference.ATOMIC, [make(), toxic("latency", latency=1), toxic("", "/latency_downstream", latency=5, jitter="x")]),
    (Difference.ROLLBACK, [make(), change(listen="127.0.0.1:<TAKEN>")]),
    (Difference.LOSS, [make(), toxic("packet_loss", loss_rate=0.5)]),
]


@pytest.mark.parametrize(("difference", "requests"), SHOWN_BY_REQUESTS, ids=lambda value: getattr(value, "name", ""))
def test_requests_show_the_difference(twins, difference, requests):
    """The last of them is answered differently, or leaves another state; with the reason that is listed."""
    twins.play(requests)
    assert twins.seen[difference] == 1


def test_our_reset_goes_on(builtin, real):
    """RESET: of 8 proxies one cannot be started. Ours resets the other 7; the real one stops where it comes to it (9 tries)."""
    left = {"builtin": 0, "toxiproxy": 0}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bad = {"name": "bad", "upstream": NOWHERE, "listen": f"127.0.0.1:{taken.getsockname()[1]}", "enabled": False}
        for server in (builtin, real):
            names = [f"good-{number}" for number in range(7)]
            assert server.call("POST", "/proxies", bad).status_code == 201
            for name in names:
                server.call("POST", "/proxies", {"name": name, "upstream": NOWHERE, "listen": "127.0.0.1:0"})
            for _ in range(9):
                for name in names:
                    server.call("POST", f"/proxies/{name}", {"enabled": False})
                assert server.call("POST", "/reset").status_code == 500
                left[server.kind] += sum(not server.call("GET", f"/proxies/{name}").json()["enabled"] for name in names)
            for name in [*names, "bad"]:
                server.call("DELETE", f"/proxies/{name}")
    assert left["builtin"] == 0 < left["toxiproxy"]  # by chance 0 of them with 8 ** -9


def test_only_the_real_one_leaks_its_logger(builtin, real, name):
    """LOGGER: an empty member that no client asked for."""
    body = {"name": name, "upstream": NOWHERE, "listen": "127.0.0.1:0"}
    shown = [server.call("POST", "/proxies", body).json() for server in (builtin, real)]
    assert list(shown[0]) == ["name", "listen", "upstream", "enabled", "toxics"]
    assert list(shown[1]) == ["name", "listen", "upstream", "enabled", "Logger", "toxics"]


def test_without_a_host_ours_listens_on_loopback_and_the_real_one_everywhere(builtin, real, name):
    """LOOPBACK."""
    shown = [server.call("POST", "/proxies", {"name": name, "upstream": NOWHERE}).json() for server in (builtin, real)]
    assert [proxy["listen"].rpartition(":")[0] for proxy in shown] == ["127.0.0.1", "[::]"]


def test_only_the_real_one_knows_services_by_name(builtin, real, name):
    """PORTS: a proxy that is disabled is asked to move to port "domain"; the real one finds a number for it."""
    body = {"name": name, "upstream": NOWHERE, "listen": "127.0.0.1:0", "enabled": False}
    for server in (builtin, real):
        server.call("POST", "/proxies", body)
    moved = [
        server.call("PATCH", f"/proxies/{name}", {"listen": "127.0.0.1:domain"}).status_code
        for server in (builtin, real)
    ]
    assert moved == [500, 200]


def lines(builtin, real, *steps: Step, seconds: float = 1.0):
    """What both made of a script."""
    return all_of((builtin.port, real.port), [Script(steps=steps, seconds=seconds)])[0]


def edit(at: float, **attributes: int) -> Step:
    return Step(at=at, do="edit", name="t", body={"attributes": attributes})


def test_what_is_held_is_due_by_the_new_attributes(builtin, real):
    """HELD: a latency of 0.5 s is edited to 0.6 s with a chunk in flight; the real one lets that go at once."""
    ours, theirs = lines(builtin, real, put(-1, "latency", latency=500), send(0.1, "far", 1), edit(0.2, latency=600))
    assert ours.client.last >= 0.69
    assert theirs.client.last < 0.45


def test_removing_a_timeout_spares_what_it_spared(builtin, real):
    """SPARED: with toxicity 0 it took nobody, and yet the real one closes everybody when it goes."""
    gone = Step(at=0.1, do="remove", name="t")
    ours, theirs = lines(builtin, real, put(-1, "timeout", toxicity=0.0, timeout=0), gone, send(0.3, "far", 1))
    assert (ours.client.data, ours.client.ended) == (b"\x00", None)
    assert (theirs.client.data, theirs.client.ended is None) == (b"", False)


def test_an_open_connection_is_reset_by_ours_and_ended_by_the_real_one(builtin, real):
    """OPEN_RESET: a RST, and a FIN."""
    ours, theirs = lines(builtin, real, put(0.1, "reset_peer", timeout=0), send(0.2, "far", 1))
    assert (ours.client.reset, theirs.client.reset, theirs.client.ended is None) == (True, False, False)


def test_an_idle_connection_is_reset_by_ours_alone(builtin, real):
    """IDLE_RESET: a second after the timeout."""
    ours, theirs = lines(builtin, real, put(-1, "reset_peer", timeout=100), seconds=2.0)
    assert ours.client.reset
    assert ours.client.ended >= 1.09
    assert theirs.client.ended is None


def test_a_waiting_reset_is_taken_back_at_once_by_ours(builtin, real, proxied_both):
    """PROMPT: the real one keeps the request for the rest of the 2 s."""
    reset, took = Reset(after=2.0).toxics(), []
    for server, line in zip((builtin, real), proxied_both, strict=True):
        server.control.add(line.name, reset)
        line.far.sendall(b"a")
        time.sleep(0.2)  # the byte must be there: nothing is to be seen of it
        began = time.monotonic()
        server.control.remove(line.name, reset)
        took.append(time.monotonic() - began)
    assert took[0] < 1.0 < took[1]


def test_a_silent_upstream_holds_up_the_real_one_alone(builtin, real, name):
    """BLACK_HOLE: the upstream's queue is full, Linux answers no further SYN; the real proxy is not disabled within 3 s."""
    with black_hole() as upstream:
        for server in (builtin, real):
            body = {"name": name, "upstream": upstream, "listen": "127.0.0.1:0"}
            host, _, port = server.call("POST", "/proxies", body).json()["listen"].rpartition(":")
            with socket.create_connection((host, int(port)), 10):
                answered = asyncio.run(disabled(server.port, name))
            assert answered == (server is builtin)
    for server in (builtin, real):  # the dial is over now
        server.call("DELETE", f"/proxies/{name}")


async def disabled(port: int, name: str) -> bool:
    """Whether the proxy was disabled within 3 s."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"enabled":false}'
    writer.write(f"POST /proxies/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    try:
        async with asyncio.timeout(3):
            return (await reader.readline()).split()[1] == b"200"
    except TimeoutError:
        return False
    finally:
        writer.close()


def test_a_connection_keeps_its_draw_with_ours_alone(builtin, real):
    """STICKY: 30 lines, a toxicity of 0.5, an empty edit between two bytes. With ours both arrive, or none does.

    With the real one just one of them does on some line: on none of 30 it would with 2 ** -30.
    """
    hole = put(-1, "timeout", toxicity=0.5, timeout=0)
    script = Script(steps=(hole, send(0.1, "far", 1), edit(0.5), send(0.6, "far", 1)), seconds=1.5)
    pairs = all_of((builtin.port, real.port), [script] * 30)
    halves = [sum(len(line.client.data) == 1 for line in side) for side in zip(*pairs, strict=True)]
    assert halves[0] == 0 < halves[1]


def test_counters_move_with_ours_alone(builtin, real, proxied_both):
    """COUNTERS: one byte each way, the connection is open."""
    for line in proxied_both:
        line.client.sendall(b"a")
        assert line.far.recv(1) == b"a"
    assert builtin.control.carried()[proxied_both[0].name] == (1, 0)
    assert proxied_both[1].name not in real.control.carried()


def test_the_documentation_prints_this_list():
    """docs/toxiproxy.md has each difference, word by word, and no other."""
    text = (ROOT / "docs" / "toxiproxy.md").read_text()
    section = text.split("## Deliberate differences")[1].split("\n## ")[0]
    assert [line.removeprefix("- ") for line in section.splitlines() if line.startswith("- ")] == [
        difference.value for difference in Difference
    ]


def test_every_difference_is_shown():
    """Each stands in a test here, by name; SEED and CONFIG in those of the program, test_proxy_serve.py."""
    here = Path(__file__).read_text() + Path(__file__).with_name("test_proxy_serve.py").read_text()
    assert [difference.name for difference in Difference if here.count(difference.name) < 1] == []
