"""What an observer hears, on real sockets: every call that began ends, whoever walks away; and several hear the same."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time
from collections import Counter
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from greeters import DRIVERS, calling, closed_port, until

from stormproof import Backoff, CallError, Endpoint, Policy, Retry
from stormproof.observer import AttemptBegan, AttemptEnded, CallBegan, CallEnded, observers

CANCELLED = (grpc.FutureCancelledError, futures.CancelledError, asyncio.CancelledError, CallError)
#: With seed 1 the first wait before a retry is some seconds.
PATIENT = Policy(timeout=30.0, retry=Retry(attempts=3, backoff=Backoff(base=1e6, cap=20.0)))


@pytest.fixture(params=DRIVERS)
def driver(request):
    return request.param


class Heard:
    """Remembers events, and adds `metadata` to each attempt."""

    def __init__(self, *metadata) -> None:
        self.events = []
        self._metadata = metadata

    def __call__(self, event) -> None:
        self.events.append(event)

    def metadata_for(self, call, attempt):
        return (*self._metadata, *((f"{key}-attempt", str(attempt)) for key, _ in self._metadata))

    def count(self, kind) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    def balanced(self) -> bool:
        """Whether each call that began has ended once, and each attempt."""
        calls = Counter(event.call for event in self.events if isinstance(event, CallBegan))
        over = Counter(event.call for event in self.events if isinstance(event, CallEnded))
        began = Counter((event.call, event.attempt) for event in self.events if isinstance(event, AttemptBegan))
        ended = Counter((event.call, event.attempt) for event in self.events if isinstance(event, AttemptEnded))
        return calls == over and began == ended and set(calls.values()) == {1}


def test_several_observers_hear_the_same_and_all_may_add(driver, one):
    """`observers(a, b, c)`: each event goes to each, in order; metadata of those that add some travels, of each attempt."""
    first, plain, last = Heard(("a", "1")), [], Heard(("b", "2"))
    with calling(driver, one.addresses, observer=observers(first, plain.append, last)) as client:
        client.call("x", metadata=(("mine", "0"),))
    assert first.events == plain == last.events
    assert len(plain) == 4
    [sent] = one.greeters[0].metadata
    assert {key: sent[key] for key in ("mine", "a", "a-attempt", "b", "b-attempt")} == {
        "mine": "0", "a": "1", "a-attempt": "1", "b": "2", "b-attempt": "1",
    }  # fmt: skip


@pytest.mark.guarantee(107)
def test_an_observer_that_raises_keeps_nothing_from_the_others(one, caplog):
    """The first of two fails on every event: the other one hears all four, and the log says of each what failed."""
    heard = Heard()
    with calling("threads", one.addresses, observer=observers(lambda _: 1 / 0, heard)) as client:
        assert client.call("x") == "Hello, x!"
    assert (heard.balanced(), len(heard.events)) == (True, 4)
    told = [record for record in caplog.records if record.name == "stormproof"]
    assert [record.exc_info[0] for record in told] == [ZeroDivisionError] * 4


def test_what_cannot_observe_is_refused():
    """All that are no functions are named at once."""
    with pytest.raises(
        ValueError, match="observers: each must be a function of an event.*got 7; each.*Heard"
    ) as caught:
        observers(print, 7, Heard)
    assert "print>" not in str(caught.value)


def test_a_dropped_stream_ends_its_call_with_the_next_call(driver, one):
    """Nobody reads a stream to its end: attempt and call are told to have ended, at the latest when the next call begins."""
    heard = Heard()
    with calling(driver, one.addresses, observer=heard) as client:
        stream = client.each("abc")
        assert next(stream).message == "a"
        del stream
        gc.collect()
        client.call("x")
        until(heard.balanced, "the end of the dropped stream's call")
    assert heard.count(CallEnded) == 2


def test_a_dropped_stream_ends_its_call_when_the_channel_is_closed(driver, one):
    """The same without a next call."""
    heard = Heard()
    client = DRIVERS[driver](one.addresses, observer=heard)
    stream = client.each("abc")
    assert next(stream).message == "a"
    del stream
    gc.collect()
    client.close()
    until(heard.balanced, "the end of the dropped stream's call")
    assert heard.count(CallEnded) == 1


def test_closing_ends_every_call_in_flight(driver, one):
    """One call on a silent server, one that waits for its retry, and a stream whose reader comes back later."""
    heard = Heard()
    client = DRIVERS[driver](one.addresses, policy=PATIENT, seed=1, observer=heard)
    stream = client.each("ab")
    next(stream)
    pending = [client.start("hang"), client.start("fail")]
    until(lambda: heard.count(AttemptEnded) == 1, "the first attempt of the call that waits")
    assert one.greeters[0].hanging.acquire(timeout=5)
    assert heard.count(CallEnded) == 0
    client.close()
    if driver == "asyncio":  # its wait goes on until it has ended; then it finds the channel closed
        pending[1].cancel()
    for call in pending:
        with pytest.raises(CANCELLED):
            call.result(10)
    with pytest.raises((CallError, StopIteration)):
        [next(stream) for _ in range(3)]
    until(heard.balanced, "the end of every call")
    assert heard.count(CallEnded) == 3


def test_a_cancelled_call_ends(driver, one):
    """Cancelled by its caller, in an attempt or in the wait before one: told as CANCELLED."""
    heard = Heard()
    with calling(driver, one.addresses, policy=PATIENT, seed=1, observer=heard) as client:
        hanging, waiting = client.start("hang"), client.start("fail")
        until(lambda: heard.count(AttemptEnded) == 1, "the first attempt of the call that waits")
        assert one.greeters[0].hanging.acquire(timeout=5)
        hanging.cancel(), waiting.cancel()
        until(heard.balanced, "the end of both calls")
    assert [e.outcome.code.name for e in heard.events if isinstance(e, CallEnded)] == ["CANCELLED", "CANCELLED"]


@pytest.mark.parametrize("kind", ["unary", "stream"])
def test_ctrl_c_in_the_wait_for_a_retry_ends_the_call(kind):
    """A caller that waits 20 s for its retry: the interrupt reaches him at once, and the end of his call the observer."""
    heard, main = Heard(), threading.main_thread()
    began = time.monotonic()

    def waits() -> bool:
        """Whether the main thread sleeps there. A signal that comes while it is falling asleep would not wake it."""
        if heard.count(AttemptEnded) == 0 or sys._current_frames()[main.ident].f_code.co_name != "wait":
            return False
        return Path(f"/proc/self/task/{main.native_id}/stat").read_text().rpartition(") ")[2].startswith("S")

    def interrupt() -> None:
        until(waits, "the wait after the first attempt")
        signal.pthread_kill(main.ident, signal.SIGINT)

    client = DRIVERS["threads"]([closed_port()], policy=PATIENT, seed=1, observer=heard)
    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        client.call("x") if kind == "unary" else next(client.each("x"))
    helper.join()
    gc.collect()
    client.close()
    assert heard.balanced()
    assert time.monotonic() - began < 10


def test_a_stream_that_is_over_but_was_not_read_to_its_end_ends_its_call(one):
    """The server has ended it, and its reader drops it without looking: the call ends, as given up."""
    heard = Heard()
    client = DRIVERS["threads"](one.addresses, observer=heard)
    stream = client.each("a")
    assert next(stream).message == "a"
    attempt = stream._attempt
    until(lambda: not attempt.is_active(), "the end of the attempt")
    del stream
    client.close()
    assert heard.balanced()
    assert heard.count(CallEnded) == 1


def test_calls_of_several_channels_have_different_numbers(driver, one):
    """One observer may serve several channels."""
    heard = Heard()
    for _ in range(2):
        with calling(driver, one.addresses, observer=heard) as client:
            client.call("x")
    assert heard.balanced()
    assert heard.count(CallBegan) == 2


def test_an_attempt_tells_why_it_began(driver, one):
    """First, then transparently on from a closed port, then a retry."""
    heard = Heard()
    policy = Policy(retry=Retry(attempts=2, backoff=Backoff(base=0.0)))
    endpoints = [Endpoint(closed_port()), Endpoint(one.addresses[0], priority=1)]
    with calling(driver, endpoints, policy=policy, observer=heard) as client:
        with pytest.raises(CallError):
            client.call("fail")
    said = [(event.sent, event.cause.value) for event in heard.events if isinstance(event, AttemptBegan)]
    assert said == [(1, "first"), (1, "transparent retry"), (2, "retry")]
