"""Control does what it says on both servers, and says in words when it could not."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from faults import Bandwidth, Blackhole, Latency
from faults.network import Toxic
from harness.proxy.control import Control
from harness.proxy.errors import ToxiproxyError

NOWHERE = "127.0.0.1:1"


def refused(why):
    """A context in which a ToxiproxyError must be raised whose message matches."""
    return pytest.raises(ToxiproxyError, match=why)


def test_create_tells_where_it_listens_and_replaces_its_namesake(server, name):
    """Of two proxies of one name the second is there, without the first one's toxics."""
    control = server.control
    first = control.create(name, upstream=NOWHERE, listen="127.0.0.1:0")
    control.add(name, Latency(1).toxics())
    assert control.create(name, upstream="127.0.0.1:2", listen=first) == first
    proxy = server.call("GET", f"/proxies/{name}").json()
    assert (proxy["upstream"], proxy["toxics"], proxy["enabled"]) == ("127.0.0.1:2", [], True)


def test_add_and_remove_are_what_the_server_shows(server, name):
    """Removing what is gone already is fine."""
    control = server.control
    control.create(name, upstream=NOWHERE, listen="127.0.0.1:0")
    toxics = [*Latency(0.3, jitter=0.05).toxics(), *Blackhole().toxics()]
    control.add(name, toxics)
    shown = server.call("GET", f"/proxies/{name}/toxics").json()
    assert {(toxic["name"], toxic["stream"], str(toxic["attributes"])) for toxic in shown} == {
        ("stormproof_latency_downstream", "downstream", "{'latency': 300, 'jitter': 50}"),
        ("stormproof_timeout_upstream", "upstream", "{'timeout': 0}"),
        ("stormproof_timeout_downstream", "downstream", "{'timeout': 0}"),
    }
    control.remove(name, toxics[:1])
    control.remove(name, toxics)
    assert server.call("GET", f"/proxies/{name}/toxics").json() == []


def test_of_several_toxics_all_are_added_or_none(server, name):
    """One that is refused takes those before it along, but not what was there before."""
    control = server.control
    control.create(name, upstream=NOWHERE, listen="127.0.0.1:0")
    control.add(name, Latency(1).toxics())
    nonsense = Toxic(type="nonsense", stream="upstream")
    with refused("invalid toxic type"):
        control.add(name, [*Bandwidth(5000).toxics(), nonsense])
    with refused("409 toxic already exists"):
        control.add(name, [*Bandwidth(5000).toxics(), *Latency(1).toxics()])
    shown = server.call("GET", f"/proxies/{name}/toxics").json()
    assert [toxic["name"] for toxic in shown] == ["stormproof_latency_downstream"]


def test_disable_enable_and_delete_are_true_when_they_return(server, name):
    """Twice is as good as once."""
    control = server.control
    listen = control.create(name, upstream=NOWHERE, listen="127.0.0.1:0")
    for enabled, change in ((False, control.disable), (True, control.enable)):
        for _ in range(2):
            change(name)
            proxy = server.call("GET", f"/proxies/{name}").json()
            assert (proxy["enabled"], proxy["listen"]) == (enabled, listen)
    control.delete(name)
    control.delete(name)
    assert server.call("GET", f"/proxies/{name}").status_code == 404


def test_an_enable_that_the_server_could_not_do_is_an_error(server, name):
    """The package takes the server's 500 for success."""
    control = server.control
    host, _, port = control.create(name, upstream=NOWHERE, listen="127.0.0.1:0").rpartition(":")
    control.disable(name)
    with (
        socket.create_server((host, int(port))),
        refused("address already in use.* see that the address is free"),
    ):
        control.enable(name)
    control.enable(name)


def test_a_create_that_the_server_could_not_do_names_url_and_reason(server, name):
    """What was asked, of whom, what came back, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ToxiproxyError) as caught:
            server.control.create(name, upstream=NOWHERE, listen=listen)
    asked = f"POST http://127.0.0.1:{server.port}/proxies"
    came = f"500 listen tcp {listen}: bind: address already in use"
    assert str(caught.value) == f"{asked}: {came}; see that the address is free and is this machine's"
    assert caught.value.status == 500


def test_what_is_not_there_is_an_error_that_says_so(server, name):
    """A toxic on a proxy that nobody made."""
    with refused(f"GET .*/proxies/{name}: 404 proxy not found; .* create it first"):
        server.control.add(name, Latency(1).toxics())


def test_bytes_are_counted_by_direction(server, proxied):
    """What came from clients, and what went to them; the real one counts when a connection ends."""
    line = proxied()
    line.client.sendall(b"request")
    assert line.far.recv(100) == b"request"
    line.far.sendall(b"response")
    assert line.client.recv(100) == b"response"
    line.client.close()
    assert line.far.recv(1) == b""
    line.far.close()
    until = time.monotonic() + 20
    while server.control.carried().get(line.name) != (7, 8):
        assert time.monotonic() < until, server.control.carried()
        time.sleep(0.01)
    touched = server.control.touched(line.name)
    assert touched == (0 if server.kind == "builtin" else None)


def test_a_server_without_counters_tells_none(real, name):
    """Nothing was carried yet: the real one shows no counter, and never one of toxics."""
    assert name not in real.control.carried()
    assert real.control.touched(name) is None


def test_two_servers_in_one_process_are_two_servers(builtin, start, name):
    """The package has one address for the whole process; Control has not."""
    other = start()
    builtin.control.create(name, upstream="127.0.0.1:1", listen="127.0.0.1:0")
    other.control.create(name, upstream="127.0.0.1:2", listen="127.0.0.1:0")
    builtin.control.disable(name)
    shown = [server.call("GET", f"/proxies/{name}").json() for server in (builtin, other)]
    assert [(proxy["upstream"], proxy["enabled"]) for proxy in shown] == [
        ("127.0.0.1:1", False),
        ("127.0.0.1:2", True),
    ]


def test_many_threads_may_use_one_control(server, name):
    """8 threads, each with proxies of its own and all with one in common."""
    control = server.control
    control.create(name, upstream=NOWHERE, listen="127.0.0.1:0")

    def work(number):
        own = f"{name}-{number}"
        for _ in range(5):
            control.create(own, upstream=NOWHERE, listen="127.0.0.1:0")
            control.add(own, Latency(0.1).toxics())
            control.disable(name)
            control.enable(own)
            control.delete(own)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [None] * 8


def test_a_server_that_is_not_there_is_told_within_the_deadline():
    """Which address was asked, and what to look at."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    control = Control("127.0.0.1", port)
    with refused(f"GET http://127.0.0.1:{port}/version: no Toxiproxy answers .*refused.*; see that it runs"):
        control.version()
    began = time.monotonic()
    with refused("not ready after 0.2 s: GET"):
        control.wait_ready(0.2)
    assert time.monotonic() - began < 5


def test_a_server_that_never_answers_is_told_within_the_deadline():
    """It accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        with refused("not ready after 0.3 s"):
            Control("127.0.0.1", mute.getsockname()[1]).wait_ready(0.3)
        assert time.monotonic() - began < 5


def test_a_server_that_is_no_toxiproxy_is_told():
    """Something else listens at that port."""
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer():
            with other.accept()[0] as sock:
                sock.recv(10_000)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        thread = threading.Thread(target=answer)
        thread.start()
        with refused("'hello' is not JSON; is this a Toxiproxy?"):
            Control("127.0.0.1", other.getsockname()[1]).version()
        thread.join()


def test_a_server_that_dies_in_the_middle_is_told(start, name):
    """Whatever is asked of it then."""
    own = start()
    control = own.control
    control.create(name, upstream=NOWHERE, listen="127.0.0.1:0")
    own.process.kill()
    own.process.wait(20)
    for ask in (control.version, control.carried):
        with refused("no Toxiproxy answers"):
            ask()
    for ask_of in (control.disable, control.enable, control.delete, control.touched):
        with refused("no Toxiproxy answers"):
            ask_of(name)
    for change in (control.add, control.remove):
        with refused("no Toxiproxy answers"):
            change(name, Latency(1).toxics())
