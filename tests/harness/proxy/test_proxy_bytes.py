"""What toxics do to bytes on real sockets, on both servers; and what ours does better."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import select
import socket
import time
from pathlib import Path

import psutil
import pytest
from lines import black_hole

from faults import Blackhole, Latency, Reset
from faults.network import Toxic
from harness.proxy.link import HELD, Room
from harness.proxy.proxies import Proxies

#: Seconds in which what must not come could have come.
SILENCE = 0.2


def read(sock, count):
    """Exactly so many bytes."""
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        assert more, f"the connection ended after {len(data)} of {count} bytes"
        data += more
    return data


def silent(sock):
    """Whether nothing can be read for a while, not even the end."""
    return not select.select([sock], [], [], SILENCE)[0]


def ended(sock):
    """Whether the connection ends, in either way, with nothing more to read."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def eventually(holds, missing):
    """Waits until `holds()`."""
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until, missing
        time.sleep(0.005)


def echo(line):
    """Both directions carry bytes."""
    line.client.sendall(b"ping")
    assert read(line.far, 4) == b"ping"
    line.far.sendall(b"pong")
    assert read(line.client, 4) == b"pong"


def test_bytes_pass_unharmed_in_both_directions(proxied):
    """8 MB each way at once, in order, though nobody reads before all that fits is written."""
    line = proxied()
    data = bytes(range(256)) * 32768
    for sock in (line.client, line.far):
        sock.setblocking(False)
    unsent = {line.client: memoryview(data), line.far: memoryview(data)}
    came = {line.client: bytearray(), line.far: bytearray()}
    until = time.monotonic() + 20
    while any(len(got) < len(data) for got in came.values()):
        assert time.monotonic() < until, {len(got) for got in came.values()}
        readable, writable, _ = select.select(came, [sock for sock in unsent if unsent[sock]], [], 1)
        for sock in writable:
            unsent[sock] = unsent[sock][sock.send(unsent[sock]) :]
        for sock in readable:
            came[sock] += sock.recv(1 << 20)
    assert came[line.client] == came[line.far] == data


@pytest.mark.parametrize("towards", ["client", "server"])
def test_latency_delays_one_direction(server, proxied, towards):
    """200 ms, and the other direction does not notice."""
    line = proxied()
    server.control.add(line.name, Latency(0.2, towards=towards).toxics())
    late, prompt = (line.far, line.client) if towards == "client" else (line.client, line.far)
    began = time.monotonic()
    late.sendall(b"a")
    assert read(prompt, 1) == b"a"
    assert 0.199 <= time.monotonic() - began < 2
    prompt.sendall(b"b")
    assert read(late, 1) == b"b"


def test_a_toxic_acts_on_open_connections_and_its_removal_too(server, proxied):
    """What a latency of a minute held comes at once when the latency is removed."""
    line = proxied()
    minute = Latency(60).toxics()
    server.control.add(line.name, minute)
    line.far.sendall(b"late")
    assert silent(line.client)
    server.control.remove(line.name, minute)
    assert read(line.client, 4) == b"late"
    echo(line)


def test_bandwidth_holds_the_rate(server, proxied):
    """50 KB at 100 KB/s take half a second."""
    line = proxied()
    server.control.add(line.name, [Toxic(type="bandwidth", stream="upstream", attributes={"rate": 100})])
    began = time.monotonic()
    line.client.sendall(bytes(50_000))
    assert read(line.far, 50_000) == bytes(50_000)
    assert 0.45 <= time.monotonic() - began < 3


def test_a_black_hole_swallows_and_healing_closes(server, proxied, connect):
    """Bytes vanish, the connection stays, nobody is told; healed, both ends learn it and new connections work."""
    line = proxied()
    hole = Blackhole().toxics()
    server.control.add(line.name, hole)
    line.client.sendall(b"a")
    line.far.sendall(b"b")
    assert silent(line.client)
    assert silent(line.far)
    server.control.remove(line.name, hole)
    assert ended(line.client)
    assert ended(line.far)
    client, far = connect(line)
    client.sendall(b"c")
    assert read(far, 1) == b"c"


def test_a_timeout_closes_after_silence(server, proxied):
    """An idle timeout of 100 ms."""
    line = proxied()
    server.control.add(line.name, [Toxic(type="timeout", stream="downstream", attributes={"timeout": 100})])
    assert ended(line.client)
    assert ended(line.far)


def test_a_reset_tears_the_reply_of_a_new_connection(server, proxied, connect):
    """The request arrives, the reply does not: the client gets a RST, and so does the server."""
    line = proxied()
    reset = Reset().toxics()
    server.control.add(line.name, reset)
    client, far = connect(line)
    client.sendall(b"request")
    assert read(far, 7) == b"request"
    far.sendall(b"reply")
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionResetError):
        far.recv(1)
    server.control.remove(line.name, reset)


def test_down_closes_and_refuses_until_it_is_enabled(server, proxied, connect):
    """Open connections end, new ones are refused; then the same address works again."""
    line = proxied()
    server.control.disable(line.name)
    assert ended(line.client)
    assert ended(line.far)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(line.at, 5)
    server.control.enable(line.name)
    client, far = connect(line)
    far.sendall(b"up")
    assert read(client, 2) == b"up"


def test_limit_data_cuts_after_so_many_bytes(server, proxied):
    """10 of 25 bytes, then the end."""
    line = proxied()
    server.control.add(line.name, [Toxic(type="limit_data", stream="downstream", attributes={"bytes": 10})])
    line.far.sendall(b"1234567890123456789012345")
    assert read(line.client, 10) == b"1234567890"
    assert ended(line.client)


def test_sliced_bytes_are_the_same_bytes(server, proxied):
    """In about 300 pieces, and in order."""
    line = proxied()
    attributes = {"average_size": 10, "size_variation": 3, "delay": 100}
    server.control.add(line.name, [Toxic(type="slicer", stream="upstream", attributes=attributes)])
    data = bytes(range(256)) * 12
    line.client.sendall(data)
    assert read(line.far, len(data)) == data


def test_what_was_sent_before_the_end_arrives_before_the_end(server, proxied):
    """A client that writes and closes is heard out, behind a latency too."""
    line = proxied()
    server.control.add(line.name, [Toxic(type="latency", stream="upstream", attributes={"latency": 100})])
    line.client.sendall(b"x" * 100_000)
    line.client.close()
    assert read(line.far, 100_000) == b"x" * 100_000
    assert line.far.recv(1) == b""


def test_a_half_closed_connection_is_closed(proxied):
    """Neither server keeps the other half open."""
    line = proxied()
    line.client.shutdown(socket.SHUT_WR)
    assert line.far.recv(1) == b""
    assert line.client.recv(1) == b""


def test_an_upstream_that_refuses_ends_the_accepted_connection(server, name):
    """The client connects, then its connection ends: it is never refused itself."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
    host, _, port = server.control.create(name, upstream=nobody, listen="127.0.0.1:0").rpartition(":")
    with socket.create_connection((host, int(port)), 10) as client:
        assert ended(client)


def test_a_connection_is_subject_to_the_toxics_that_were_there_before_it(server, proxied, connect):
    """No connection slips past a toxic that is set."""
    line = proxied()
    hole = Blackhole().toxics()
    server.control.add(line.name, hole)
    client, far = connect(line)
    client.sendall(b"a")
    assert silent(far)


# From here on: what ours does better.


def test_our_reset_acts_on_open_connections(builtin, proxied_builtin):
    """A RST, where the real one sends a FIN to connections that are older than the toxic."""
    line = proxied_builtin()
    echo(line)
    builtin.control.add(line.name, Reset().toxics())
    line.far.sendall(b"reply")
    with pytest.raises(ConnectionResetError):
        line.client.recv(1)


def test_our_reset_needs_no_data(builtin, proxied_builtin):
    """A connection on which nothing is said is reset as well."""
    line = proxied_builtin()
    builtin.control.add(line.name, Reset().toxics())
    with pytest.raises(ConnectionResetError):
        line.client.recv(1)


def test_our_reset_can_be_taken_back_at_once(builtin, proxied_builtin):
    """The real one keeps the request that removes it waiting for its whole timeout."""
    line = proxied_builtin()
    reset = Reset(after=30).toxics()
    builtin.control.add(line.name, reset)
    line.far.sendall(b"a")
    assert silent(line.client)
    began = time.monotonic()
    builtin.control.remove(line.name, reset)
    assert time.monotonic() - began < 5
    line.far.sendall(b"b")
    assert read(line.client, 1) == b"b"


def test_our_silent_upstream_blocks_nobody(builtin, name):
    """Clients are accepted and the proxy can be disabled while a dial is on its way."""
    with black_hole() as upstream, contextlib.ExitStack() as stack:
        host, _, port = builtin.control.create(name, upstream=upstream, listen="127.0.0.1:0").rpartition(":")
        clients = [stack.enter_context(socket.create_connection((host, int(port)), 10)) for _ in range(3)]
        began = time.monotonic()
        builtin.control.disable(name)
        assert all(ended(client) for client in clients)
        assert time.monotonic() - began < 3


def test_our_counters_move_while_the_connection_is_open(builtin, proxied_builtin):
    """Bytes as they are carried, connections as they come, and each act of a toxic."""
    line = proxied_builtin()
    echo(line)
    line.far.sendall(b"more")
    assert read(line.client, 4) == b"more"
    assert builtin.control.carried()[line.name] == (4, 8)
    assert builtin.control.touched(line.name) == 0
    builtin.control.add(line.name, Latency(0.001).toxics())
    line.far.sendall(b"late")
    assert read(line.client, 4) == b"late"
    assert builtin.control.touched(line.name) == 1
    text = builtin.call("GET", "/metrics").text
    assert f'stormproof_proxy_connections_total{{proxy="{line.name}"}} 1\n' in text
    builtin.control.disable(line.name)
    assert builtin.control.touched(line.name) == 2


def test_our_memory_is_bounded_however_much_is_sent(builtin, proxied_builtin):
    """Behind a toxic that lets nothing pass, the sender has to wait: it is not read without end."""
    line = proxied_builtin()
    builtin.control.add(line.name, [Toxic(type="bandwidth", stream="upstream", attributes={"rate": 0})])
    line.client.setblocking(False)
    sent, chunk = 0, bytes(1 << 20)
    while select.select([], [line.client], [], 0.5)[1] and sent < 10 * HELD:
        sent += line.client.send(chunk)
    assert sent < 3 * HELD  # what is held, and what the kernel's buffers take
    builtin.control.remove(line.name, [Toxic(type="bandwidth", stream="upstream")])
    assert read(line.far, sent) == bytes(sent)


def test_our_server_keeps_nothing_of_connections_that_are_gone(start, name):
    """File descriptors are as many as before, whichever end went first and whatever toxic was on the way."""
    own = start()
    process = Path(f"/proc/{own.process.pid}")

    def descriptors():
        return len(list((process / "fd").iterdir()))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        upstream = f"127.0.0.1:{listener.getsockname()[1]}"
        host, _, port = own.control.create(name, upstream=upstream, listen="127.0.0.1:0").rpartition(":")
        before = descriptors()
        faults = itertools.cycle([Latency(0.001), Blackhole(), Reset()])
        for turn, fault in zip(range(30), faults, strict=False):
            own.control.add(name, fault.toxics())
            with socket.create_connection((host, int(port)), 10) as client, listener.accept()[0] as far:
                (client if turn % 2 else far).sendall(b"x")
            own.control.remove(name, fault.toxics())
        eventually(lambda: descriptors() <= before, f"descriptors stayed above {before}")
    status = (process / "status").read_text()
    assert int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) < 200_000


def test_our_toxics_share_what_they_may_hold():
    """16 MB for a link alone; of 1,000 with toxics each has a thousandth of 256 MB."""
    room = Room(pipes=1)
    assert room.share() == HELD
    room.pipes = 1000
    assert room.share() == 256 * 2**20 // 1000


def test_our_memory_is_bounded_on_many_connections_together(start, name):
    """200 connections send 4 MB each into a toxic that lets nothing pass: 800 MB are wanted, and not more than 450 MB taken."""
    own = start()
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener, contextlib.ExitStack() as stack:
        upstream = f"127.0.0.1:{listener.getsockname()[1]}"
        host, _, port = own.control.create(name, upstream=upstream, listen="127.0.0.1:0").rpartition(":")
        own.control.add(name, [Toxic(type="bandwidth", stream="upstream", attributes={"rate": 0})])
        clients = [stack.enter_context(socket.create_connection((host, int(port)), 20)) for _ in range(200)]
        far = [stack.enter_context(listener.accept()[0]) for _ in clients]
        for client in clients:
            client.setblocking(False)
        unsent = dict.fromkeys(clients, 4 * 2**20)
        while unsent and (writable := select.select([], list(unsent), [], 0.5)[1]):
            for client in writable:
                unsent[client] -= client.send(bytes(min(unsent[client], 1 << 18)))
                if not unsent[client]:
                    del unsent[client]
        assert len(far) == 200
        assert psutil.Process(own.process.pid).memory_info().rss < 450 * 10**6


def test_our_counters_of_proxies_that_are_gone_are_kept_for_a_while():
    """Of the last thousand: memory does not grow with everyone that ever was. One that is there keeps its own."""

    async def names():
        proxies = Proxies(seed=1)
        await proxies.create("there", "", "127.0.0.1:1", enabled=False)
        for number in range(1005):
            await proxies.create(f"old-{number}", "", "127.0.0.1:1", enabled=False)
            proxies.delete(f"old-{number}")
        return list(proxies.accounts)

    assert asyncio.run(names()) == ["there", *(f"old-{number}" for number in range(5, 1005))]
