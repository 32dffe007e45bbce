"""Every kind of call, through both drivers, while one of three servers is killed, reset, cut off in silence or drained.

gRPC has four kinds of call and two Python APIs, and what breaks on a bad day does not ask which of them it meets. So six
callers call one method again and again, one server is in trouble for a while, and one test says what they are owed:

- No call fails. What broke is done again on another server, since it is idempotent. An answer stream with a `Checkpoint`
  goes on there after the last message that arrived: nothing is lost, repeated or reordered.
- One thing cannot be made good: a conversation (both sides stream) of which its caller has heard something. Its break is
  told as a `CallError` that names where it was and that work may have been done; it never looks like an end. Only those
  that were under way when the trouble began can break: one that has heard nothing is begun elsewhere.
- A server that drains breaks no conversation: what can end within its grace does. Answer streams that last longer go on
  elsewhere. (Why calls must be idempotent even here: a server of gRPC's C core cancels the calls that arrive in the
  moment before its clients hear that it drains, and does not say that it did nothing for them; grpc/grpc#41785.)
- Nobody is told of a black hole, so it takes up to two attempt timeouts to find. Even then no call outlasts its deadline.
- Within two seconds of its healing the server has its part of the work again (where calls are streams, it takes the time
  of three more: the first one is a trial). In the end nothing is left in flight.
"""

import asyncio
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import pytest

from faults import Blackhole, Drain, Kill, Reset
from harness import Servers
from protos.hello_pb2 import HelloReply, HelloRequest
from protos.hello_pb2_grpc import HelloStub
from stormproof import Backoff, CallError, Channel, Checkpoint, Policy, Retry, RoundRobin, aio

SERVERS = Servers(3, service_time=0.010)  # for each message
TROUBLES = [Kill(), Reset(), Blackhole(), Drain(grace=0.4)]
#: How many messages answer each. A conversation can end while its server drains; a stream takes longer than that.
KINDS = {"SayHello": 1, "SayHelloToEach": 50, "SayHelloToAll": 1, "Chat": 24}
CALLERS = 6
HANGS = 6.0  # seconds after which nobody waits for a call any more


def what_comes_after(request, last):
    """Asks for the greetings of the stream that come after the last one heard."""
    return HelloRequest(name=request.name, after=last.number)


POLICY = Policy(
    timeout=3.0,
    attempt_timeout=0.4,  # of a stream: the longest silence
    idempotent=True,
    retry=Retry(attempts=3, backoff=Backoff(base=0.010)),
    checkpoint=Checkpoint(resume=what_comes_after),
)


@pytest.mark.guarantee(5, 64, 86, 90)
@pytest.mark.servers(SERVERS)
@pytest.mark.parametrize("driver", ["threads", "asyncio"])
@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: type(trouble).__name__)
def test_every_kind_of_call_outlives_every_trouble(fleet, trouble, method, driver):
    """All calls are answered in full, but for conversations that were cut in their midst, and those say so."""
    some = 4 * CALLERS if KINDS[method] == 1 else CALLERS  # streams take their time
    with closing(DRIVERS[driver](fleet.addresses.values())) as client:
        with calling(client, method) as calls:
            until(lambda: sum(call.is_heard(method) for call in calls) >= CALLERS, "six calls in their midst")
            with fleet.fault(trouble, on="server-0"):
                found = time.monotonic() + (2 * POLICY.attempt_timeout if isinstance(trouble, Blackhole) else 0.0)
                until(lambda: sum(call.over for call in calls if call.began > found) >= some, "calls elsewhere")
            healed, trial = time.monotonic(), 3 * KINDS[method] * SERVERS.service_time
            until(lambda: has_its_part(fleet, healed), "server-0 has its part of the work again", 2.0 + trial)
        until(lambda: not any(member.in_flight for member in client.channel._pool.members), "nothing in flight")
    broken = [call for call in calls if call.error is not None]
    for call in calls:
        assert call.ended - call.began < POLICY.timeout + 0.5, "it outlasted its deadline"
        assert call in broken or call.heard == answer(method, call.number)
    for call in broken:
        assert method == "Chat", str(call.error)
        assert 0 < len(call.heard) < KINDS["Chat"]
        assert call.heard == answer(method, call.number)[: len(call.heard)]
        assert call.began < found, str(call.error)
        assert call.error.may_have_happened
        assert call.error.endpoints[-1] == fleet.addresses["server-0"]
    assert bool(broken) == (method == "Chat" and not isinstance(trouble, Drain))


def request(method, number):
    """What the call of this number asks for: no two ask for the same."""
    match method:
        case "SayHello":
            return HelloRequest(name=f"{number}")
        case "SayHelloToEach":
            return HelloRequest(name=f"{number:050}")
        case _:
            return iter([HelloRequest(name=f"{number}.{word}") for word in range(24)])


def answer(method, number):
    """The messages that are right."""
    match method:
        case "SayHello":
            return [HelloReply(message=f"Hello, {number}!")]
        case "SayHelloToEach":
            return [HelloReply(message=f"Hello, {number:050}!", number=place) for place in range(1, 51)]
        case "SayHelloToAll":
            return [
                HelloReply(message=f"Hello, {', '.join(f'{number}.{word}' for word in range(23))} and {number}.23!")
            ]
        case _:
            return [HelloReply(message=f"Hello, {number}.{word}!") for word in range(24)]


def has_its_part(fleet, since):
    """Whether server-0 says that it took at least two of the last dozen calls; four would be fair."""
    took = sorted((call.received, call.server) for call in fleet.executions(0.0) if call.received > since)
    return sum(server == "server-0" for _, server in took[-12:]) >= 2


@dataclass
class Called:
    """One call: what its caller has heard of it so far, and how it ended."""

    number: int
    began: float
    heard: list = field(default_factory=list)
    error: CallError | None = None
    ended: float = 0.0

    @property
    def over(self):
        return self.ended > 0

    def is_heard(self, method):
        """Whether a quarter of its answer has been heard."""
        return len(self.heard) >= KINDS[method] / 4


@contextmanager
def calling(client, method):
    """The calls of six callers, each of whom begins the next one when the last one is over."""
    calls, numbers, enough = [], itertools.count(), threading.Event()

    def caller():
        while not enough.is_set():
            call = Called(next(numbers), time.monotonic())
            calls.append(call)
            try:
                client.call(method, request(method, call.number), call.heard)
            except CallError as error:
                call.error = error
            call.ended = time.monotonic()

    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(caller) for _ in range(CALLERS)]
        try:
            yield calls
        finally:
            enough.set()
            _, hanging = wait(callers, HANGS)
            if hanging:
                client.close()  # which ends them
        assert not hanging, "a call hangs"
        for done in callers:
            done.result()  # raises what surprised a caller


class Threads:
    """The channel on threads."""

    def __init__(self, addresses):
        self.channel = Channel(list(addresses), balancer=RoundRobin(), methods={"/hello.Hello/": POLICY})
        self._stub = HelloStub(self.channel)

    def call(self, method, request, heard):
        """Calls, and puts each message into `heard` as it comes."""
        reply = getattr(self._stub, method)(request)
        if KINDS[method] == 1:
            heard.append(reply)
            return
        for message in reply:
            heard.append(message)

    def close(self):
        self.channel.close()


class Asyncio:
    """The channel on asyncio, in an event loop of its own, so that it can be called by the same callers."""

    def __init__(self, addresses):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._do(self._open(list(addresses)))

    async def _open(self, addresses):
        self.channel = aio.Channel(addresses, balancer=RoundRobin(), methods={"/hello.Hello/": POLICY})
        self._stub = HelloStub(self.channel)

    def call(self, method, request, heard):
        """Calls, and puts each message into `heard` as it comes."""
        self._do(self._call(method, request, heard))

    async def _call(self, method, request, heard):
        reply = getattr(self._stub, method)(request)
        if KINDS[method] == 1:
            heard.append(await reply)
            return
        async for message in reply:
            heard.append(message)

    def close(self):
        self._do(self.channel.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(HANGS)


DRIVERS = {"threads": Threads, "asyncio": Asyncio}


def until(happened, what, seconds=10.0):
    """Waits for an event with a deadline, and says what was missing."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.010)
