"""A kept client stream, without a call: whatever attempts come and go, each reads all of it from its first item on."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from greeters import until

from stormproof import aio_replay
from stormproof.replay import Replay


@pytest.mark.parametrize("bound", [100, 5], ids=["kept", "outgrown"])
def test_the_item_that_an_old_attempt_waited_for_goes_to_its_successor(bound):
    """A successor begins while the caller's iterator is asked for the third item; also where that one outgrows the buffer."""
    asked, given = threading.Event(), threading.Event()

    def source():
        yield from (b"aa", b"bb")
        asked.set()
        assert given.wait(5)
        yield from (b"cc", b"dd")

    outgrown = []
    replay = Replay(source(), None, bound, lambda: outgrown.append(1))
    with ThreadPoolExecutor(2) as pool:
        old = pool.submit(list, replay.attempt())
        assert asked.wait(5)
        new = replay.attempt()
        assert next(new) == b"aa"
        rest = pool.submit(list, new)
        given.set()
        assert rest.result(5) == [b"bb", b"cc", b"dd"]
        assert old.result(5) == [b"aa", b"bb"]
    assert outgrown == ([] if bound == 100 else [1])


def test_a_mistake_of_the_callers_iterator_ends_every_attempt():
    """A stream that broke in its midst must never look whole to a later attempt."""

    def source():
        yield b"aa"
        raise RuntimeError("my own mistake")

    replay = Replay(source(), None, 100, lambda: None)
    for _ in range(2):
        items = replay.attempt()
        assert next(items) == b"aa"
        with pytest.raises(RuntimeError, match="my own mistake"):
            next(items)
    assert str(replay.problem) == "my own mistake"


def test_who_waits_for_an_item_is_let_go_when_the_call_is_over():
    """The caller's iterator says nothing more: a successor that waits for it ends with the call."""
    asked, silent = threading.Event(), threading.Event()

    def source():
        asked.set()
        silent.wait(5)
        yield b"too late"

    replay = Replay(source(), None, 100, lambda: None)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(list, replay.attempt())
        assert asked.wait(5)
        second = pool.submit(list, replay.attempt())
        until(second.running, "the second attempt to read")
        replay.close()
        assert second.result(5) == []
        silent.set()


def test_what_outgrew_its_buffer_is_kept_no_longer_than_until_it_is_taken():
    """A stream of any length takes no more memory than its buffer and an item."""
    replay = Replay(iter([b"1234"] * 1000), None, 10, lambda: None)
    assert max(len(replay._kept) for _ in replay.attempt()) == 2


def test_an_asyncio_writer_waits_for_nobody_who_is_gone():
    """The attempt that a writer waited for ends: the writer is told."""

    async def talk():
        replay = aio_replay.Replay(None, None, 5, lambda: None)
        attempt = replay.attempt()
        await replay.write(b"aa")
        assert await anext(attempt) == b"aa"
        writing = asyncio.create_task(replay.write(b"bbbb"))
        await asyncio.sleep(0)
        assert not writing.done()
        await attempt.aclose()
        with pytest.raises(asyncio.InvalidStateError, match="over, or broken"):
            await asyncio.wait_for(writing, 5)

    asyncio.run(talk())
