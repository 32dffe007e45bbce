"""Outcomes of calls with an idempotency key in one SQLite file: they survive the server's death.

The law: an outcome is on disk (WAL, synchronous FULL) before its reply leaves the server, so a reply that was seen is
repeated, even after SIGKILL or loss of power. What no store beside the work can promise: a server that dies after the
work and before the commit leaves no outcome, and the next call with the key does the work again. Where even that must
not be, the handler writes the key into its own database, in the transaction of the work itself.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Self

import msgspec

from stormproof.core.check import complain
from stormproof.core.outcome import Code
from stormproof.server.outcomes import DAY, Record, bounds

#: "StPo" in the file's header tells our files from other people's SQLite files.
APPLICATION_ID = 0x5374506F
#: Format of the file. Another one is refused, not guessed at.
VERSION = 1

_SCHEMA = f"""
BEGIN;
CREATE TABLE outcomes (
    seq INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, kept_at REAL NOT NULL, record BLOB NOT NULL, crc INTEGER NOT NULL
);
CREATE INDEX by_age ON outcomes (kept_at);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
COMMIT;
"""


class OutcomesError(Exception):
    """Outcomes cannot be read or kept. Whoever runs the server must act; the message says how.

    A call whose outcome cannot be read is not run, and one whose outcome cannot be kept is answered INTERNAL.
    """


class SqliteOutcomes:
    """Outcomes in the SQLite file `path`, which is made if it is not there; its folder must exist.

    capacity  how many are kept (default 100,000); the oldest goes first, and `dropped` counts those that went before
              their time: their keys would run again.
    ttl       seconds that each is kept (default a day).
    clock     seconds since 1970, since it must go on over a restart. If it jumps ahead, outcomes expire early.

    One holder at a time: a second one, in this process or another, gets OutcomesError at once, and the holder's death
    frees the file. A holder that sleeps keeps it, so nobody writes behind its back. FILE-wal beside it is part of it;
    FILE-lock is empty. Each outcome has a checksum. A file that is damaged, of another format or not one of ours is an
    OutcomesError at opening, and stays as it is; a last commit that was torn by a crash is left out, as SQLite does, and
    its reply never left. Not for use across a fork.
    """

    blocking = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        capacity: int = 100_000,
        ttl: float = DAY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        complain("SqliteOutcomes", bounds(capacity, ttl))
        self.path = Path(path).resolve()
        self._capacity = capacity
        self._ttl = ttl
        self._clock = clock
        self._mutex = Lock()
        self._process = os.getpid()
        self.dropped = 0
        self._held = _hold(self.path)
        try:
            self._connection: sqlite3.Connection | None = _open(self.path)
        except BaseException:
            os.close(self._held)
            raise

    def begin(self, key: str) -> Record | None:
        with self._mutex:
            question = "SELECT kept_at, CAST(record AS BLOB), crc FROM outcomes WHERE key = ?"
            try:
                row = self._usable().execute(question, (key,)).fetchone()
            except sqlite3.Error as error:
                raise OutcomesError(f"{self.path} cannot be read: {error}") from error
        if row is None or row[0] <= self._clock() - self._ttl:
            return None
        if row[2] != _crc(key, row[0], row[1]):
            raise _damaged(self.path, f"wrong checksum of the outcome of {key}")
        return _record(row[1])

    def end(self, key: str, record: Record | None) -> None:
        if record is None:
            return
        now, blob = self._clock(), msgspec.msgpack.encode(record)
        with self._mutex:
            connection = self._usable()
            try:
                with connection:  # one transaction, so one wait for the disk
                    connection.execute("BEGIN IMMEDIATE")
                    connection.execute("DELETE FROM outcomes WHERE kept_at <= ? OR key = ?", (now - self._ttl, key))
                    add = "INSERT INTO outcomes (key, kept_at, record, crc) VALUES (?, ?, ?, ?)"
                    last = connection.execute(add, (key, now, blob, _crc(key, now, blob))).lastrowid or 0
                    gone = connection.execute("DELETE FROM outcomes WHERE seq <= ?", (last - self._capacity,))
                    self.dropped += gone.rowcount
            except sqlite3.Error as error:
                raise OutcomesError(f"{self.path} cannot keep an outcome: {error}; is its disk full?") from error

    def close(self) -> None:
        """Frees the file. Closing twice is fine; any other use afterwards is an OutcomesError."""
        with self._mutex:
            if self._connection is not None and os.getpid() == self._process:
                self._connection.close()
                os.close(self._held)
                self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _usable(self) -> sqlite3.Connection:
        if os.getpid() != self._process:
            raise OutcomesError(f"{self.path} was opened by process {self._process}; open it after the fork")
        if self._connection is None:
            raise OutcomesError(f"{self.path} is closed; keep it open for as long as its server runs")
        return self._connection


def _hold(path: Path) -> int:
    """Takes the one lock of the file; the kernel frees it when the last process that has it is gone."""
    try:
        handle = os.open(f"{path}-lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise OutcomesError(f"{path} cannot be opened; is its folder there and writable? ({error})") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise OutcomesError(f"{path} is held by somebody else; stop that one, or use another path") from None
    return handle


def _open(path: Path) -> sqlite3.Connection:
    if not path.exists():
        _create(path)
    elif path.stat().st_size == 0:
        raise _damaged(path, "it is empty, as no store ever is")
    uri = f"{path.as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        _check(path, connection)
        connection.execute("PRAGMA journal_mode = WAL")
        # NORMAL would do against SIGKILL; but in WAL mode it leaves out the fsync of each commit, so that loss of
        # power could take back an outcome whose reply was seen.
        connection.execute("PRAGMA synchronous = FULL")
    except (sqlite3.Error, UnicodeDecodeError) as error:
        connection.close()
        raise _damaged(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _create(path: Path) -> None:
    # Made beside and renamed: a store that is there at all is whole, so an empty file is damage and no beginning.
    if Path(f"{path}-wal").exists():
        raise OutcomesError(
            f"{path} is missing, but {path}-wal with outcomes of it is there: put it back, or remove both"
        )
    new = Path(f"{path}-new")
    new.unlink(missing_ok=True)
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.executescript(_SCHEMA)
    new.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check(path: Path, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise OutcomesError(f"{path} is an SQLite file of another program; give another path, it stays as it is")
    if version != VERSION:
        raise OutcomesError(f"{path} has format {version}, this stormproof knows {VERSION}; use the one that wrote it")
    found = connection.execute("PRAGMA quick_check").fetchone()[0]
    everything = "SELECT key, kept_at, CAST(record AS BLOB), crc FROM outcomes"
    for key, kept_at, record, crc in connection.execute(everything):
        if crc != _crc(key, kept_at, record):
            found = f"wrong checksum of the outcome of {key}"
    if found != "ok":
        raise _damaged(path, found)


def _record(blob: bytes) -> Record:
    fields = msgspec.msgpack.decode(blob)
    fields["code"] = Code(fields["code"])
    fields["trailing"] = tuple((name, value) for name, value in fields["trailing"])
    return Record(**fields)


def _crc(key: str, kept_at: float, record: bytes) -> int:
    # SQLite's quick_check looks at the structure of the file, not at the values in it.
    return zlib.crc32(record, zlib.crc32(f"{key}\0{kept_at!r}\0".encode()))


def _damaged(path: Path, found: object) -> OutcomesError:
    return OutcomesError(
        f"{path} is damaged ({found}): restore it, or move it and {path}-wal away to begin anew, and then a call whose "
        f"key it held is run again"
    )
