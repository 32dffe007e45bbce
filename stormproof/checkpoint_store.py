"""Where progress is kept: of any number of batches and streams, in one file that survives SIGKILL and loss of power.

Decides what may follow what (progress never goes back, other work is never mixed in), and what can still be said of a
damaged file. What is committed, and when, is the ledger's affair (stormproof.core.ledger).
"""

from __future__ import annotations

import mmap
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Self

from stormproof.core.check import complain
from stormproof.core.ledger import Cursor, Progress, bad_name
from stormproof.durable import DurableFile, Kind
from stormproof.records import Record, decode, encode, found

#: "StPr" in the file's header.
APPLICATION_ID = 0x53745072
VERSION = 1
#: How many records the message about a damaged file names.
_TOLD = 10

_ALL = "SELECT CAST(name AS TEXT), CAST(record AS BLOB) FROM progress"
_INSERT = "INSERT INTO progress VALUES (?, ?)"
_UPDATE = "UPDATE progress SET record = ? WHERE name = ?"


class CheckpointError(Exception):
    """Progress cannot be read, kept or continued. Whoever runs the work must act; the message says how.

    It undoes nothing: the last checkpoint stands, and what was done since then will come again, marked.
    """


class StoreInUse(CheckpointError):
    """The file is open elsewhere: in another process, or twice in this one. Nothing was read or written."""


class CheckpointStore:
    """Progress of any number of batches and streams in one SQLite file, which is made if it is not there.

    `path` names the file; its folder must exist. FILE-wal beside it is part of it while it is open, so move
    or copy it closed; FILE-lock is empty and matters only during opening. One holder at a time: a second one
    gets StoreInUse, after half a second at most. The holder's death frees it at once. Threads may share a
    store, processes may not: a child made by a bare `os.fork` must leave by `os._exit`, or SQLite tidies its
    parent's files away.

    Raises CheckpointError for a file that is damaged, without its FILE-wal, of a newer format, or not one of ours.
    Such a file is never begun anew; what can still be read stays in it and its log, and the message holds the last
    checkpoints of that. A commit that has returned survives SIGKILL and loss of power.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._records: dict[str, Record] = {}
        self._last = 0
        self._running: set[str] = set()
        self._names = Lock()
        self._torn: tuple[str, Progress] | None = None
        self._file = DurableFile(path, _KIND, self._read)
        self.path = self._file.path
        if self._torn is not None:
            with self._file.use() as connection:
                self._write(connection, *self._torn)

    def progress(self, name: str) -> Progress | None:
        """How far the batch or stream `name` is; None if it never began."""
        self._file.check()
        return self._progress(name)

    def commit(
        self,
        name: str,
        done: int,
        *,
        begun: int | None = None,
        fingerprint: str = "",
        cursor: Cursor | None = None,
        finished: bool = False,
    ) -> None:
        """Says durably that the first `done` items are done, and that those before `begun` may be.

        `begun` None is the same as `done`: no further item was touched. `cursor` and `finished` are a stream's: its last
        message that is done, and whether it has ended. Returns when it is on disk. Raises CheckpointError, and changes
        nothing, if the work is further than `done`, if it was begun with another fingerprint, or if the disk refuses;
        ValueError for a bad argument.
        """
        if type(name) is not str or name not in self._records:
            complain("commit", bad_name(name))
        begun = done if begun is None else begun
        self._keep(name, Progress(done=done, begun=begun, fingerprint=fingerprint, cursor=cursor, finished=finished))

    def forget(self, name: str) -> None:
        """Drops the batch or stream `name`, if it is there, so that it can begin anew, with the same keys.

        A server that remembers keys takes the new run for a repeat: then choose a new name instead.
        Raises CheckpointError while it is running.
        """
        with self._alone(name), self._file.use() as connection:
            if self._progress(name) is not None:
                self._write(connection, name, None)

    def close(self) -> None:
        """Frees the file. Closing twice is fine; any other use afterwards is a CheckpointError."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keep(self, name: str, new: Progress) -> None:
        """Commits, if `new` is news."""
        with self._file.use() as connection:
            old = self._progress(name)
            if old is not None:
                check_same(name, old, new.fingerprint)
                if new.done < old.done:
                    raise CheckpointError(
                        f"{name!r} has {old.done} items done and cannot go back to {new.done}; "
                        f"forget({name!r}) begins it anew"
                    )
            if new != old:
                self._write(connection, name, new)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        self._file.check()
        with self._names:  # not the file's own lock, which may be waiting for the disk
            if name in self._running:
                raise CheckpointError(f"{name!r} is running in this process; wait for its end, or close its generator")
            self._running.add(name)
        try:
            yield
        finally:
            self._running.discard(name)

    def _progress(self, name: str) -> Progress | None:
        record = self._records.get(name)
        return None if record is None else record.progress

    def _write(self, connection: sqlite3.Connection, name: str, new: Progress | None) -> None:
        # A name that is forgotten keeps its row: numbers must go on, and it will hardly be the last of its name.
        record = Record(self._last + 1, name, new)
        if name in self._records:  # its row is there
            connection.execute(_UPDATE, (encode(record), name))
        else:
            connection.execute(_INSERT, (name, encode(record)))
        self._records[name], self._last = record, record.number

    def _read(self, connection: sqlite3.Connection, log: bytes) -> str | None:
        """Takes in all records; says what is wrong, if anything is."""
        for name, data in connection.execute(_ALL):
            record = decode(data)
            if record is None or record.name != name:
                return f"wrong checksum of {name!r}"
            self._records[name] = record
            self._last = max(self._last, record.number)
        # SQLite passes over all that follows the first damage in its log, without a word.
        for record in found(log):
            if record.number > self._last + 1:
                return f"its log has lost what was committed between number {self._last} and {record.number}"
            if record.number > self._last and record.progress is not None:
                self._torn = record.name, self._at_least(record.name, record.progress)
        return None

    def _at_least(self, name: str, torn: Progress) -> Progress:
        """A last commit that is not whole has probably not returned. If it has, what it let begin must be marked."""
        old = self._progress(name) or Progress(done=0, begun=0, fingerprint=torn.fingerprint)
        return replace(old, begun=max(old.begun, torn.begun)) if old.fingerprint == torn.fingerprint else old


def check_same(name: str, old: Progress, fingerprint: str) -> None:
    """Raises if the work `name` was begun with another fingerprint."""
    if old.fingerprint != fingerprint:
        raise CheckpointError(
            f"{name!r} was begun with fingerprint {old.fingerprint!r} and this is {fingerprint!r}: "
            f"the items or the work have changed; give them a name of their own, "
            f"or forget({name!r}) to begin at item 0"
        )


def _salvage(path: Path) -> str:
    """What can still be read of a file that is refused, and of its log."""
    last: dict[str, Record] = {}
    for file in (path, Path(f"{path}-wal")):
        if file.is_file() and file.stat().st_size:
            with file.open("rb") as whole, mmap.mmap(whole.fileno(), 0, access=mmap.ACCESS_READ) as data:
                for record in found(data):
                    if record.name not in last or last[record.name].number < record.number:
                        last[record.name] = record
    latest = sorted(last.values(), reverse=True, key=lambda record: record.number)
    there = [(record.name, record.progress) for record in latest if record.progress is not None]
    if not there:
        return "; no checkpoint can be read in it"
    told = ", ".join(_as_commit(name, progress) for name, progress in there[:_TOLD])
    more = f" and {len(there) - _TOLD} more" if len(there) > _TOLD else ""
    return f"; the last checkpoints that can still be read, as calls for a new store: {told}{more}"


def _as_commit(name: str, far: Progress) -> str:
    begun = f", begun={far.begun}" if far.begun != far.done else ""
    fingerprint = f", fingerprint={far.fingerprint!r}" if far.fingerprint else ""
    cursor = "" if far.cursor is None else f", cursor={far.cursor!r}"
    return f"commit({name!r}, {far.done}{begun}{fingerprint}{cursor}{', finished=True' if far.finished else ''})"


_KIND = Kind(
    application_id=APPLICATION_ID,
    version=VERSION,
    schema="CREATE TABLE progress (name TEXT PRIMARY KEY, record BLOB NOT NULL)",
    error=CheckpointError,
    in_use=StoreInUse,
    anew="which does all its work again, unmarked",
    salvage=_salvage,
)
