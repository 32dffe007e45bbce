"""Stores of outcomes: bounded in number and time; the one on disk survives SIGKILL, finds damage and has one holder."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from stormproof.core.outcome import Code
from stormproof.server import MemoryOutcomes, Outcomes, OutcomesError, Record, SqliteOutcomes

DONE = Record(digest=b"d", code=Code.OK, reply=b"\x00reply")
FAILED = Record(
    digest=b"e", code=Code.NOT_FOUND, details="no such thing", trailing=(("why", "none"), ("more-bin", b"\x00\xff"))
)
ROOT = Path(__file__).parents[3]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["memory", "sqlite"])
def make(request, tmp_path):
    """Makes a store with bounds and a clock of one's own."""
    stores = []

    def build(**bounds):
        store = MemoryOutcomes(**bounds) if request.param == "memory" else SqliteOutcomes(tmp_path / "o.db", **bounds)
        stores.append(store)
        return store

    yield build
    for store in stores:
        getattr(store, "close", lambda: None)()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "outcomes.db"


def test_what_was_kept_is_found_whole(make):
    """Reply, code, details and trailing metadata of both kinds; what was not kept is not there."""
    store = make()
    assert isinstance(store, Outcomes)
    store.end("a", DONE)
    store.end("b", FAILED)
    store.end("c", None)
    assert [store.begin(key) for key in "abc"] == [DONE, FAILED, None]


def test_outcomes_expire(make):
    """ttl=10: there after 9.9 s, gone after 10."""
    clock = Clock()
    store = make(ttl=10.0, clock=clock)
    store.end("a", DONE)
    clock.now += 9.9
    assert store.begin("a") == DONE
    clock.now += 0.1
    assert store.begin("a") is None
    store.end("a", FAILED)
    assert store.begin("a") == FAILED
    assert store.dropped == 0


def test_the_number_is_bounded_and_what_had_to_go_is_counted(make):
    """Guarantee 102: of 150 outcomes the 100 latest are there, and `dropped` says 50."""
    store = make(capacity=100)
    for number in range(150):
        store.end(str(number), DONE)
    assert [number for number in range(150) if store.begin(str(number))] == list(range(50, 150))
    assert store.dropped == 50


def test_bad_bounds_are_told_together(path):
    """And no file is made."""
    for build in (MemoryOutcomes, lambda **bounds: SqliteOutcomes(path, **bounds)):
        with pytest.raises(ValueError, match="capacity must be a whole number.*; ttl must be"):
            build(capacity=0, ttl=0)
    assert not path.exists()


def test_a_file_keeps_its_outcomes_over_a_restart(path):
    """Closed and opened again: all are there, and the clock went on."""
    with SqliteOutcomes(path) as store:
        store.end("a", DONE)
    with SqliteOutcomes(path) as store:
        assert store.begin("a") == DONE


@pytest.mark.guarantee(88)
def test_it_is_synced_to_the_disk_in_wal_mode(path):
    """Write-ahead log, and synchronous FULL (2): what `end` returned from survives loss of power."""
    with SqliteOutcomes(path) as store:
        ask = store._file.connection.execute
        assert [ask(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")] == ["wal", 2]


WRITER = """
import sys
from stormproof.server import Record, SqliteOutcomes
store = SqliteOutcomes(sys.argv[1])
for number in range(10**9):
    store.end(str(number), Record(digest=b"d", code=0, reply=str(number).encode()))
    print(number, flush=True)
"""


@pytest.mark.guarantee(87, 88)
def test_what_was_kept_survives_sigkill(path):
    """Guarantee 94: a writer is killed in the middle; every outcome that it was done with is there, and the file opens."""
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        said = [int(writer.stdout.readline()) for _ in range(40)]
        writer.send_signal(signal.SIGKILL)
        said += [int(line) for line in writer.communicate()[0].splitlines() if line.strip()]
        with SqliteOutcomes(path) as store:
            assert all(store.begin(str(number)).reply == str(number).encode() for number in said)


@pytest.mark.guarantee(94)
def test_a_torn_last_commit_is_left_out_and_the_ones_before_stand(path, tmp_path):
    """Guarantee 94: of the last commit any part reached the disk: the first outcome is there, the second is not, no mixture."""
    log, torn = Path(f"{path}-wal"), tmp_path / "torn.db"
    with SqliteOutcomes(path) as store:
        store.end("a", DONE)
        before = log.read_bytes()
        store.end("b", FAILED)
        after = log.read_bytes()
        written = [place for place in range(100_000) if before[place] != after[place]]
        for place in (written[1], written[100], written[-100], written[-1]):
            shutil.copy(path, torn)
            Path(f"{torn}-wal").write_bytes(after[:place] + before[place:])
            with SqliteOutcomes(torn) as found:
                assert [found.begin("a"), found.begin("b")] == [DONE, None]


@pytest.mark.guarantee(94)
@pytest.mark.parametrize("left", [0, 100, 50_000])
def test_a_log_that_was_cut_short_is_not_passed_over(path, tmp_path, left):
    """Without its whole log a file that was open is refused: outcomes whose replies were seen would be missing."""
    lost = tmp_path / "lost.db"
    with SqliteOutcomes(path) as store:
        store.end("a", DONE)
        shutil.copy(path, lost)
        Path(f"{lost}-wal").write_bytes(Path(f"{path}-wal").read_bytes()[:left])
    for _ in range(2):
        with pytest.raises(OutcomesError, match="-wal, with what was committed last, is missing or cut short"):
            SqliteOutcomes(lost)


@pytest.mark.guarantee(94)
def test_a_flipped_bit_is_found_at_opening_and_while_running(path):
    """Guarantee 94: by the checksum of each outcome; nothing is repeated that was never said, and the file stays."""
    with SqliteOutcomes(path) as store:
        store.end("a", DONE)
        store._file.connection.execute("UPDATE outcomes SET record = CAST(replace(record, 'reply', 'rumor') AS BLOB)")
        with pytest.raises(
            OutcomesError, match=r"outcomes\.db is damaged \(wrong checksum of the outcome of a\): restore it"
        ):
            store.begin("a")
    before = path.read_bytes()
    with pytest.raises(OutcomesError, match="wrong checksum of the outcome of a"):
        SqliteOutcomes(path)
    assert path.read_bytes() == before


@pytest.mark.guarantee(94)
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty, as no store ever is: restore it"),
        (b"Dear diary, " * 500, "is not an SQLite file, or its beginning is damaged"),
        ("CREATE TABLE theirs (x)", "is an SQLite file of another program; give another path, it stays as it is"),
        ("PRAGMA application_id = 0x5374506F; PRAGMA user_version = 9", "has format 9, this stormproof knows 1"),
    ],
)
def test_a_file_that_is_not_a_store_is_refused_and_left_alone(path, content, says):
    """Empty, no database, somebody else's, or a newer format: an error that says so, and not a byte is changed."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with sqlite3.connect(path) as connection:
            connection.executescript(content)
        connection.close()
    before = path.read_bytes()
    with pytest.raises(OutcomesError, match=says):
        SqliteOutcomes(path)
    assert path.read_bytes() == before


@pytest.mark.guarantee(94)
def test_a_store_whose_file_is_gone_but_not_its_log_is_not_begun_anew(path):
    """Its last outcomes are in the log."""
    Path(f"{path}-wal").write_bytes(b"outcomes")
    with pytest.raises(
        OutcomesError, match=r"outcomes\.db is missing, but .*-wal with what was committed last is there: put it back"
    ):
        SqliteOutcomes(path)


@pytest.mark.guarantee(95)
def test_of_two_exactly_one_holds_the_store(path):
    """Guarantee 95: a second one is refused, in this process and in another, and can have it when the first lets go."""
    another = f"from stormproof.server import SqliteOutcomes; SqliteOutcomes({str(path)!r})"
    with SqliteOutcomes(path):
        with pytest.raises(
            OutcomesError, match="is held by somebody else, still after 0.5 s; stop that one, or use another path"
        ):
            SqliteOutcomes(path)
        done = subprocess.run(
            [sys.executable, "-c", another],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert "is held by somebody else" in done.stderr
    SqliteOutcomes(path).close()


def test_a_closed_store_and_a_missing_folder_say_so(path):
    """Closing twice is fine, using it is not; a folder is not made."""
    store = SqliteOutcomes(path)
    store.close()
    store.close()
    with pytest.raises(OutcomesError, match="is closed; keep it open for as long as it is needed"):
        store.begin("a")
    with pytest.raises(OutcomesError, match="cannot be opened; is its folder there and writable"):
        SqliteOutcomes(path / "nowhere" / "o.db")


def test_a_full_disk_is_told_and_nothing_is_half_kept(path):
    """The commit fails: an error, and the outcome is not there. (A limit on the file's pages plays the disk.)"""
    with SqliteOutcomes(path) as store:
        pages = store._file.connection.execute("PRAGMA page_count").fetchone()[0]
        store._file.connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OutcomesError, match="cannot be used: database or disk is full; what was committed stands"):
            store.end("a", Record(digest=b"d", code=Code.OK, reply=bytes(100_000)))
        assert store.begin("a") is None
        store.end("b", DONE)
        assert store.begin("b") == DONE
