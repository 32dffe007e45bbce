"""Idempotency keys on real servers, threads and asyncio: work is done once, and everybody is told the same."""

from __future__ import annotations

import asyncio
import threading
from concurrent import futures
from typing import Any

import grpc
import pytest
from serving import DO, EACH, KINDS, Fails, call, keyed, on_end, serving, told, until

from protos import hello_pb2
from stormproof import CallError, Channel, Mark, Policy, Retry
from stormproof.aio import Channel as AioChannel
from stormproof.core.once import Answer
from stormproof.core.outcome import Code
from stormproof.server import (
    Deadlines,
    FixedLimit,
    Idempotency,
    Limit,
    MemoryOutcomes,
    Record,
    SqliteOutcomes,
    remaining,
)
from stormproof.server.holder import Holder
from stormproof.server.idempotency import canonical

OTHER = (
    "FAILED_PRECONDITION",
    "this idempotency-key came before with another payload: a key belongs to one call and its attempts",
)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryOutcomes()
    else:
        with SqliteOutcomes(tmp_path / "outcomes.db") as store:
            yield store


@pytest.fixture
def pool():
    with futures.ThreadPoolExecutor(16) as pool:
        yield pool


class Counter:
    """A handler that counts its runs, and may be held up."""

    def __init__(self) -> None:
        self.runs = 0
        self.entered = threading.Semaphore(0)
        self.release = threading.Event()
        self.release.set()

    def __call__(self, request, context):
        self.runs += 1
        run = self.runs
        self.entered.release()
        assert self.release.wait(10)
        if request == b"abort":
            raise Fails(grpc.StatusCode.NOT_FOUND, f"run {run}", (("why", "none"), ("more-bin", b"\x00\xff")))
        if request == b"raise":
            raise ValueError(f"run {run}")
        if request == b"busy":
            raise Fails(grpc.StatusCode.UNAVAILABLE, f"run {run}")
        return f"run {run}".encode()


@pytest.fixture
def work():
    counter = Counter()
    yield counter
    counter.release.set()


def failure(address, *, request: bytes, **options):
    """Code, details and trailing metadata of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call(address, request=request, **options)
    trailing = {name: value for name, value in caught.value.trailing_metadata() if not name.startswith("grpc")}
    return (*told(caught.value), trailing)


@pytest.mark.guarantee(93)
def test_the_same_key_and_payload_runs_once_and_is_answered_every_time(kind, store, work):
    """Guarantee 93: three calls, one run; those that were not worked for say so."""
    with serving(kind, Idempotency(store), do=work) as address:
        answers = [call(address, **keyed("a")) for _ in range(3)]
    assert [reply for reply, _ in answers] == [b"run 1"] * 3
    assert [trailing.get("idempotent-replayed") for _, trailing in answers] == [None, "true", "true"]


@pytest.mark.guarantee(93)
def test_errors_are_repeated_with_details_and_metadata(kind, store, work):
    """Guarantee 93: what a handler aborted with or raised is its outcome, and it is not run again."""
    with serving(kind, Idempotency(store), do=work) as address:
        metadata = {"why": "none", "more-bin": b"\x00\xff"}
        assert failure(address, request=b"abort", **keyed("a")) == ("NOT_FOUND", "run 1", metadata)
        again = {**metadata, "idempotent-replayed": "true"}
        assert failure(address, request=b"abort", **keyed("a")) == ("NOT_FOUND", "run 1", again)
        said = ("UNKNOWN", "Exception calling application: run 2")
        assert [failure(address, request=b"raise", **keyed("b"))[:2] for _ in range(2)] == [said, said]
    assert work.runs == 2


def test_an_outcome_that_tells_of_the_moment_is_not_kept(kind, store, work):
    """UNAVAILABLE says that nothing was done: the next call with the key runs."""
    with serving(kind, Idempotency(store), do=work) as address:
        assert failure(address, request=b"busy", **keyed("a")) == ("UNAVAILABLE", "run 1", {})
        assert failure(address, request=b"busy", **keyed("a")) == ("UNAVAILABLE", "run 2", {})


@pytest.mark.guarantee(93)
def test_a_key_belongs_to_its_payload(kind, store, work, pool):
    """Guarantee 93: another payload is refused, after the first is done and while it runs; it does not run."""
    work.release.clear()
    with serving(kind, Idempotency(store), do=work) as address:
        first = pool.submit(call, address, **keyed("a"))
        assert work.entered.acquire(timeout=5)
        assert failure(address, request=b"y", **keyed("a")) == (*OTHER, {})
        work.release.set()
        assert first.result(5)[0] == b"run 1"
        assert failure(address, request=b"y", **keyed("a")) == (*OTHER, {})
    assert work.runs == 1


@pytest.mark.guarantee(93)
def test_calls_at_the_same_time_wait_for_the_first(kind, store, work, pool):
    """Guarantee 93: eight at once, one run, eight equal answers."""
    work.release.clear()
    with serving(kind, Idempotency(store), do=work) as address:
        calls = [pool.submit(call, address, **keyed("a")) for _ in range(8)]
        assert work.entered.acquire(timeout=5)
        work.release.set()
        assert [one.result(5)[0] for one in calls] == [b"run 1"] * 8
    assert work.runs == 1


def test_who_waits_does_so_within_its_deadline(kind, store, work, pool):
    """The first call is held up; the second has 0.1 s, gets DEADLINE_EXCEEDED, and the first is not disturbed."""
    work.release.clear()
    with serving(kind, Idempotency(store), do=work) as address:
        first = pool.submit(call, address, **keyed("a"))
        assert work.entered.acquire(timeout=5)
        assert failure(address, request=b"x", timeout=0.1, **keyed("a"))[0] == "DEADLINE_EXCEEDED"
        work.release.set()
        assert first.result(5)[0] == b"run 1"
    assert work.runs == 1


def test_without_a_key_or_under_another_name_every_call_runs(kind, store, work):
    """No key: run. The same key for another method, or of another caller: another key. Streams pass through."""
    idempotency = Idempotency(store, caller=lambda context: dict(context.invocation_metadata()).get("token", ""))
    with serving(kind, idempotency, do=work, each=lambda *_: iter([work(b"", None)])) as address:
        assert [call(address)[0] for _ in range(2)] == [b"run 1", b"run 2"]
        assert call(address, **keyed("a"))[0] == b"run 3"
        other = (("idempotency-key", "a"), ("token", "b"))
        assert [call(address, metadata=other)[0] for _ in range(2)] == [b"run 4", b"run 4"]
        with grpc.insecure_channel(address) as channel:
            assert [*channel.unary_stream(EACH)(b"x", **keyed("a"))] == [b"run 5"]


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_bad_key_is_refused(kind, work, key):
    """Empty or too long: INVALID_ARGUMENT, and nothing runs."""
    with serving(kind, Idempotency(), do=work) as address:
        assert failure(address, request=b"x", **keyed(key))[0] == "INVALID_ARGUMENT"
    assert work.runs == 0


def test_work_goes_on_when_its_caller_is_gone_and_the_retry_gets_its_outcome(kind, store, work, pool):
    """A caller cancels in the middle, as one does whose connection breaks: its next attempt finds the work done."""
    work.release.clear()
    gone = threading.Event()

    def do(request, context):
        on_end(context, gone)
        return work(request, context)

    with serving(kind, Idempotency(store), do=do) as address, grpc.insecure_channel(address) as channel:
        first = channel.unary_unary(DO).future(b"x", **keyed("a"))
        assert work.entered.acquire(timeout=5)
        first.cancel()
        assert gone.wait(5)
        second = pool.submit(call, address, **keyed("a"))
        work.release.set()
        assert second.result(5)[0] == b"run 1"
    assert work.runs == 1


def test_on_asyncio_a_handler_that_outlives_its_call_may_still_ask_its_context():
    """Metadata and time are there; what would need the call says that it is gone (in grpc's own it is a null pointer)."""
    entered, gone, finish, asked = threading.Event(), threading.Event(), threading.Event(), []

    async def do(_, context):
        on_end(context, gone)
        entered.set()
        await asyncio.to_thread(finish.wait, 10)
        asked.append(dict(context.invocation_metadata())["idempotency-key"])
        asked.append(context.time_remaining() is not None)
        with pytest.raises(RuntimeError, match="peer is not known any more: the caller has gone"):
            context.peer()
        return b"done"

    with serving("asyncio", Idempotency(), do=do) as address, grpc.insecure_channel(address) as channel:
        first = channel.unary_unary(DO).future(b"x", timeout=30, **keyed("a"))
        assert entered.wait(5)
        first.cancel()
        assert gone.wait(5)
        finish.set()
        assert call(address, **keyed("a")) == (b"done", {"idempotent-replayed": "true"})
    assert asked == ["a", True]


class Slow(MemoryOutcomes):
    """A store whose disk takes its time."""

    blocking = True

    def __init__(self) -> None:
        super().__init__()
        self.keeping, self.kept = threading.Event(), threading.Event()

    def end(self, key, record):
        self.keeping.set()
        assert self.kept.wait(10)
        super().end(key, record)


@pytest.mark.parametrize("request_", [b"x", b"abort"])
def test_the_outcome_is_stored_before_anybody_is_told(kind, work, pool, request_):
    """While the store has not said that it has it, no answer leaves, be it a reply or an error."""
    store = Slow()
    with serving(kind, Idempotency(store), do=work) as address:
        answer = pool.submit(call, address, request=request_, **keyed("a"))
        assert store.keeping.wait(5)
        assert not futures.wait([answer], 0.05).done
        store.kept.set()
        assert futures.wait([answer], 5).done


class Broken(MemoryOutcomes):
    """A store that fails when it is asked, or when it is told."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.when = when

    def begin(self, key):
        if self.when == "begin":
            raise OSError("no such disk")
        return super().begin(key)

    def end(self, key, record):
        if self.when == "end":
            raise OSError("no such disk")


@pytest.mark.parametrize(("when", "runs"), [("begin", 0), ("end", 1)])
def test_a_store_that_fails_is_the_servers_error(kind, work, when, runs):
    """INTERNAL with its words; what cannot be looked up is not run, and what cannot be kept is not told."""
    with serving(kind, Idempotency(Broken(when)), do=work) as address:
        said = failure(address, request=b"x", **keyed("a"))
        assert said == ("INTERNAL", "the store of idempotency keys failed: no such disk", {})
    assert work.runs == runs


def test_a_handler_that_was_broken_off_leaves_its_key_to_who_waits():
    """The end of a server's loop cancels its handlers: nothing is kept, and a call that waited may run."""

    async def story():
        holder = Holder(MemoryOutcomes())
        answer, ticket = holder.arrived("a", b"1")
        assert answer is Answer.LOOK
        first = asyncio.create_task(holder.aio_hold("a", b"1", ticket, lambda: asyncio.sleep(60)))
        await asyncio.sleep(0)
        assert holder.arrived("a", b"1") == (Answer.WAIT, ticket)
        first.cancel()
        assert await asyncio.wrap_future(ticket) is None
        answer, ticket = holder.arrived("a", b"1")
        assert answer is Answer.LOOK
        done = Record(digest=b"1", code=Code.OK, reply=b"done")
        assert holder.hold("a", b"1", ticket, lambda: done).told == done

    asyncio.run(story())


def test_the_three_interceptors_work_together(kind, work, pool):
    """Refused by the limit, a call with a key is not kept; let in later, it runs once, within its deadline."""
    work.release.clear()
    with serving(kind, Deadlines(), Limit(FixedLimit(calls=1)), Idempotency(), do=work) as address:
        held = pool.submit(call, address)
        assert work.entered.acquire(timeout=5)
        assert failure(address, request=b"x", **keyed("a"))[0] == "RESOURCE_EXHAUSTED"
        work.release.set()
        held.result(5)
        until(lambda: _reply(address) == b"run 2", "there is room again")
        assert _reply(address) == b"run 2"


@pytest.mark.parametrize("deadlines_first", [True, False])
def test_work_for_all_attempts_is_not_bound_by_the_deadline_of_one(kind, deadlines_first):
    """With Deadlines before it a handler with a key has no deadline, without a key it has; behind it, it always has."""
    order = (Deadlines(), Idempotency()) if deadlines_first else (Idempotency(), Deadlines())
    with serving(kind, *order, do=lambda *_: str(remaining() is not None).encode()) as address:
        assert call(address, timeout=5, **keyed("a"))[0] == (b"False" if deadlines_first else b"True")
        assert call(address, timeout=5)[0] == b"True"


def _reply(address) -> bytes:
    try:
        return call(address, **keyed("a"))[0]
    except grpc.RpcError as error:
        return error.details().encode()


def test_an_attempt_that_was_lost_is_repeated_and_the_work_is_done_once(kind, store, work):
    """The whole chain: the first attempt times out in the middle of the work, the second goes to another server with
    the same key, and gets the outcome of the first. Not idempotent, and yet retried."""
    policy = Policy(
        timeout=10, attempt_timeout=0.2, retry=Retry(attempts=5, on={"DEADLINE_EXCEEDED"}), idempotency_key=True
    )
    idempotency = Idempotency(store)  # one for both: the store that they share
    work.release.clear()
    with serving(kind, idempotency, do=work) as one, serving(kind, idempotency, do=work) as two:
        with Channel([one, two], policy=policy) as channel:
            future = channel.unary_unary(DO).future(b"x")
            assert work.entered.acquire(timeout=5)
            until(lambda: future._run.machine.attempts >= 2, "another attempt")
            work.release.set()
            assert future.result(10) == b"run 1"
    assert work.runs == 1


def ask(channel: Any, metadata: Any) -> None:
    """One call that fails, on either channel."""
    with pytest.raises(CallError):
        channel.unary_unary(DO)(b"x", metadata=metadata)


def aio_ask(address: str, policy: Policy, metadata: Any) -> None:
    async def story() -> None:
        async with AioChannel([address], policy=policy) as channel:
            with pytest.raises(CallError):
                await channel.unary_unary(DO)(b"x", metadata=metadata)

    asyncio.run(story())


@pytest.mark.parametrize("driver", [Channel, AioChannel])
def test_a_call_has_one_fresh_key_in_all_its_attempts(driver):
    """Two attempts of a call carry one key, another call carries another; a key of the caller's own is kept."""
    seen = []

    def do(_, context):
        seen.append(dict(context.invocation_metadata())["idempotency-key"])
        raise Fails(grpc.StatusCode.UNAVAILABLE, "not now")

    policy = Policy(retry=Retry(attempts=2), idempotency_key=True)
    with serving("threads", do=do) as address, Channel([address], policy=policy) as channel:
        for metadata in (None, (("tenant", "a"),), Mark(index=7, key="batch/7", repeat=True).metadata):
            ask(channel, metadata) if driver is Channel else aio_ask(address, policy, metadata)
    assert seen[0] == seen[1] != seen[2] == seen[3]
    assert [len(key) for key in seen[:4]] == [36] * 4
    assert seen[4:] == ["batch/7", "batch/7"]


def test_the_payload_of_a_message_does_not_depend_on_its_bytes():
    """Two equal protobuf messages are one payload, whatever the order in which their fields came over the wire."""
    both = hello_pb2.HelloRequest(name="Ada").SerializeToString()
    assert canonical(hello_pb2.HelloRequest.FromString(both)) == canonical(hello_pb2.HelloRequest(name="Ada"))
    assert canonical(b"raw") == b"raw"
    with pytest.raises(TypeError, match=r"dict is no protobuf message: give Idempotency\(payload=...\)"):
        canonical({})


def test_a_store_must_be_one():
    """Said at construction, with a way out."""
    with pytest.raises(ValueError, match=r"store must be a store of outcomes, such as MemoryOutcomes\(\); got 'o.db'"):
        Idempotency("o.db")
