"""Checkpoints over real files and real SIGKILLs: nothing lost, little repeated, every repeat marked."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stormproof import CheckpointError, CheckpointStore, Mark, StoreInUse, checkpointed
from stormproof.checkpoint_store import APPLICATION_ID
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


def test_the_disk_says_what_may_have_begun_before_it_begins(store: CheckpointStore) -> None:
    """Promise: whenever the process dies, an item that may have been done is below `begun` on disk."""
    found = list(checkpointed(range(5), on_disk(store), store=store, name="b", every=2))
    assert found == [(0, 0, 2), (1, 0, 2), (2, 2, 4), (3, 2, 4), (4, 4, 6)]


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
    two.close()  # type: ignore[attr-defined]
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


def test_after_an_exception_only_the_item_that_raised_is_repeated(store: CheckpointStore) -> None:
    """Promise: an exception of `work` passes through, what was done stays done, and what raised is marked."""
    with pytest.raises(Stop):
        list(checkpointed("abcdef", Server(fails_at=3), store=store, name="b", every=100))
    assert store.progress("b") == Progress(done=3, begun=4)
    server = Server()
    assert list(checkpointed("abcdef", server, store=store, name="b", every=100)) == ["D", "E", "F"]
    assert server.calls == [(3, True), (4, False), (5, False)]


def test_a_consumer_that_stops_gets_the_result_in_its_hand_again(store: CheckpointStore) -> None:
    """Promise: a result is covered only when the next one is asked for, so none is lost with its consumer."""
    results = checkpointed("abcdef", Server(), store=store, name="b", every=100)
    assert [next(results), next(results), next(results)] == ["A", "B", "C"]
    results.close()  # type: ignore[attr-defined]
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


def test_a_run_with_shorter_stretches_still_marks_all_of_the_dead_long_one(store: CheckpointStore) -> None:
    """Promise: marks tell what a dead run may have done with its own `every`, through many deaths."""
    died(store, done=0, begun=4)
    results = checkpointed(range(6), on_disk(store), store=store, name="b", every=1)
    assert [next(results), next(results)] == [(0, 0, 4), (1, 1, 4)]
    results.close()  # type: ignore[attr-defined]
    server = Server()
    list(checkpointed("abcdef", server, store=store, name="b", every=1))
    assert server.calls == [(1, True), (2, True), (3, True), (4, False), (5, False)]


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


@pytest.mark.parametrize("items", ["abc", iter("abc")])
def test_fewer_items_than_are_done_are_not_the_same_batch(store: CheckpointStore, items: str) -> None:
    """Promise: a batch that shrank below its checkpoint is refused, not called finished."""
    store.commit("b", 5)
    with pytest.raises(CheckpointError, match=r"'b' has 5 items done, but there are only 3.*own name, or forget"):
        list(checkpointed(items, Server(), store=store, name="b"))
    assert store.progress("b") == Progress(done=5, begun=5)


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


def test_progress_never_goes_back(store: CheckpointStore) -> None:
    """Promise: a commit behind the stored one is an error that changes nothing."""
    store.commit("b", 5)
    store.commit("b", 5)
    with pytest.raises(CheckpointError, match=r"'b' has 5 items done and cannot go back to 4; forget\('b'\)"):
        store.commit("b", 4)
    assert store.progress("b") == Progress(done=5, begun=5)


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


# The file


def test_progress_is_there_after_closing_and_opening(path: Path) -> None:
    """Promise: what was committed is read again, whatever was in the fingerprint."""
    with CheckpointStore(path) as store:
        store.commit("b", 3, begun=5, fingerprint="ü 'quoted'")
    with CheckpointStore(str(path)) as store:
        assert store.progress("b") == Progress(done=3, begun=5, fingerprint="ü 'quoted'")


def test_a_closed_store_says_so(path: Path) -> None:
    """Promise: closing twice is fine, using it afterwards is a clear error."""
    store = CheckpointStore(path)
    store.close()
    store.close()
    with pytest.raises(CheckpointError, match=r"progress\.db is closed"):
        store.commit("b", 1)


def test_a_store_has_one_holder_in_a_process(path: Path, store: CheckpointStore) -> None:
    """Promise: a second store of the same file is refused, and does not loosen the first one's hold."""
    for _ in range(2):
        with pytest.raises(StoreInUse, match=r"progress\.db is held by somebody else, still after 0\.5 s"):
            CheckpointStore(path)
    store.commit("b", 1)


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs `code` in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def test_a_store_has_one_holder_among_processes(path: Path, store: CheckpointStore) -> None:
    """Promise: another process is refused while the store is open, and let in when it is closed."""
    opening = "import sys; from stormproof import *; CheckpointStore(sys.argv[1]); print('open')"
    refused = python(opening, path)
    assert "StoreInUse" in refused.stderr.splitlines()[-1]
    store.close()
    assert python(opening, path).stdout == "open\n"


def test_a_store_is_not_carried_over_a_fork(path: Path, store: CheckpointStore) -> None:
    """Promise: a child that inherited an open store can neither use it nor close it under its parent."""
    store.commit("b", 1)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            store.close()
            store.commit("b", 2)
        except CheckpointError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    assert b"was opened by process" in os.read(read, 1000)
    os.close(read)
    assert Path(f"{path}-wal").exists()


def test_threads_share_a_store(store: CheckpointStore) -> None:
    """Promise: batches may run side by side in threads."""
    names = ["one", "two", "three", "four"]

    def run(name: str) -> None:
        list(checkpointed(range(50), lambda item, _: item, store=store, name=name, every=3))

    threads = [threading.Thread(target=run, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [store.progress(name) for name in names] == [Progress(done=50, begun=50)] * 4


def test_a_commit_is_synced_to_the_disk_in_wal_mode(store: CheckpointStore) -> None:
    """Promise: the settings on which durability rests are the ones in force."""
    connection = store._file.connection
    asked = ("journal_mode", "synchronous", "locking_mode", "application_id", "user_version")
    found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in asked]
    assert found == ["wal", 2, "exclusive", APPLICATION_ID, -1]  # 2 is FULL; below 0: the file is open


def sqlite_file(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"to whom it may concern " * 50, "is not an SQLite file.*use another path"),
        (b"", "is empty, as no store ever is: restore it, or remove it to begin anew"),
        (
            ["CREATE TABLE mine (x)"],
            "is an SQLite file of another program; give another path, it stays as it is",
        ),
        (
            [f"PRAGMA application_id = {APPLICATION_ID}", "PRAGMA user_version = 2"],
            "has format 2, this stormproof knows 1; use the newer one that wrote it",
        ),
        (
            [f"PRAGMA application_id = {APPLICATION_ID}", "PRAGMA user_version = 1", "CREATE TABLE progress (x)"],
            "is damaged",
        ),
    ],
)
def test_a_file_that_is_no_store_of_ours_is_refused_and_left_alone(
    path: Path, content: bytes | list[str], message: str
) -> None:
    """Promise: the error says what the file is and what to do, and no byte of the file changes."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        sqlite_file(path, *content)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=message):
        CheckpointStore(path)
    assert path.read_bytes() == before


def test_a_path_that_cannot_be_a_file_is_told(tmp_path: Path) -> None:
    """Promise: a missing folder, or a folder instead of a file, is named in the error."""
    with pytest.raises(CheckpointError, match=r"p\.db cannot be opened; is its folder there"):
        CheckpointStore(tmp_path / "nowhere" / "p.db")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="folder cannot be used"):
        CheckpointStore(tmp_path / "folder")


def whole_store(path: Path) -> bytes:
    with CheckpointStore(path) as store:
        store.commit("nightly", 500, begun=600, fingerprint="abc")
    return path.read_bytes()


def test_a_truncated_store_is_never_taken_for_a_new_one(path: Path) -> None:
    """Promise: at whatever length the file was cut, it is refused."""
    whole = whole_store(path)
    for length in range(0, len(whole), 256):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            CheckpointStore(path)


def test_a_flipped_byte_is_found_or_harmless(path: Path) -> None:
    """Promise: with any one byte wrong, the store is refused, or it says exactly what was committed."""
    whole = whole_store(path)
    used = [place for place, byte in enumerate(whole) if byte]
    refused = 0
    for place in random.Random(5).sample(used, 150):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            with CheckpointStore(path) as store:
                assert store.progress("nightly") == Progress(done=500, begun=600, fingerprint="abc"), place
        except CheckpointError:
            refused += 1
    assert refused > 75


def test_damage_that_reading_does_not_meet_is_found_too(path: Path) -> None:
    """Promise: a store whose pages are wrongly built is refused before a commit can make it worse."""
    whole = bytearray(whole_store(path))
    whole[4096 + 7] ^= 0xFF  # the number of fragmented bytes, in the header of the second page
    path.write_bytes(whole)
    with pytest.raises(
        CheckpointError, match=r"(?s)is damaged .*Page 2: free space corruption.*restore it, or move it and"
    ):
        CheckpointStore(path)


def test_a_lost_file_beside_its_log_is_not_begun_anew(path: Path) -> None:
    """Promise: when only FILE-wal is left, checkpoints are missing and not simply zero."""
    Path(f"{path}-wal").write_bytes(b"the last checkpoints")
    with pytest.raises(CheckpointError, match=r"progress\.db is missing, but .*progress\.db-wal .* put it back"):
        CheckpointStore(path)
    assert not path.exists()


FULL_DISK = """
import resource, signal, sys
from stormproof import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def work(item, mark):
    print(item, flush=True)
    return item
with CheckpointStore(sys.argv[1]) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
    try:
        list(checkpointed(range(100), work, store=store, name="b", every=1))
    except CheckpointError as error:
        print(error)
"""


def test_when_the_disk_refuses_the_last_checkpoint_stands(path: Path) -> None:
    """Promise: a failing commit stops the batch with a clear error, and the next run goes on from there."""
    *called, error = python(FULL_DISK, path).stdout.splitlines()
    assert "cannot be used" in error
    assert "what was committed stands" in error
    last = int(called[-1])
    with CheckpointStore(path) as store:
        assert store.progress("b") == Progress(done=last, begun=last + 1)


# SIGKILL

KILLED = """
import os, sys
from stormproof import CheckpointStore, checkpointed

path, log, every = sys.argv[1], sys.argv[2], int(sys.argv[3])

def run(number, items):
    journal = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    def work(item, mark):
        os.write(journal, b"%d %d %d\\n" % (number, mark.index, mark.repeat))
    with CheckpointStore(path) as store:
        for _ in checkpointed(range(items), work, store=store, name="killed", every=every):
            pass

for number, items in enumerate(sys.stdin):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run(number, int(items))
            status = 0
        finally:
            os._exit(status)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Killed:
    """A process that makes one run of the batch, in a child of its own, for each time it is asked to."""

    def __init__(self, folder: Path, *, every: int) -> None:
        self.log = folder / "server.log"
        self.log.touch()
        command = [sys.executable, "-c", KILLED, str(folder / "killed.db"), str(self.log), str(every)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def begin(self, items: int) -> int:
        """Begins a run over the first `items` items and returns its process id."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{items}\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def kill_after(self, pid: int, lines: int, delay: float) -> int:
        """SIGKILL `delay` seconds after the run has written about `lines` lines; returns its wait status."""
        until = self.log.stat().st_size + 9 * lines
        deadline = time.monotonic() + 10
        while lines and self.log.stat().st_size < until:
            assert time.monotonic() < deadline, f"process {pid} wrote fewer than {lines} lines in 10 s"
        moment = time.perf_counter() + delay
        while time.perf_counter() < moment:
            pass
        os.kill(pid, signal.SIGKILL)
        return self.answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


def calls_of(log: Path) -> dict[int, list[tuple[int, bool]]]:
    """What each run called, as the server's side has it: index, and whether it was marked."""
    runs: dict[int, list[tuple[int, bool]]] = {}
    for line in log.read_text().splitlines():
        run, index, marked = map(int, line.split())
        runs.setdefault(run, []).append((index, bool(marked)))
    return runs


def check(runs: dict[int, list[tuple[int, bool]]], *, items: int, every: int) -> int:
    """Asserts what a killed batch promises of its log; returns the number of repeats."""
    seen: set[int] = set()
    repeats = 0
    for calls in runs.values():
        indexes = [index for index, _ in calls]
        assert indexes == list(range(indexes[0], indexes[0] + len(indexes)))  # in order, none left out
        again = seen.intersection(indexes)
        assert len(again) <= every
        assert all(marked for index, marked in calls if index in again)
        assert sum(marked for _, marked in calls) <= every
        seen.update(indexes)
        repeats += len(again)
    assert seen == set(range(items))
    return repeats


def kill_and_finish(folder: Path, *, seed: int, kills: int, every: int) -> int:
    """Kills a batch at random points, lets it finish, checks its log and returns the number of repeats.

    Each kill comes after 0 to 39 items (0: while the store is being opened or made) and a random fraction of
    a millisecond. The batch has no end until the last run, so that no kill can come too late.
    """
    rng = random.Random(seed)
    killed = Killed(folder, every=every)
    try:
        for _ in range(kills):
            pid = killed.begin(10**12)
            lines = rng.randrange(40)
            status = killed.kill_after(pid, lines, rng.uniform(0, 0.001 if lines else 0.006))
            assert os.WIFSIGNALED(status), f"the run ended by itself, with status {status}"
        items = 20 + max(index for calls in calls_of(killed.log).values() for index, _ in calls)
        killed.begin(items)
        assert killed.answer() == 0
    finally:
        killed.close()
    return check(calls_of(killed.log), items=items, every=every)


def test_a_batch_that_is_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    """Promise: through 60 SIGKILLs at random points (seed 8) every item is done, every repeat is marked."""
    repeats = kill_and_finish(tmp_path, seed=8, kills=60, every=5)
    assert repeats > 0  # else no kill ever hit the batch in the middle of its work
