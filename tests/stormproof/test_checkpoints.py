"""Batches over a real store: nothing lost, little repeated, every repeat marked. (SIGKILL: test_kill_points.py.)"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stormproof import CheckpointError, CheckpointStore, Mark, checkpointed
from stormproof.core.ledger import Progress

ROOT = Path(__file__).parents[2]


class Stop(Exception):
    """What a test raises to interrupt a run."""


class Server:
    """Remembers, for each call, the index and whether it was marked; fails before answering at `fails_at`."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.calls: list[tuple[int, bool]] = []

    def __call__(self, item: str, mark: Mark) -> str:
        self.calls.append((mark.index, mark.repeat))
        if mark.index == self.fails_at:
            raise Stop
        return item.upper()


def on_disk(store: CheckpointStore) -> Callable[[int, Mark], tuple[int, int, int]]:
    """Work that returns its index, and `done` and `begun` as they are stored while it works."""

    def work(_item: int, mark: Mark) -> tuple[int, int, int]:
        progress = store.progress("b")
        assert progress is not None
        return mark.index, progress.done, progress.begun

    return work


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "progress.db"


@pytest.fixture
def store(path: Path) -> Iterator[CheckpointStore]:
    with CheckpointStore(path) as store:
        yield store


# One run


def test_a_fresh_batch_calls_each_item_once_in_order_and_marks_none(store: CheckpointStore) -> None:
    """Promise: without an interruption a batch is a plain loop, and ends with everything done."""
    server = Server()
    assert list(checkpointed("abcde", server, store=store, name="b", every=2)) == ["A", "B", "C", "D", "E"]
    assert server.calls == [(0, False), (1, False), (2, False), (3, False), (4, False)]
    assert store.progress("b") == Progress(done=5, begun=5)


def test_each_result_comes_as_soon_as_its_item_is_done(store: CheckpointStore) -> None:
    """Promise: nothing is worked on ahead of the consumer."""
    server = Server()
    results = checkpointed("abc", server, store=store, name="b")
    assert (next(results), server.calls) == ("A", [(0, False)])
    assert (next(results), server.calls) == ("B", [(0, False), (1, False)])


@pytest.mark.guarantee(91)
def test_the_disk_says_what_may_have_begun_before_it_begins(store: CheckpointStore) -> None:
    """Promise: whenever the process dies, an item that may have been done is below `begun` on disk."""
    found = list(checkpointed(range(5), on_disk(store), store=store, name="b", every=2))
    assert found == [(0, 0, 2), (1, 0, 2), (2, 2, 4), (3, 2, 4), (4, 4, 6)]


@pytest.mark.guarantee(89)
def test_a_finished_batch_does_nothing_when_run_again(store: CheckpointStore) -> None:
    """Promise: running a finished batch again calls nothing, yields nothing and changes nothing."""
    list(checkpointed("abc", Server(), store=store, name="b"))
    server = Server()
    assert list(checkpointed("abc", server, store=store, name="b")) == []
    assert server.calls == []
    assert store.progress("b") == Progress(done=3, begun=3)


def test_an_empty_batch_is_finished_at_once(store: CheckpointStore) -> None:
    """Promise: a batch of no items is a batch."""
    assert list(checkpointed([], Server(), store=store, name="b")) == []
    assert store.progress("b") == Progress(done=0, begun=0)


def test_batches_of_one_store_do_not_mix(store: CheckpointStore) -> None:
    """Promise: progress belongs to a name, also when two batches run by turns."""
    one = checkpointed("abc", Server(), store=store, name="one")
    two = checkpointed("xyz", Server(), store=store, name="two")
    assert [next(one), next(two), next(two), *one] == ["A", "X", "Y", "B", "C"]
    two.close()
    assert store.progress("one") == Progress(done=3, begun=3)
    assert store.progress("two") == Progress(done=1, begun=2)
    assert store.progress("three") is None


def test_a_mark_is_the_same_in_metadata() -> None:
    """Promise: a server sees the key of every call, and of a repeat that it is one."""
    fresh = Mark(index=7, key="nightly/7", repeat=False)
    again = Mark(index=7, key="nightly/7", repeat=True)
    assert fresh.metadata == (("idempotency-key", "nightly/7"),)
    assert again.metadata == (("idempotency-key", "nightly/7"), ("stormproof-repeat", "1"))


# Interrupted runs


@pytest.mark.guarantee(89, 91)
def test_after_an_exception_only_the_item_that_raised_is_repeated(store: CheckpointStore) -> None:
    """Promise: an exception of `work` passes through, what was done stays done, and what raised is marked."""
    with pytest.raises(Stop):
        list(checkpointed("abcdef", Server(fails_at=3), store=store, name="b", every=100))
    assert store.progress("b") == Progress(done=3, begun=4)
    server = Server()
    assert list(checkpointed("abcdef", server, store=store, name="b", every=100)) == ["D", "E", "F"]
    assert server.calls == [(3, True), (4, False), (5, False)]


@pytest.mark.guarantee(91)
def test_a_consumer_that_stops_gets_the_result_in_its_hand_again(store: CheckpointStore) -> None:
    """Promise: a result is covered only when the next one is asked for, so none is lost with its consumer."""
    results = checkpointed("abcdef", Server(), store=store, name="b", every=100)
    assert [next(results), next(results), next(results)] == ["A", "B", "C"]
    results.close()
    assert store.progress("b") == Progress(done=2, begun=3)
    server = Server()
    assert list(checkpointed("abcdef", server, store=store, name="b")) == ["C", "D", "E", "F"]
    assert server.calls == [(2, True), (3, False), (4, False), (5, False)]


def test_items_that_fail_to_come_mark_nothing(store: CheckpointStore) -> None:
    """Promise: when `items` raises, the item that never came has not begun."""

    def broken() -> Iterator[str]:
        yield from "ab"
        raise Stop

    with pytest.raises(Stop):
        list(checkpointed(broken(), Server(), store=store, name="b"))
    assert store.progress("b") == Progress(done=2, begun=2)


def died(store: CheckpointStore, *, done: int, begun: int) -> None:
    """Leaves what a run leaves that a SIGKILL ended between two checkpoints."""
    store.commit("b", done, begun=begun)


@pytest.mark.guarantee(89, 91)
@pytest.mark.parametrize(
    ("done", "begun", "calls"),
    [
        (0, 2, [(0, True), (1, True), (2, False), (3, False), (4, False)]),
        (2, 4, [(2, True), (3, True), (4, False)]),
        (4, 6, [(4, True)]),
    ],
)
def test_after_a_crash_the_items_of_the_open_stretch_are_marked(
    store: CheckpointStore, done: int, begun: int, calls: list[tuple[int, bool]]
) -> None:
    """Promise: exactly the items that the dead run may have done are marked, its first stretch included."""
    died(store, done=done, begun=begun)
    server = Server()
    list(checkpointed("abcde", server, store=store, name="b", every=2))
    assert server.calls == calls
    assert store.progress("b") == Progress(done=5, begun=5)


@pytest.mark.guarantee(91)
def test_a_run_with_shorter_stretches_still_marks_all_of_the_dead_long_one(store: CheckpointStore) -> None:
    """Promise: marks tell what a dead run may have done with its own `every`, through many deaths."""
    died(store, done=0, begun=4)
    results = checkpointed(range(6), on_disk(store), store=store, name="b", every=1)
    assert [next(results), next(results)] == [(0, 0, 4), (1, 1, 4)]
    results.close()
    server = Server()
    list(checkpointed("abcdef", server, store=store, name="b", every=1))
    assert server.calls == [(1, True), (2, True), (3, True), (4, False), (5, False)]


@pytest.mark.guarantee(89)
def test_any_iterable_continues_where_it_was(store: CheckpointStore) -> None:
    """Promise: an iterator is consumed up to the checkpoint, and its items keep their index and key."""
    store.commit("b", 2)
    marks = list(checkpointed(iter("abcd"), lambda item, mark: (item, mark.key), store=store, name="b"))
    assert marks == [("c", "b/2"), ("d", "b/3")]


def test_a_sequence_is_continued_by_index(store: CheckpointStore) -> None:
    """Promise: continuing far into a long sequence costs nothing."""
    store.commit("b", 10**15)
    found = list(checkpointed(range(10**15 + 1), lambda item, _: item, store=store, name="b"))
    assert found == [10**15]


# Refusals


@pytest.mark.guarantee(96)
@pytest.mark.parametrize("items", ["abc", iter("abc")])
def test_fewer_items_than_are_done_are_not_the_same_batch(store: CheckpointStore, items: str) -> None:
    """Promise: a batch that shrank below its checkpoint is refused, not called finished."""
    store.commit("b", 5)
    with pytest.raises(CheckpointError, match=r"'b' has 5 items done, but there are only 3.*own name, or forget"):
        list(checkpointed(items, Server(), store=store, name="b"))
    assert store.progress("b") == Progress(done=5, begun=5)


@pytest.mark.guarantee(96)
def test_other_items_under_the_same_name_are_refused(store: CheckpointStore) -> None:
    """Promise: a changed fingerprint is never mixed with old progress, and forgetting it begins anew."""
    store.commit("b", 1, fingerprint="v1")
    server = Server()
    with pytest.raises(CheckpointError, match=r"fingerprint 'v1' and this is 'v2'.*of their own, or forget\('b'\)"):
        list(checkpointed("abc", server, store=store, name="b", fingerprint="v2"))
    with pytest.raises(CheckpointError, match="fingerprint 'v1' and this is 'v2'"):
        store.commit("b", 2, fingerprint="v2")
    store.forget("b")
    assert list(checkpointed("abc", server, store=store, name="b", fingerprint="v2")) == ["A", "B", "C"]
    assert server.calls == [(0, False), (1, False), (2, False)]


@pytest.mark.guarantee(95)
def test_progress_never_goes_back(store: CheckpointStore) -> None:
    """Promise: a commit behind the stored one is an error that changes nothing."""
    store.commit("b", 5)
    store.commit("b", 5)
    with pytest.raises(CheckpointError, match=r"'b' has 5 items done and cannot go back to 4; forget\('b'\)"):
        store.commit("b", 4)
    assert store.progress("b") == Progress(done=5, begun=5)


@pytest.mark.guarantee(95)
def test_a_batch_runs_once_at_a_time(store: CheckpointStore) -> None:
    """Promise: a second run of a running batch is refused before it calls anything; so is forgetting it."""
    server = Server()
    first = checkpointed("abc", server, store=store, name="b")
    next(first)
    with pytest.raises(CheckpointError, match="'b' is running in this process"):
        next(checkpointed("abc", server, store=store, name="b"))
    with pytest.raises(CheckpointError, match="'b' is running in this process"):
        store.forget("b")
    assert [*first] == ["B", "C"]
    assert server.calls == [(0, False), (1, False), (2, False)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "name must be 1 to 200 printable ASCII characters.*got ''"),
        ({"name": "n" * 201}, "name must be 1 to 200 printable ASCII"),
        ({"name": "näh"}, "name must be.*because it travels in gRPC metadata; got 'näh'"),
        ({"name": "two\nlines"}, "name must be"),
        ({"name": " b"}, "name must be.*without spaces at its ends"),
        ({"name": None}, "name must be.*got None"),
        ({"every": 0}, "every must be a whole number of items, from 1 to 1000000000; got 0"),
        ({"every": 2.5}, "every must be a whole number.*got 2.5"),
        ({"every": 10**9 + 1}, "every must be.*got 1000000001"),
        ({"every": True}, "every must be a whole number.*got True"),
        ({"fingerprint": b"abc"}, "fingerprint must be text, such as a digest of the items; got b'abc'"),
        ({"store": None}, r"store must be a CheckpointStore, such as CheckpointStore\('progress.db'\); got None"),
        ({"store": "progress.db"}, "store must be a CheckpointStore.*got 'progress.db'"),
        ({"items": 3}, "items must be something that can be iterated over; got 3"),
        ({"work": "SayHello"}, r"work must be a function of \(item, mark\); got 'SayHello'"),
    ],
)
def test_a_bad_argument_is_refused_at_once(store: CheckpointStore, arguments: dict[str, object], message: str) -> None:
    """Promise: a bad argument is told with its bound when the batch is described, not when it runs."""
    with pytest.raises(ValueError, match=message):
        checkpointed(**{"items": "abc", "work": Server(), "store": store, "name": "b", **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("done", "begun", "message"),
    [
        (-1, None, r"done must be a whole number of items, from 0 to 2\*\*62 - 1; got -1"),
        (2**62, None, "done must be"),
        (1.5, None, "done must be.*got 1.5"),
        (5, 4, r"begun must be a whole number, from done \(5\) to 2\*\*63 - 1; got 4"),
        (5, 2**63, "begun must be"),
    ],
)
def test_a_bad_number_is_not_committed(store: CheckpointStore, done: int, begun: int | None, message: str) -> None:
    """Promise: numbers that make no sense, or that the file cannot hold, are refused."""
    with pytest.raises(ValueError, match=message):
        store.commit("b", done, begun=begun)
    assert store.progress("b") is None
