"""Load reports of a server, on threads and on asyncio: what its answers carry, and that nothing else changes."""

from __future__ import annotations

import logging
import socket
import struct
import time
from concurrent import futures

import grpc
import pytest
from serving import CHAT, DO, EACH, HEALTH, KINDS, Fails, call, keyed, serving, until

from stormproof.orca import COPY, decode, report_in
from stormproof.server import FixedLimit, Idempotency, Limit, LoadReport, LoadReporter, MemoryOutcomes

BUSY = LoadReport(application_utilization=0.75, qps=40.0, eps=2.0, named_metrics={"queue": 3.0})


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def do(request, context):
    """Fails as it is told to, or answers with trailing metadata of its own."""
    if request.isupper():
        raise Fails(grpc.StatusCode[request.decode()], "as told", (("own", "aborted"),))
    if request == b"raise":
        raise ValueError("a mistake")
    if request == b"reports":
        context.set_trailing_metadata(((COPY, b"its own"),))
    else:
        context.set_trailing_metadata((("own", "kept"), ("own-bin", b"\x00\xff")))
    return request


def failing(address: str, request: bytes) -> dict[str, str | bytes]:
    """The trailing metadata of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call(address, request=request)
    return dict(caught.value.trailing_metadata() or ())


@pytest.mark.guarantee(18)
def test_each_answer_carries_the_report_and_the_handlers_own_metadata(kind):
    """What measure says when the call ends, in the trailing metadata, beside what the handler put there."""
    with serving(kind, LoadReporter(lambda: BUSY), do=do) as address:
        reply, trailing = call(address)
        assert reply == b"x"
        assert decode(trailing.pop(COPY)) == BUSY
        assert trailing == {"own": "kept", "own-bin": b"\x00\xff"}


def on_the_wire(address: str) -> bytes:
    """What a server sends for one call, as bytes: HTTP/2 by hand, every header a literal without Huffman coding."""

    def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
        return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body

    headers = {":method": "POST", ":scheme": "http", ":path": DO, ":authority": "x", "te": "trailers"}
    headers["content-type"] = "application/grpc"
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers.items()
    )
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        connection.sendall(frame(1, 4, 1, block) + frame(0, 1, 1, b"\0\0\0\0\1x"))
        received = b""
        while COPY.encode() not in received:  # the last name in the trailers
            chunk = connection.recv(65536)
            assert chunk, received
            received += chunk
        return received


@pytest.mark.guarantee(18)
def test_the_standard_trailer_is_sent_and_grpc_for_python_keeps_it_to_itself(kind):
    """Go, Java and C++ clients are told under the standard name. When this fails because Python is shown it, too, the copy
    that travels beside it can go (stormproof/orca.py)."""
    with serving(kind, LoadReporter(lambda: BUSY)) as address:
        assert b"\x19endpoint-load-metrics-bin" in on_the_wire(address)
        assert set(call(address)[1]) == {COPY}


def test_a_report_of_the_handlers_own_is_not_replaced(kind):
    """One that knows better has the word."""
    with serving(kind, LoadReporter(lambda: BUSY), do=do) as address:
        assert call(address, request=b"reports")[1] == {COPY: b"its own"}


def test_calls_and_errors_are_counted_where_measure_does_not(kind):
    """16 calls, of them four errors of the server's and two of the callers': qps and eps as 16 to 4."""
    with serving(kind, LoadReporter(lambda: LoadReport(cpu_utilization=0.5)), do=do) as address:
        for request in (b"UNAVAILABLE", b"INTERNAL", b"raise", b"DATA_LOSS", b"NOT_FOUND", b"INVALID_ARGUMENT"):
            failing(address, request)
        for _ in range(9):
            call(address)
        report = decode(call(address)[1][COPY])
        assert report.cpu_utilization == 0.5
        assert report.qps / report.eps == pytest.approx(16 / 4)


def test_calls_a_second_are_what_they_are(kind):
    """50 calls a second at most, for 1.5 s: what the last answer tells is their number by the time since the start."""
    before = time.monotonic()
    reporter = LoadReporter(lambda: LoadReport(cpu_utilization=0.5))
    after, calls = time.monotonic(), 0
    with serving(kind, reporter) as address, grpc.insecure_channel(address) as channel:
        while (began := time.monotonic()) < after + 1.5 or calls == 0:
            _, done = channel.unary_unary(DO).with_call(b"x", timeout=10)
            calls, ended, asked = calls + 1, time.monotonic(), began
            time.sleep(0.02)
        qps = report_in(done.trailing_metadata()).qps
    assert calls / max(1.0, ended - before) <= qps <= calls / max(1.0, asked - after)


def test_without_a_measure_it_is_the_cpu_of_the_process(kind):
    """A handler computes for half a second of CPU: what is told, over the time since the start, is at least that; and with
    qps, so that it makes a weight."""

    def work(request, _):
        enough = time.thread_time() + 0.5
        while time.thread_time() < enough:
            pass
        return request

    began, reporter = time.monotonic(), LoadReporter()
    with serving(kind, reporter, do=work) as address:
        report = decode(call(address, timeout=60)[1][COPY])
        elapsed = max(1.0, time.monotonic() - began)
        assert report.cpu_utilization * reporter._cores * elapsed >= 0.5
        assert report.qps > 0


def test_what_is_refused_is_told_as_an_error(kind):
    """Listed before Limit: a server that is full reports errors, so that clients give it less."""
    limit = Limit(FixedLimit(calls=1))
    reporter = LoadReporter(lambda: LoadReport(cpu_utilization=0.5))
    limit._gauge.begin(0.0)
    with serving(kind, reporter, limit) as address:
        failing(address, b"x")
        limit._gauge.finished(0.0, 1.0)
        report = decode(call(address)[1][COPY])
        assert report.qps / report.eps == pytest.approx(2.0)


def test_a_repeated_outcome_carries_the_report_of_today(kind):
    """Listed before Idempotency: what is stored has no report, so that an old one is never told again."""
    reports = iter([BUSY, LoadReport(application_utilization=0.1, qps=1.0)])
    with serving(kind, LoadReporter(lambda: next(reports)), Idempotency(MemoryOutcomes()), do=do) as address:
        told = [decode(call(address, **keyed("k"))[1][COPY]).application_utilization for _ in range(2)]
        assert told == [0.75, 0.1]


def test_an_aborted_call_keeps_its_status_and_metadata(kind):
    """On threads it carries the report as well; grpc.aio has sent the status by then."""
    with serving(kind, LoadReporter(lambda: BUSY), do=do) as address:
        trailing = failing(address, b"NOT_FOUND")
        assert trailing["own"] == "aborted"
        assert (COPY in trailing) == (kind == "threads")


@pytest.mark.parametrize("method", [EACH, CHAT])
def test_a_stream_carries_it_at_its_end(kind, method):
    """After the last message."""
    with serving(kind, LoadReporter(lambda: BUSY)) as address, grpc.insecure_channel(address) as channel:
        stream = channel.unary_stream(method)(b"x") if method == EACH else channel.stream_stream(method)(iter([b"x"]))
        assert list(stream) == [b"x"]
        assert report_in(stream.trailing_metadata()) == BUSY


def test_health_checks_are_not_counted_and_carry_nothing(kind):
    """100 of them and two calls: qps speaks of the two, and the checks stay small."""
    with serving(kind, LoadReporter(lambda: LoadReport(cpu_utilization=0.5))) as address:
        with grpc.insecure_channel(address) as channel:
            for _ in range(100):
                _, done = channel.unary_unary(HEALTH).with_call(b"x")
                assert report_in(done.trailing_metadata()) is None
        call(address)
        assert decode(call(address)[1][COPY]).qps <= 2.0


@pytest.mark.guarantee(107)
@pytest.mark.parametrize("says", [ValueError("no sensor"), None], ids=["raises", "returns None"])
def test_a_measure_that_fails_harms_no_call_and_is_logged_once(kind, says, caplog):
    """The calls go on without a report; three failures in a row are one line, and when it works again there are reports."""
    broken = True

    def measure():
        if broken and says is not None:
            raise says
        return None if broken else BUSY

    with serving(kind, LoadReporter(measure), do=do) as address, caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert call(address) == (b"x", {"own": "kept", "own-bin": b"\x00\xff"})
        assert len([line for line in caplog.records if "the measure of the server's load failed" in line.message]) == 1
        broken = False
        assert decode(call(address)[1][COPY]) == BUSY


def test_many_at_once_are_all_counted(kind):
    """200 calls from 16 threads: none is lost."""
    reporter = LoadReporter()
    with serving(kind, reporter) as address, futures.ThreadPoolExecutor(16) as pool:
        with grpc.insecure_channel(address) as channel:
            list(pool.map(lambda _: channel.unary_unary(DO)(b"x", timeout=10), range(200)))
        until(lambda: reporter._calls == 200, f"all are counted: {reporter._calls}")


def test_a_plain_handler_on_asyncio_is_left_alone():
    """grpc.aio does not show it its trailing metadata, which an addition would wipe out: no report, and it counts."""
    reporter = LoadReporter(lambda: BUSY)

    class Plain(grpc.GenericRpcHandler):
        def service(self, _):
            return grpc.unary_unary_rpc_method_handler(do)

    from serving import _start_aio

    with _start_aio([Plain()], (reporter,), 4) as address:
        assert call(address) == (b"x", {"own": "kept", "own-bin": b"\x00\xff"})
    assert reporter._calls == 1


def test_a_bad_measure_is_told_where_it_is_given():
    """A report in place of a function."""
    with pytest.raises(ValueError, match="LoadReporter: measure must be a function that returns a LoadReport, or None"):
        LoadReporter(BUSY)
