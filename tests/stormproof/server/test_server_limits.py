"""A server's limit on calls at once, on threads and on asyncio: what is too much is refused, told so, and never begun."""

from __future__ import annotations

import threading
from concurrent import futures

import grpc
import pytest
from serving import CHAT, DO, EACH, HEALTH, KINDS, Fails, call, serving, told, until

from stormproof import Backoff, CallError, Channel, Policy, Retry
from stormproof.core.limit import Fixed
from stormproof.server import FixedLimit, GradientLimit, Limit

FULL = ("RESOURCE_EXHAUSTED", "the server is working on as many calls as it can (3); this one was not begun")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


class Gate:
    """A handler that stays in until it is let go."""

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self.release = threading.Event()
        self.ran = 0

    def __call__(self, request, _):
        if request != b"quick":
            self.ran += 1
            self.inside.release()
            assert self.release.wait(10)
        return request

    def each(self, request, _):
        yield b"first"
        yield self(request, _)

    def entered(self, calls: int) -> None:
        for _ in range(calls):
            assert self.inside.acquire(timeout=5), "the handler was not entered"


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.release.set()


@pytest.fixture
def pool():
    with futures.ThreadPoolExecutor(16) as pool:
        yield pool


@pytest.mark.guarantee(82)
def test_no_more_run_than_the_limit_and_the_others_are_refused(kind, gate, pool):
    """Guarantee 82: of 8 calls at once three run, five are answered RESOURCE_EXHAUSTED; when they are done, more run."""
    limit = Limit(FixedLimit(calls=3))
    with serving(kind, limit, do=gate) as address:
        calls = [pool.submit(call, address) for _ in range(8)]
        gate.entered(3)
        until(lambda: sum(one.done() for one in calls) == 5, "five are answered while three are held")
        refused = [told(one.exception()) for one in calls if one.done()]
        assert refused == [FULL] * 5
        assert (limit.in_flight, limit.refused, gate.ran) == (3, 5, 3)
        gate.release.set()
        assert [one.result(5)[0] for one in calls if one.exception() is None] == [b"x"] * 3
        assert call(address)[0] == b"x"
        until(lambda: limit.in_flight == 0, "all are counted out")


@pytest.mark.guarantee(82)
def test_a_stormproof_client_does_not_come_back_unless_it_is_told_when(kind, gate, pool):
    """Guarantee 82: without a pushback a refusal is final, and says that nothing was done; one attempt."""
    with serving(kind, Limit(FixedLimit(calls=1)), do=gate) as address, Channel([address]) as channel:
        held = pool.submit(channel.unary_unary(DO), b"x")
        gate.entered(1)
        with pytest.raises(CallError) as caught:
            channel.unary_unary(DO)(b"y")
        assert (caught.value.attempts, caught.value.may_have_happened) == (1, False)
        gate.release.set()
        assert held.result(5) == b"x"


def test_a_pushback_sends_the_caller_elsewhere_after_a_while(kind, gate, pool):
    """pushback=0.05 tells 25 to 75 ms, and a stormproof client then asks a server that has room."""
    policy = Policy(retry=Retry(attempts=2, backoff=Backoff(base=0)))
    with serving(kind, Limit(FixedLimit(calls=1), pushback=0.05), do=gate) as full, serving(kind) as free:
        held = pool.submit(call, full)
        gate.entered(1)
        with pytest.raises(grpc.RpcError) as caught:
            call(full)
        told = dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"]
        assert 25 <= int(told) <= 75
        with Channel([full, free], policy=policy) as channel:
            assert [channel.unary_unary(DO)(b"y") for _ in range(4)] == [b"y"] * 4
        gate.release.set()
        held.result(5)


def test_health_checks_are_let_in_when_nothing_else_is(kind, gate, pool):
    """They are exempt by the pattern of their name, and are not counted; so is what else is named."""
    limit = Limit(FixedLimit(calls=1), exempt=("/grpc.health.*", "/test.*/Each"))
    with serving(kind, limit, do=gate) as address, grpc.insecure_channel(address) as channel:
        held = pool.submit(call, address)
        gate.entered(1)
        assert call(address, HEALTH, b"quick")[0] == b"quick"
        assert list(channel.unary_stream(EACH)(b"x")) == [b"x"]
        assert (limit.in_flight, limit.refused) == (1, 0)
        gate.release.set()
        held.result(5)


@pytest.mark.parametrize("method", [EACH, CHAT])
def test_a_stream_holds_its_place_until_it_is_over_however_it_ends(kind, gate, method):
    """While it is open others are refused; cancelled by its caller, it makes room."""
    limit = Limit(FixedLimit(calls=1))
    with serving(kind, limit, each=gate.each) as address, grpc.insecure_channel(address) as channel:
        stream = channel.unary_stream(method)(b"x") if method == EACH else channel.stream_stream(method)(iter([b"x"]))
        assert next(stream) == b"first"
        gate.entered(1)
        with pytest.raises(grpc.RpcError):
            call(address)
        stream.cancel()
        gate.release.set()
        until(lambda: limit.in_flight == 0, "the stream is counted out")
        assert call(address)[0] == b"x"


def test_a_handler_that_fails_makes_room(kind):
    """Aborted or raised: either way its place is free again."""
    limit = Limit(FixedLimit(calls=1))

    def do(request, _):
        raise Fails(grpc.StatusCode.NOT_FOUND, "no such thing") if request == b"abort" else ValueError("a mistake")

    with serving(kind, limit, do=do) as address:
        for request, code in ((b"abort", "NOT_FOUND"), (b"raise", "UNKNOWN"), (b"abort", "NOT_FOUND")):
            with pytest.raises(grpc.RpcError) as caught:
                call(address, request=request)
            assert told(caught.value)[0] == code
            until(lambda: limit.in_flight == 0, "the call is counted out")


class Noting(Fixed):
    """A fixed limit that remembers which ends told how long work takes."""

    def __init__(self) -> None:
        super().__init__(16)
        self.tells: list[bool] = []

    def finished(self, began, now, *, stream=False, tells=True):
        super().finished(began, now, stream=stream, tells=tells)
        self.tells.append(tells)


@pytest.mark.parametrize(
    ("request_", "timeout", "tells"), [(b"fine", 5, True), (b"abort", 5, False), (b"late", 0.05, True)]
)
def test_errors_are_quick_and_say_nothing_but_lateness_does(kind, request_, timeout, tells, gate):
    """What an adaptive limit learns from: answers, and calls whose time ran out in the handler. Not errors."""
    limit = Limit(GradientLimit())
    limit._gauge = noting = Noting()

    def do(request, _):
        if request == b"abort":
            raise Fails(grpc.StatusCode.NOT_FOUND, "no such thing")
        return gate(request, _) if request == b"late" else request

    with serving(kind, limit, do=do) as address:
        try:
            call(address, request=request_, timeout=timeout)
        except grpc.RpcError:
            gate.release.set()
        until(lambda: noting.tells == [tells], f"the call is counted out: {noting.tells}")


def test_bad_arguments_are_told_together():
    """One ValueError names them all."""
    with pytest.raises(
        ValueError, match=r"Limit: pushback must be.*; limit must be a FixedLimit.*; exempt must be a list"
    ):
        Limit(5, pushback=-1, exempt="/a/*")
