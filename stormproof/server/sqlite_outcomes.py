"""Outcomes of calls with an idempotency key in one SQLite file: they survive the server's death.

The law: an outcome is on disk (WAL, synchronous FULL) before its reply leaves the server, so a reply that was seen is
repeated, even after SIGKILL or loss of power. What no store beside the work can promise: a server that dies after the
work and before the commit leaves no outcome, and the next call with the key does the work again. Where even that must
not be, the handler writes the key into its own database, in the transaction of the work itself.
"""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from collections.abc import Callable
from typing import Self

import msgspec

from stormproof.core.check import complain
from stormproof.core.outcome import Code
from stormproof.durable import DurableFile, Kind
from stormproof.server.outcomes import DAY, Record, bounds

#: "StPo" in the file's header.
APPLICATION_ID = 0x5374506F
VERSION = 1

_SCHEMA = """
CREATE TABLE outcomes (
    seq INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, kept_at REAL NOT NULL, record BLOB NOT NULL, crc INTEGER NOT NULL
);
CREATE INDEX by_age ON outcomes (kept_at)
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

    One holder at a time: a second one, in this process or another, gets OutcomesError, after half a second at most, and
    the holder's death frees the file. A holder that sleeps keeps it, so nobody writes behind its back. FILE-wal beside it
    is part of it; FILE-lock is empty. Each outcome has a checksum. A file that is damaged, without its FILE-wal, of
    another format or not one of ours is an OutcomesError at opening, and stays as it is; a last commit that was torn by a
    crash is left out, as SQLite does, and its reply never left. Not for use across a fork.
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
        self._capacity = capacity
        self._ttl = ttl
        self._clock = clock
        self.dropped = 0
        self._file = DurableFile(path, _KIND, _check)
        self.path = self._file.path

    def begin(self, key: str) -> Record | None:
        question = "SELECT kept_at, CAST(record AS BLOB), crc FROM outcomes WHERE key = ?"
        with self._file.use() as connection:
            row = connection.execute(question, (key,)).fetchone()
        if row is None or row[0] <= self._clock() - self._ttl:
            return None
        if row[2] != _crc(key, row[0], row[1]):
            raise OutcomesError(f"{self.path} {self._file.damage(f'wrong checksum of the outcome of {key}')}")
        return _record(row[1])

    def end(self, key: str, record: Record | None) -> None:
        if record is None:
            return
        now, blob = self._clock(), msgspec.msgpack.encode(record)
        with self._file.use() as connection, connection:  # one transaction, so one wait for the disk
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM outcomes WHERE kept_at <= ? OR key = ?", (now - self._ttl, key))
            add = "INSERT INTO outcomes (key, kept_at, record, crc) VALUES (?, ?, ?, ?)"
            last = connection.execute(add, (key, now, blob, _crc(key, now, blob))).lastrowid or 0
            gone = connection.execute("DELETE FROM outcomes WHERE seq <= ?", (last - self._capacity,))
            self.dropped += gone.rowcount

    def close(self) -> None:
        """Frees the file. Closing twice is fine; any other use afterwards is an OutcomesError."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check(connection: sqlite3.Connection, log: bytes) -> str | None:  # noqa: ARG001
    """What is wrong with the outcomes in the file, if anything is."""
    for key, kept_at, record, crc in connection.execute("SELECT key, kept_at, CAST(record AS BLOB), crc FROM outcomes"):
        if crc != _crc(key, kept_at, record):
            return f"wrong checksum of the outcome of {key}"
    return None


def _record(blob: bytes) -> Record:
    fields = msgspec.msgpack.decode(blob)
    fields["code"] = Code(fields["code"])
    fields["trailing"] = tuple((name, value) for name, value in fields["trailing"])
    return Record(**fields)


def _crc(key: str, kept_at: float, record: bytes) -> int:
    # SQLite's quick_check looks at the structure of the file, not at the values in it.
    return zlib.crc32(record, zlib.crc32(f"{key}\0{kept_at!r}\0".encode()))


_KIND = Kind(
    application_id=APPLICATION_ID,
    version=VERSION,
    schema=_SCHEMA,
    error=OutcomesError,
    in_use=OutcomesError,
    anew="and then a call whose key it held is run again",
)
