"""Checkpointed streams on both drivers: cut anywhere, what all runs were given is what the uncut stream holds.

(SIGKILL: test_kill_points.py. The decisions as timetables: core/test_ledger.py.)
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing, suppress
from functools import partial
from itertools import islice

import grpc
import pytest
from greeters import named

from protos import hello_pb2_grpc
from stormproof import (
    Channel,
    Checkpoint,
    CheckpointError,
    CheckpointStore,
    Policy,
    aio,
    checkpointed,
    checkpointed_stream,
)
from stormproof.core.ledger import Progress


class Stop(Exception):
    """What a test raises to interrupt a run."""


class Numbers:
    """Counts from its request up to `last`; breaks after the number `breaks`. Remembers what it was asked and told."""

    def __init__(self, last: int = 9, breaks: int | None = None) -> None:
        self.last = last
        self.breaks = breaks
        self.asked: list[int] = []
        self.left = 0

    def __call__(self, first: int):
        self.asked.append(first)
        return Call(self, first)


class Call:
    """A call of either driver, as grpc's are."""

    def __init__(self, numbers: Numbers, first: int) -> None:
        self._numbers = numbers
        self._next = first

    def __iter__(self):
        return self

    def __next__(self) -> int:
        if self._numbers.breaks is not None and self._next > self._numbers.breaks:
            raise Stop(f"broke after {self._numbers.breaks}")
        if self._next > self._numbers.last:
            raise StopIteration
        self._next += 1
        return self._next - 1

    def __aiter__(self):
        return self

    async def __anext__(self) -> int:
        await asyncio.sleep(0)
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None

    def cancel(self) -> bool:
        self._numbers.left += 1
        return True


COUNTING = Checkpoint(resume=lambda _, cursor: cursor + 1, cursor=lambda number: number)


class Threads:
    """The threaded driver; `read` reads to the end, or until it has `take` messages in its hand."""

    stream = staticmethod(checkpointed_stream)

    def read(self, numbers, *, got=None, take=None, **options):
        got = [] if got is None else got
        stream = checkpointed_stream(numbers, 0, **{"checkpoint": COUNTING, "name": "s", **options})
        try:
            for number, mark in stream:
                got.append((number, mark.index, mark.repeat))
                if len(got) == take:
                    break
        finally:
            stream.close()
        return got


class Asyncio:
    """The same for asyncio."""

    stream = staticmethod(aio.checkpointed_stream)

    def read(self, numbers, **options):
        return asyncio.run(self._read(numbers, **options))

    async def _read(self, numbers, *, got=None, take=None, **options):
        got = [] if got is None else got
        stream = aio.checkpointed_stream(numbers, 0, **{"checkpoint": COUNTING, "name": "s", **options})
        async with aclosing(stream):
            async for number, mark in stream:
                got.append((number, mark.index, mark.repeat))
                if len(got) == take:
                    break
        return got


@pytest.fixture(params=[Threads, Asyncio], ids=["threads", "asyncio"])
def driver(request):
    return request.param()


@pytest.fixture
def store(tmp_path):
    with CheckpointStore(tmp_path / "progress.db") as store:
        yield store


def fresh(*numbers):
    return [(number, number, False) for number in numbers]


def marked(*numbers):
    return [(number, number, True) for number in numbers]


def test_an_uncut_stream_is_given_once_and_unmarked(driver, store):
    """Without an interruption: the plain stream, numbered; the store knows its last message, and that it has ended."""
    numbers = Numbers()
    assert driver.read(numbers, store=store, every=4) == fresh(*range(10))
    assert store.progress("s") == Progress(done=10, begun=10, cursor=9, finished=True)
    assert numbers.asked == [0]


@pytest.mark.guarantee(89)
@pytest.mark.parametrize("last", [9, -1], ids=["ten", "empty"])
def test_a_finished_stream_is_not_called_again(driver, store, last):
    """It yields nothing, and asks for nothing; also if there was nothing in it."""
    driver.read(Numbers(last), store=store)
    numbers = Numbers(100)
    assert driver.read(numbers, store=store) == []
    assert numbers.asked == []


@pytest.mark.guarantee(90)
@pytest.mark.parametrize("breaks", range(-1, 10))
def test_a_stream_that_breaks_anywhere_goes_on_after_its_last_message(driver, store, breaks):
    """The call's error passes through, all that came before it is done, and the next run has exactly the rest."""
    got = []
    with pytest.raises(Stop, match=f"broke after {breaks}"):
        driver.read(Numbers(breaks=breaks), store=store, got=got, every=3)
    numbers = Numbers()
    driver.read(numbers, store=store, got=got, every=3)
    assert got == fresh(*range(10))
    assert numbers.asked == [breaks + 1]


@pytest.mark.guarantee(91)
def test_a_reader_that_stops_gets_the_message_in_its_hand_again(driver, store):
    """A message is taken when the next one is asked for: left with 3 in its hand, it gets 3 again, marked."""
    assert driver.read(Numbers(), store=store, take=4) == fresh(0, 1, 2, 3)
    assert store.progress("s") == Progress(done=3, begun=4, cursor=2)
    assert driver.read(Numbers(), store=store) == marked(3) + fresh(4, 5, 6, 7, 8, 9)


@pytest.mark.guarantee(89, 91)
@pytest.mark.parametrize(
    ("was", "asked", "given"),
    [
        (Progress(done=0, begun=4), 0, marked(0, 1, 2, 3) + fresh(4, 5, 6, 7, 8, 9)),
        (Progress(done=4, begun=8, cursor=3), 4, marked(4, 5, 6, 7) + fresh(8, 9)),
        (Progress(done=8, begun=12, cursor=7), 8, marked(8, 9)),
    ],
)
def test_after_a_sigkill_what_the_dead_run_may_have_handed_out_is_marked(driver, store, was, asked, given):
    """What it leaves between two checkpoints, in its first stretch too: those messages come again, marked."""
    store.commit("s", was.done, begun=was.begun, cursor=was.cursor)
    numbers = Numbers()
    assert driver.read(numbers, store=store, every=4) == given
    assert numbers.asked == [asked]


@pytest.mark.guarantee(88, 91)
def test_the_disk_knows_before_a_message_is_handed_out(store):
    """At every moment the message in the reader's hand is one that may have begun; the cursor is that of the last one done."""
    found = []
    for number, _ in checkpointed_stream(Numbers(4), 0, checkpoint=COUNTING, store=store, name="s", every=2):
        now = store.progress("s")
        found.append((number, now.done, now.begun, now.cursor))
    assert found == [(0, 0, 2, None), (1, 0, 2, None), (2, 2, 4, 1), (3, 2, 4, 1), (4, 4, 6, 3)]


class Spy:
    """A cursor function that notes what is on disk when a message comes."""

    def __init__(self, store, name: str) -> None:
        self._store = store
        self._name = name
        self.calls = 0
        self.found = None

    def __call__(self, number: int) -> int:
        self.calls += 1
        self.found = self._store.progress(self._name)
        return number


def interrupted(driver, store, name, rng):
    """Reads ten numbers in runs that break, are left or killed at random; what each of them was given."""
    runs = []
    while store.progress(name) is None or not store.progress(name).finished:
        got, how, every = [], rng.choice(["breaks", "left", "killed", "gets through"]), rng.randint(1, 4)
        left = {"take": rng.randint(1, 10)} if how in ("left", "killed") else {}
        numbers = Numbers(breaks=rng.randint(-1, 9) if how == "breaks" else None)
        spy = Spy(store, name)
        watched = Checkpoint(resume=COUNTING.resume, cursor=spy)
        with suppress(Stop):
            driver.read(numbers, store=store, name=name, got=got, every=every, checkpoint=watched, **left)
        if how == "killed" and len(got) == left["take"]:
            # What the orderly end has said since, a killed one does not say. It had not yet handed out the last one.
            got.pop()
            store.forget(name)
            if spy.found is not None:
                store.commit(name, spy.found.done, begun=spy.found.begun, cursor=spy.found.cursor)
        runs.append(got)
    return runs


@pytest.mark.guarantee(89, 90, 91, 98)
@pytest.mark.parametrize("seed", range(20))
def test_however_often_it_is_interrupted_the_result_is_that_of_the_uncut_stream(driver, store, seed):
    """25 streams for each of 20 seeds, 1000 in all with both drivers: nothing lost, in order, each repeat marked."""
    rng = random.Random(seed)
    for trial in range(25):
        seen = set()
        for got in interrupted(driver, store, f"s{trial}", rng):
            assert all(number == index for number, index, _ in got)
            assert [number for number, _, _ in got] == list(range(got[0][0], got[0][0] + len(got)) if got else [])
            assert all(repeat for number, _, repeat in got if number in seen)
            seen.update(number for number, _, _ in got)
        assert seen == set(range(10))


@pytest.mark.guarantee(92)
def test_a_limit_that_the_cursor_carries_is_kept_exactly(driver, store):
    """A request for 7 numbers from 0 on, read two at a time: 7 in all. The cursor tells how many are left."""

    def call(request):
        first, limit = request if request else (0, 7)
        return iter_both((first + step, limit - step - 1) for step in range(limit))

    def resume(_, cursor):
        number, left = map(int, cursor.split())
        return number + 1, left

    limited = Checkpoint(resume=resume, cursor=lambda message: f"{message[0]} {message[1]}")
    got = []
    for _ in range(20):
        got += driver.read(call, store=store, checkpoint=limited, take=2)
    assert [message[0] for message, _, repeat in got if not repeat] == [0, 1, 2, 3, 4, 5, 6]
    assert store.progress("s") == Progress(done=7, begun=7, cursor="6 0", finished=True)


class iter_both:  # noqa: N801
    """Any iterator, for either driver."""

    def __init__(self, source) -> None:
        self._source = iter(source)

    def __iter__(self):
        return self._source

    async def __aiter__(self):
        for item in self._source:
            yield item


def test_a_call_is_cancelled_when_its_reader_goes(driver, store):
    """Left, broken or ended: the call under it is not left running."""
    numbers = Numbers()
    driver.read(numbers, store=store, take=2)
    assert numbers.left == 1


@pytest.mark.guarantee(96)
def test_another_request_under_the_same_name_is_refused(driver, store):
    """A changed fingerprint is never mixed with old progress."""
    driver.read(Numbers(), store=store, take=3, fingerprint="v1")
    numbers = Numbers()
    with pytest.raises(CheckpointError, match="fingerprint 'v1' and this is 'v2'"):
        driver.read(numbers, store=store, fingerprint="v2")
    assert numbers.asked == []


@pytest.mark.guarantee(96)
def test_a_batch_and_a_stream_do_not_share_a_name(driver, store):
    """Neither goes on where the other one was."""
    store.commit("batch", 5)
    driver.read(Numbers(), store=store, name="stream", take=3)
    driver.read(Numbers(-1), store=store, name="empty")
    with pytest.raises(CheckpointError, match="'batch' was begun as a batch; give the stream a name of its own"):
        driver.read(Numbers(), store=store, name="batch")
    for name in ("stream", "empty"):
        with pytest.raises(CheckpointError, match=f"'{name}' was begun as a stream; give the batch a name of its own"):
            list(checkpointed(range(10), lambda item, _: item, store=store, name=name))


@pytest.mark.guarantee(95)
def test_a_stream_runs_once_at_a_time(store):
    """A second run of a running stream asks for nothing."""
    first = checkpointed_stream(Numbers(), 0, checkpoint=COUNTING, store=store, name="s")
    next(first)
    numbers = Numbers()
    for driver in (Threads(), Asyncio()):
        with pytest.raises(CheckpointError, match="'s' is running in this process"):
            driver.read(numbers, store=store)
    assert numbers.asked == []
    first.close()


@pytest.mark.parametrize("bad", [None, 1.5, True, 2**64, ["a"]])
def test_a_bad_cursor_is_told_when_it_comes(driver, store, bad):
    """The message is not handed out, and what was done before it stands."""
    checkpoint = Checkpoint(resume=COUNTING.resume, cursor=lambda number: number if number < 4 else bad)
    got = []
    with pytest.raises(ValueError, match=r"Checkpoint: cursor must be text, bytes or a whole number.*to be kept; got"):
        driver.read(Numbers(), store=store, got=got, checkpoint=checkpoint)
    assert got == fresh(0, 1, 2, 3)
    assert store.progress("s") == Progress(done=4, begun=4, cursor=3)


@pytest.mark.parametrize("broken", ["resume", "cursor"])
def test_what_the_users_functions_raise_passes_through(driver, store, broken):
    """As it is, and the progress stands."""
    store.commit("s", 3, cursor=2)
    functions = {"resume": COUNTING.resume, "cursor": COUNTING.cursor, broken: lambda *_: 1 / 0}
    with pytest.raises(ZeroDivisionError):
        driver.read(Numbers(), store=store, checkpoint=Checkpoint(**functions))
    assert store.progress("s") == Progress(done=3, begun=3, cursor=2)


def test_a_commit_that_fails_ends_the_run(driver, store):
    """The store is closed under it when 3 has come: 3 is handed out, as the disk has said that it may be, and no more."""

    def closing(number):
        if number == 3:
            store.close()
        return number

    got, watched = [], Checkpoint(resume=COUNTING.resume, cursor=closing)
    with pytest.raises(CheckpointError, match=r"progress\.db is closed"):
        driver.read(Numbers(), store=store, got=got, every=1, checkpoint=watched)
    assert got == fresh(0, 1, 2, 3)
    with CheckpointStore(store.path) as again:
        assert again.progress("s") == Progress(done=3, begun=4, cursor=2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"call": Numbers()(0)}, "call must be a function of one request, such as stub.List; got"),
        ({"checkpoint": None}, r"checkpoint must be a Checkpoint, such as Checkpoint\(resume=..., cursor="),
        (
            {"checkpoint": Checkpoint(resume=max)},
            "checkpoint must have a cursor, because a store keeps no messages, such as Checkpoint",
        ),
        ({"name": "näh"}, "name must be 1 to 200 printable ASCII characters"),
        ({"every": 0}, "every must be a whole number of items, from 1"),
        ({"fingerprint": None}, "fingerprint must be text"),
        ({"store": "s.db", "every": 0}, "every must be.*; store must be a CheckpointStore"),
    ],
)
def test_a_bad_argument_is_refused_at_once(driver, store, arguments, says):
    """When the stream is described, not when it runs; all problems together."""
    good = {"call": Numbers(), "request": 0, "checkpoint": COUNTING, "store": store, "name": "s"}
    with pytest.raises(ValueError, match=f"^checkpointed_stream: .*{says}"):
        driver.stream(**{**good, **arguments})


# asyncio


def test_a_commit_does_not_hold_up_the_event_loop(store):
    """While the disk takes its time (the store is held here), other tasks go on."""

    async def scene():
        with store._file.use():
            reading, _ = await committing(store)
            assert not reading.done()
        assert await reading == fresh(*range(10))

    asyncio.run(asyncio.wait_for(scene(), 20))


def test_a_task_that_is_cancelled_in_a_commit_waits_for_it(store):
    """The checkpoint before the first message (0, 1), then the last one (0, 0): never the other way round."""

    async def scene():
        with store._file.use():
            reading, spy = await committing(store)
            for _ in range(4):
                reading.cancel()
                await asyncio.sleep(0.005)
            assert not reading.done()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert spy.calls == 1

    asyncio.run(asyncio.wait_for(scene(), 20))
    assert store.progress("s") == Progress(done=0, begun=0)


async def committing(store):
    """A task that reads, and has come to its first commit."""
    spy = Spy(store, "s")
    watched = Checkpoint(resume=COUNTING.resume, cursor=spy)
    reading = asyncio.ensure_future(Asyncio()._read(Numbers(), store=store, every=1, checkpoint=watched))
    while not spy.calls:
        await asyncio.sleep(0.001)
    return reading, spy


def test_a_cancelled_task_leaves_its_progress(store):
    """Cancelled while it waits for a message: the two before it are done, and the store is free for the next run."""

    class Silent(Call):
        async def __anext__(self) -> int:
            if self._next == 2:
                waiting.set()
                await asyncio.Event().wait()
            return await super().__anext__()

    async def scene():
        reading = asyncio.ensure_future(Asyncio()._read(lambda first: Silent(Numbers(), first), store=store))
        await waiting.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    waiting = asyncio.Event()
    asyncio.run(asyncio.wait_for(scene(), 20))
    assert store.progress("s") == Progress(done=2, begun=2, cursor=1)


# On real sockets

LETTERS = Checkpoint(
    resume=lambda request, letter: named(request.name.partition(letter)[2]), cursor=lambda reply: reply.message
)


def read_letters(address: str, store: CheckpointStore, take: int | None) -> list[str]:
    with Channel([address], policy=Policy(checkpoint=LETTERS)) as channel:
        call = partial(hello_pb2_grpc.HelloStub(channel).SayHelloToEach, metadata=(("tenant", "a"),), timeout=10.0)
        stream = checkpointed_stream(call, named("abcdef"), checkpoint=LETTERS, store=store, name="letters")
        got = [reply.message for reply, _ in islice(stream, take)]
        stream.close()
        return got


def read_letters_async(address: str, store: CheckpointStore, take: int | None) -> list[str]:
    async def read() -> list[str]:
        async with aio.Channel([address], policy=Policy(checkpoint=LETTERS)) as channel:
            call = partial(hello_pb2_grpc.HelloStub(channel).SayHelloToEach, metadata=(("tenant", "a"),), timeout=10.0)
            stream = aio.checkpointed_stream(call, named("abcdef"), checkpoint=LETTERS, store=store, name="letters")
            got: list[str] = []
            async with aclosing(stream):
                async for reply, _ in stream:
                    got.append(reply.message)
                    if len(got) == take:
                        break
            return got

    return asyncio.run(read())


@pytest.mark.guarantee(90)
@pytest.mark.parametrize("read", [read_letters, read_letters_async], ids=["threads", "asyncio"])
def test_a_stub_is_read_on_in_another_channel(one, store, read):
    """Left after three letters; a new channel of a new process, as it were, has the third one again and the rest."""
    assert read(one.addresses[0], store, 3) == ["a", "b", "c"]
    assert read(one.addresses[0], store, None) == ["c", "d", "e", "f"]
    assert read(one.addresses[0], store, None) == []


@pytest.mark.parametrize("read", [read_letters, read_letters_async], ids=["threads", "asyncio"])
def test_an_error_of_the_call_is_the_callers(store, read):
    """No server there: a CallError, as without a checkpoint, and nothing has begun."""
    with pytest.raises(grpc.RpcError):
        read("127.0.0.1:1", store, None)
    assert store.progress("letters") == Progress(done=0, begun=0)
