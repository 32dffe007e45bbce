"""What the user's own code raises, or does to what it handed over: it surfaces, and it hurts nobody else."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from greeters import DRIVERS, calling, named, until

from protos import hello_pb2_grpc
from stormproof import Backoff, CallError, Channel, Endpoint, Hedge, Policy, Retry
from stormproof.observer import AttemptBegan, AttemptEnded, CallBegan, CallEnded

AT_ONCE = Retry(attempts=3, backoff=Backoff(base=0.0))
SOON = Retry(attempts=3, backoff=Backoff(base=0.01))
PLAIN, WAITING = Policy(retry=AT_ONCE), Policy(retry=SOON)
HEDGED = Policy(hedge=Hedge(after=0.01), retry=AT_ONCE)


@pytest.fixture(params=DRIVERS)
def driver(request):
    return request.param


class Mistake(Exception):
    """The user's."""


def ended(call, *, seconds: float = 10.0) -> BaseException:
    """How a call ended, and it must end."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        call.result(seconds)
    return caught.value


@pytest.mark.guarantee(107)
@pytest.mark.parametrize("kind", [CallBegan, AttemptBegan, AttemptEnded, CallEnded])
@pytest.mark.parametrize("policy", [PLAIN, WAITING, HEDGED], ids=["plain", "waiting", "hedged"])
def test_an_observer_that_raises_is_logged_and_breaks_no_call(driver, three, kind, policy, caplog):
    """On each event: calls that succeed, fail and stream end as they would, and the log names event and cause."""

    def observer(event) -> None:
        if isinstance(event, kind):
            raise Mistake("the observer's")

    with calling(driver, three.addresses, policy=policy, observer=observer) as client:
        assert client.call("x") == "Hello, x!"
        assert client.start("x").result(10).message == "Hello, x!"
        assert isinstance(ended(client.start("fail")), CallError)
        assert [reply.message for reply in client.each("ab")] == ["a", "b"]
    told = [record for record in caplog.records if record.name == "stormproof"]
    assert len(told) >= 4
    assert all(kind.__name__ in record.getMessage() and record.exc_info[0] is Mistake for record in told)


@dataclass
class Adding:
    """An observer that adds metadata, and fails to for the attempt `bad` of each call."""

    bad: int

    def __call__(self, event) -> None:
        pass

    def metadata_for(self, call, attempt):
        if attempt == self.bad:
            raise Mistake("no context")
        return (("trace", f"{call}.{attempt}"),)


def causes(error: BaseException | None) -> list[type]:
    found = []
    while error is not None:
        found.append(type(error))
        error = error.__cause__ or error.__context__
    return found


@pytest.mark.guarantee(107)
@pytest.mark.parametrize("bad", [1, 2])
@pytest.mark.parametrize("policy", [PLAIN, WAITING, HEDGED], ids=["plain", "waiting", "hedged"])
def test_metadata_that_cannot_be_made_ends_the_call_with_its_cause(driver, three, bad, policy):
    """For the first attempt, and for the second one, in whatever thread that begins: the caller hears why, at once, and the
    channel goes on working, its timers too. (`calling` demands that nothing stays in flight.)"""
    observer = Adding(bad)
    with calling(driver, three.addresses, policy=policy, observer=observer) as client:
        for way in ("call", "start"):
            with pytest.raises(Exception) as caught:  # noqa: PT011, PT012
                found = getattr(client, way)("fail")
                found.result(10)
            assert Mistake in causes(caught.value)
        if bad == 1:
            with pytest.raises(Mistake):
                list(client.each("ab"))
        observer.bad = 0
        for greeter in three.greeters:
            greeter.failing = False
        assert client.start("x").result(10).message == "Hello, x!"


class Moody:
    """A balancer whose picks fail when they are told to."""

    def __init__(self) -> None:
        self.good = 0

    def picker(self, rng) -> Moody:
        return self

    def load(self) -> None:
        return None

    def pick(self, eligible, now):
        self.good -= 1
        if self.good < 0:
            raise Mistake("the balancer's")
        return eligible.members[0]


@pytest.mark.guarantee(107)
@pytest.mark.parametrize("good", [0, 1])
@pytest.mark.parametrize("policy", [PLAIN, WAITING, HEDGED], ids=["plain", "waiting", "hedged"])
def test_a_balancer_that_raises_ends_the_call_with_its_cause(driver, three, good, policy):
    """At the first pick, and at that of a retry or a copy: the caller hears of it, nothing stays in flight."""
    balancer = Moody()
    with calling(driver, three.addresses, policy=policy, balancer=balancer) as client:
        for way in ("call", "start"):
            balancer.good = good
            with pytest.raises(Exception) as caught:  # noqa: PT011, PT012
                found = getattr(client, way)("fail")
                found.result(10)
            assert Mistake in causes(caught.value)
        balancer.good = 9
        assert client.call("x") == "Hello, x!"


@pytest.mark.guarantee(107, 99)
def test_a_callback_that_raises_is_logged_and_the_others_are_called_once(three):
    """Three callbacks of a future, the second one fails; of 100 hedged calls each calls back once."""
    with calling("threads", three.addresses, policy=Policy(hedge=Hedge(after=0.0))) as client:
        heard: list[Any] = []

        def fails(_) -> None:
            raise Mistake("the callback's")

        calls = [client.start(str(number)) for number in range(100)]
        for call in calls:
            for callback in (heard.append, fails, heard.append):
                with suppress(Mistake):  # if it is over already, the mistake is its own
                    call.add_done_callback(callback)
        for call in calls:
            assert call.result(10).message.startswith("Hello")
        until(lambda: len(heard) == 200, "all callbacks")
    assert len(heard) == 200


@pytest.mark.guarantee(107)
def test_an_answer_that_cannot_be_read_is_told_and_counted_off(one):
    """A deserializer that raises: INTERNAL, which may have been done, and nothing stays in flight."""

    def fails(_):
        raise Mistake("the deserializer's")

    with Channel(one.addresses) as channel:
        call = channel.unary_unary("/hello.Hello/SayHello", lambda request: request.SerializeToString(), fails)
        for way in (call, lambda request: call.future(request).result(10)):
            with pytest.raises(CallError) as caught:
                way(named("x"))
            assert (caught.value.code(), caught.value.may_have_happened) == (grpc.StatusCode.INTERNAL, True)
        until(lambda: channel._pool.members[0].in_flight == 0, "the attempts let go")


@pytest.mark.guarantee(108)
@pytest.mark.parametrize("policy", [WAITING, Policy(hedge=Hedge(after=0.05))], ids=["retried", "hedged"])
def test_what_the_caller_changes_afterwards_is_not_sent(three, policy):
    """The request and its metadata are those of the moment of the call: a message that is used again for the next call, and a
    list that grows, do not reach the second attempt."""
    for greeter in three.greeters[1:]:
        greeter.release.set()
    endpoints = [Endpoint(address, priority=tier) for tier, address in enumerate(three.addresses)]
    with Channel(endpoints, policy=policy, observer=[].append) as channel:
        stub = hello_pb2_grpc.HelloStub(channel)
        names = "hang" if policy.hedge else "fail"
        request, metadata = named(names), [("tenant", "a")]
        for greeter in three.greeters[1:]:
            greeter.failing = False
        call = stub.SayHello.future(request, metadata=metadata)
        request.name = "somebody else"
        metadata.append(("tenant", "b"))
        assert call.result(10).message == f"Hello, {names}!"
        first, second = three.greeters[0].sent[0], three.greeters[1].sent[0]
        three.greeters[0].release.set()
    assert (first, second) == ((names, ["a"]), (names, ["a"]))


@pytest.mark.guarantee(108)
def test_metadata_that_can_be_read_once_reaches_every_attempt(driver, three):
    """A generator: each of three attempts carries all of it, once, and its own count."""
    with calling(driver, three.addresses, policy=PLAIN, observer=[].append) as client:
        with pytest.raises(CallError):
            client.call("fail", metadata=(pair for pair in [("tenant", "a"), ("tenant", "b")]))
    assert [sent for greeter in three.greeters for sent in greeter.sent] == [("fail", ["a", "b"])] * 3


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (3, "metadata must be pairs of a name and a value, such as (('user-id', 'ada'), ('trace-bin', b'...')); got 3"),
        ({"a": "b"}, "metadata must be pairs of a name and a value, such as"),
        ("text", "metadata must be pairs of a name and a value, such as"),
        ([("a", "b"), ("c",)], "metadata[1] must be a pair of a name and a value; got ('c',)"),
        ([("User", "x")], "metadata[0] must have a name of lower-case letters, digits, '-', '_' and '.'; got ('User', 'x')"),
        ([("a", 1)], "metadata[0] must have a text of printable ASCII for a value (a name that ends in -bin may have"),
        ([("a", "x\n")], "metadata[0] must have a text of printable ASCII for a value (a name that ends in -bin may have"),
        ([("a", "\ud800")], "metadata[0] must have a text of printable ASCII for a value (a name that ends in -bin may have"),
        ([("a-bin", "x")], "metadata[0] must have bytes for a value, since its name ends in -bin; got ('a-bin', 'x')"),
    ],
)  # fmt: skip
def test_metadata_that_grpc_cannot_send_is_refused_where_it_is_given(driver, one, metadata, says):
    """In every kind of call, before any attempt: no server is blamed, and nobody is told that the work may have been done."""
    with calling(driver, one.addresses, observer=(events := []).append) as client:
        for way in (client.call, client.start, client.each):
            with pytest.raises((TypeError, ValueError)) as caught:
                way("x", metadata=metadata).result(10)
            assert says in str(caught.value)
        assert events == []
        assert client.call("x", metadata=[("a-bin", b"\x00\xff"), ("b", b"text"), ("c", "")]) == "Hello, x!"
    assert len(one.greeters[0].metadata) == 1
