"""The file of checkpoints: one holder, durable commits, and damage that is told with what can still be read."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stormproof import CheckpointError, CheckpointStore, StoreInUse, checkpointed
from stormproof.checkpoint_store import APPLICATION_ID
from stormproof.core.ledger import Progress

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "progress.db"


@pytest.fixture
def store(path: Path) -> Iterator[CheckpointStore]:
    with CheckpointStore(path) as store:
        yield store


@pytest.mark.guarantee(88)
def test_progress_is_there_after_closing_and_opening(path: Path) -> None:
    """Promise: what was committed is read again, whatever was in the fingerprint."""
    with CheckpointStore(path) as store:
        store.commit("b", 3, begun=5, fingerprint="ü 'quoted'")
    with CheckpointStore(str(path)) as store:
        assert store.progress("b") == Progress(done=3, begun=5, fingerprint="ü 'quoted'")


def test_a_path_that_is_none_is_refused_with_the_way_out() -> None:
    """Promise: the message names the argument and an example."""
    with pytest.raises(ValueError, match=r"path must name a file, such as 'progress.db'; got None"):
        CheckpointStore(None)


def test_a_closed_store_says_so(path: Path) -> None:
    """Promise: closing twice is fine, using it afterwards is a clear error."""
    store = CheckpointStore(path)
    store.close()
    store.close()
    with pytest.raises(CheckpointError, match=r"progress\.db is closed"):
        store.commit("b", 1)


@pytest.mark.guarantee(95)
def test_a_store_has_one_holder_in_a_process(path: Path, store: CheckpointStore) -> None:
    """Promise: a second store of the same file is refused, and does not loosen the first one's hold."""
    for _ in range(2):
        with pytest.raises(StoreInUse, match=r"progress\.db is held by somebody else, still after 0\.5 s"):
            CheckpointStore(path)
    store.commit("b", 1)


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs `code` in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.guarantee(95)
def test_a_store_has_one_holder_among_processes(path: Path, store: CheckpointStore) -> None:
    """Promise: another process is refused while the store is open, and let in when it is closed."""
    opening = "import sys; from stormproof import *; CheckpointStore(sys.argv[1]); print('open')"
    refused = python(opening, path)
    assert "StoreInUse" in refused.stderr.splitlines()[-1]
    store.close()
    assert python(opening, path).stdout == "open\n"


@pytest.mark.guarantee(95)
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


@pytest.mark.guarantee(88)
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


@pytest.mark.guarantee(94)
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


@pytest.mark.guarantee(94)
def test_a_truncated_store_is_never_taken_for_a_new_one(path: Path) -> None:
    """Promise: at whatever length the file was cut, it is refused."""
    whole = whole_store(path)
    for length in range(0, len(whole), 256):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            CheckpointStore(path)


@pytest.mark.guarantee(94)
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


@pytest.mark.guarantee(94)
def test_damage_that_reading_does_not_meet_is_found_too(path: Path) -> None:
    """Promise: a store whose pages are wrongly built is refused before a commit can make it worse."""
    whole = bytearray(whole_store(path))
    whole[4096 + 7] ^= 0xFF  # the number of fragmented bytes, in the header of the second page
    path.write_bytes(whole)
    with pytest.raises(
        CheckpointError, match=r"(?s)is damaged .*Page 2: free space corruption.*restore it, or move it and"
    ):
        CheckpointStore(path)


@pytest.mark.guarantee(94)
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


@pytest.mark.guarantee(87)
def test_when_the_disk_refuses_the_last_checkpoint_stands(path: Path) -> None:
    """Promise: a failing commit stops the batch with a clear error, and the next run goes on from there."""
    *called, error = python(FULL_DISK, path).stdout.splitlines()
    assert "cannot be used" in error
    assert "what was committed stands" in error
    last = int(called[-1])
    with CheckpointStore(path) as store:
        assert store.progress("b") == Progress(done=last, begun=last + 1)


# Streams, and names


@pytest.mark.guarantee(88)
@pytest.mark.parametrize("cursor", ["k500", "ü", "", b"\x00\xff", 7, 0, -(2**63), 2**64 - 1])
def test_a_cursor_is_read_as_it_was_written(path: Path, cursor: str | bytes | int) -> None:
    """Promise: text, bytes and whole numbers of 64 bits come back as what they were."""
    with CheckpointStore(path) as store:
        store.commit("s", 500, begun=600, cursor=cursor)
    with CheckpointStore(path) as store:
        assert store.progress("s") == Progress(done=500, begun=600, cursor=cursor)
        store.commit("s", 500, cursor=cursor, finished=True)
    with CheckpointStore(path) as store:
        assert store.progress("s") == Progress(done=500, begun=500, cursor=cursor, finished=True)


def test_a_forgotten_name_is_gone_for_good(path: Path) -> None:
    """Promise: forgetting is as durable as a commit, may be done twice, and the name can begin anew."""
    with CheckpointStore(path) as store:
        store.commit("b", 5)
        store.forget("b")
        store.forget("b")
    with CheckpointStore(path) as store:
        assert store.progress("b") is None
        store.commit("b", 1, fingerprint="another")
        assert store.progress("b") == Progress(done=1, begun=1, fingerprint="another")


# Death, damage, and what can be told of it


STEPS = """
import os, signal, sqlite3, sys
from stormproof import CheckpointError, CheckpointStore

def work(path):
    with CheckpointStore(path) as store:
        store.commit("s", 5, begun=10, cursor="k5")
        store.commit("s", 10, begun=15, cursor="k10")
        store.forget("s")

def killed(step, path):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] != 0
    def count(frame, event, called):
        nonlocal step
        if event in ("c_call", "c_return") and (
            called.__module__ == "posix" or isinstance(called.__self__, (sqlite3.Connection, sqlite3.Cursor))
        ):
            step -= 1
            if step < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    try:
        sys.setprofile(count)
        work(path)
    finally:
        os._exit(0)

step = 0
while killed(step, f"{sys.argv[1]}-{step}"):
    try:
        with CheckpointStore(f"{sys.argv[1]}-{step}") as store:
            print(store.progress("s") and store.progress("s").done)
    except CheckpointError as error:
        print(error)
    step += 1
"""


@pytest.mark.guarantee(87, 88)
def test_a_process_killed_at_any_step_leaves_the_old_state_or_the_new(path: Path) -> None:
    """Promise: SIGKILL before and after each call to SQLite or the system that opening, commits and closing make: never an
    error, never a mixture."""
    found = python(STEPS, path).stdout.splitlines()
    assert len(found) > 100
    changes = [now for before, now in zip(["", *found], found, strict=False) if now != before]
    assert changes == ["None", "5", "10", "None"]


KILLED_OPEN = """
import os, signal, sys
from stormproof import CheckpointStore
store = CheckpointStore(sys.argv[1])
for done in range(0, 50, 10):
    store.commit("list", done, begun=done + 10, cursor=f"k{done}", fingerprint="v1")
os.kill(os.getpid(), signal.SIGKILL)
"""
LAST = "commit('list', 40, begun=50, fingerprint='v1', cursor='k40')"
FRAME = 24 + 4096  # of SQLite's log, after a header of 32 bytes


@pytest.fixture
def killed(path: Path) -> tuple[Path, Path]:
    """The two files of a store whose holder died: the five commits are in the log."""
    python(KILLED_OPEN, path)
    return path, Path(f"{path}-wal")


def refusal(path: Path) -> str:
    """What a second attempt to open says, which must be what the first one says."""
    said = []
    for _ in range(2):
        with pytest.raises(CheckpointError) as caught:
            CheckpointStore(path)
        said.append(str(caught.value))
    assert said[0] == said[1]
    return said[0]


@pytest.mark.guarantee(94)
def test_a_store_whose_holder_died_is_opened_with_its_last_checkpoint(killed: tuple[Path, Path]) -> None:
    """Promise: nothing is missing of what had been committed."""
    with CheckpointStore(killed[0]) as store:
        assert store.progress("list") == Progress(done=40, begun=50, fingerprint="v1", cursor="k40")


@pytest.mark.guarantee(94)
@pytest.mark.parametrize(("left", "told"), [(None, False), (0, False), (50, False), (20_000, True), (4_000_000, True)])
def test_a_log_that_is_lost_or_cut_short_is_noticed(killed: tuple[Path, Path], left: int | None, told: bool) -> None:
    """Promise: the file without its log is not taken for a store with less progress, also not the second time."""
    path, log = killed
    if left is None:
        log.unlink()
    else:
        os.truncate(log, left)
    said = refusal(path)
    assert "progress.db is damaged (progress.db-wal, with what was committed last, is missing or cut short)" in said
    assert ("as calls for a new store: commit('list', " in said) is told
    assert said.endswith("; no checkpoint can be read in it") is not told


@pytest.mark.guarantee(94)
@pytest.mark.parametrize("frame", range(5))
def test_damage_in_the_middle_of_the_log_is_noticed(killed: tuple[Path, Path], frame: int) -> None:
    """Promise: SQLite would silently go back to before the damage; we say so, with the last checkpoint."""
    path, log = killed
    data = bytearray(log.read_bytes())
    data[32 + frame * FRAME + 24 + 50] ^= 0xFF
    log.write_bytes(data)
    said = refusal(path)
    assert "progress.db is damaged (its log has lost what was committed between number " in said
    assert said.endswith(f"; the last checkpoints that can still be read, as calls for a new store: {LAST}")


@pytest.mark.guarantee(91, 94)
def test_after_a_torn_last_commit_what_it_let_begin_is_marked(killed: tuple[Path, Path]) -> None:
    """Promise: the last good checkpoint stands, and what the lost one may have let begin is begun, however often opened."""
    path, log = killed
    data = bytearray(log.read_bytes())
    data[32 + 5 * FRAME + 24 + 50] ^= 0xFF
    log.write_bytes(data)
    for _ in range(2):
        with CheckpointStore(path) as store:
            assert store.progress("list") == Progress(done=30, begun=50, fingerprint="v1", cursor="k30")


@pytest.mark.guarantee(94)
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda file: b"x" * len(file), "is not an SQLite file, or its beginning is damaged"),
        (
            lambda file: file[:20] + b"x" * 80 + file[100:],
            "is not an SQLite file, or its beginning is damaged|is damaged",
        ),
        (lambda file: file[:3000], "is damaged"),
        (lambda _: b"", "is empty, as no store ever is: restore it"),
        (lambda _: None, "is missing, but .*-wal with what was committed last is there: put it back"),
    ],
)
def test_damage_of_the_file_is_told_with_what_the_log_has(killed: tuple[Path, Path], spoil: object, says: str) -> None:
    """Promise: whatever happened to the file, the last checkpoint in its log is told, also the second time."""
    path, _ = killed
    left = spoil(path.read_bytes())  # type: ignore[operator]
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    said = refusal(path)
    assert re.search(says, said)
    assert said.endswith(f"as calls for a new store: {LAST}")


def two(path: Path) -> bytes:
    """A closed store of a batch and a stream."""
    with CheckpointStore(path) as store:
        store.commit("nightly", 500, begun=600)
        store.commit("list", 700, begun=800, cursor=b"k\xff", fingerprint="v1")
        store.commit("ended", 3, cursor=3, finished=True)
        store.commit("old", 9)
        store.forget("old")
    return path.read_bytes()


@pytest.mark.guarantee(94)
def test_what_can_still_be_read_can_be_put_into_a_new_store(path: Path, tmp_path: Path) -> None:
    """Promise: of three, one is damaged; the other two are told as calls, which do what they say. A forgotten one is not."""
    whole = two(path)
    path.write_bytes(whole.replace(b"nightly", b"nightIy"))
    said = refusal(path)
    assert "is damaged (wrong checksum of 'night" in said or "is damaged (row" in said
    assert "nightly" not in said.partition("; the last checkpoints")[2]
    with CheckpointStore(tmp_path / "new.db") as store:
        for call in re.findall(r"commit\(.*?\)", said.partition("as calls for a new store: ")[2]):
            eval(f"store.{call}", {"store": store})
        assert store.progress("list") == Progress(done=700, begun=800, cursor=b"k\xff", fingerprint="v1")
        assert store.progress("ended") == Progress(done=3, begun=3, cursor=3, finished=True)
        assert [store.progress(name) for name in ("nightly", "old")] == [None, None]


@pytest.mark.guarantee(94)
def test_the_last_record_of_a_name_is_told_and_few_names(path: Path) -> None:
    """Promise: of 40 checkpoints in each of 12 batches, the last ones of ten, and how many more there are."""
    with CheckpointStore(path) as store:
        for done in range(1, 41):
            for name in range(12):
                store.commit(f"b{name}", done)
    path.write_bytes(b"x" * 100 + path.read_bytes()[100:])
    said = refusal(path)
    assert len(re.findall(r"commit\('b\d+', 40\)", said)) == 10
    assert said.endswith(" and 2 more")


@pytest.mark.guarantee(94)
@pytest.mark.parametrize("content", [b"to whom it may concern " * 50, ["CREATE TABLE mine (x)"]])
def test_where_nothing_can_be_read_the_message_says_so(path: Path, content: bytes | list[str]) -> None:
    """Promise: somebody else's file holds no checkpoint, and that is said."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        sqlite_file(path, *content)
    assert refusal(path).endswith("; no checkpoint can be read in it")
