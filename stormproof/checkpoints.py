"""Durable progress: where a long batch of calls continues after a server's death or the client's own SIGKILL.

The law: before an item is worked on, the disk already says that it may have begun; only when its result has
been taken does the disk say that it is done. So nothing is lost, at most `every` items are done again after
an interruption, and each of those carries a mark by which a server can recognise it. Exactly once is not
promised and cannot be, from here: a server that remembers the keys makes it so. What is called, and when it
is retried, is decided elsewhere. The file is SQLite's, in the way its makers call durable (WAL, synchronous
FULL).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Seconds that a second opener waits for a holder that is just dying, before StoreInUse.
WAIT = 0.5
#: "StPr" in the file's header tells our files from other people's SQLite files.
APPLICATION_ID = 0x53745072
#: Format of the file. A newer one is refused, not guessed at.
VERSION = 1

_SCHEMA = f"""
BEGIN;
CREATE TABLE batches (
    name TEXT PRIMARY KEY, done INTEGER NOT NULL, begun INTEGER NOT NULL,
    fingerprint TEXT NOT NULL, crc INTEGER NOT NULL
) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
COMMIT;
"""
_UPSERT = """
INSERT INTO batches (name, done, begun, fingerprint, crc) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET done = excluded.done, begun = excluded.begun, crc = excluded.crc
"""


class CheckpointError(Exception):
    """Progress cannot be read, kept or continued. Whoever runs the batch must act; the message says how.

    It undoes nothing: the last checkpoint stands, and what was done since then will be done again, marked.
    """


class StoreInUse(CheckpointError):
    """The file is open elsewhere: in another process, or twice in this one. Nothing was read or written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a batch is: the items before `done` are done, those from there to before `begun` may be."""

    done: int
    begun: int
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What one item's call carries: its `index` in the batch, from 0, and a `key`, the same in every run.

    `repeat` is whether an earlier run may have done the item already; False means that surely none has.
    """

    index: int
    key: str
    repeat: bool

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The same as gRPC metadata, for the `metadata=` of a stub's call."""
        key = ("idempotency-key", self.key)
        return (key, ("stormproof-repeat", "1")) if self.repeat else (key,)


class CheckpointStore:
    """Progress of any number of batches in one SQLite file, which is made if it is not there.

    `path` names the file; its folder must exist. FILE-wal beside it is part of it while it is open, so move
    or copy it closed; FILE-lock is empty and matters only during opening. One holder at a time: a second one
    gets StoreInUse, after `WAIT` seconds at most. The holder's death frees it at once. Threads may share a
    store, processes may not: a child made by a bare `os.fork` must leave by `os._exit`, or SQLite tidies its
    parent's files away.

    Raises CheckpointError for a file that is damaged, of a newer format, or not one of ours. Such a file is
    left as it is, and never begun anew. A commit that has returned survives SIGKILL and loss of power.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).resolve()
        self._lock = Lock()
        self._process = os.getpid()
        self._running: set[str] = set()
        self._closed = False
        try:
            self._connection, self._batches = _open(self.path)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise _meaning(self.path, error) from error

    def progress(self, name: str) -> Progress | None:
        """How far the batch `name` is; None if it never began."""
        with self._lock:
            self._usable()
            return self._batches.get(name)

    def commit(self, name: str, done: int, *, begun: int | None = None, fingerprint: str = "") -> None:
        """Says durably that the first `done` items are done, and that those before `begun` may be.

        `begun` None is the same as `done`: no further item was touched. Returns when it is on disk. Raises
        CheckpointError, and changes nothing, if the batch is further than `done`, if it was begun with
        another fingerprint, or if the disk refuses; ValueError for a bad argument.
        """
        new = Progress(done=done, begun=done if begun is None else begun, fingerprint=fingerprint)
        _check(name, new)
        with self._lock:
            self._usable()
            old = self._batches.get(name)
            if old is not None:
                _check_follows(name, old, new)
            if new != old:
                self._write(_UPSERT, (name, new.done, new.begun, fingerprint, _crc(name, new)))
                self._batches[name] = new

    def forget(self, name: str) -> None:
        """Drops the batch `name`, if it is there, so that it can begin anew, with the same keys.

        A server that remembers keys takes the new run for a repeat: then choose a new name instead.
        Raises CheckpointError while the batch is running.
        """
        with self._lock:
            self._usable()
            self._check_idle(name)
            self._write("DELETE FROM batches WHERE name = ?", (name,))
            self._batches.pop(name, None)

    def close(self) -> None:
        """Frees the file. Closing twice is fine; any other use afterwards is a CheckpointError."""
        if os.getpid() == self._process:
            with self._lock:
                self._connection.close()
                self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _usable(self) -> None:
        if os.getpid() != self._process:
            raise CheckpointError(f"{self.path} was opened by process {self._process}; open it after the fork")
        if self._closed:
            raise CheckpointError(f"{self.path} is closed; keep it open for as long as its batches run")

    def _write(self, statement: str, values: tuple[str | int, ...]) -> None:
        try:
            self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise _meaning(self.path, error) from error

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        with self._lock:
            self._usable()
            self._check_idle(name)
            self._running.add(name)
        try:
            yield
        finally:
            self._running.discard(name)

    def _check_idle(self, name: str) -> None:
        if name in self._running:
            raise CheckpointError(
                f"batch {name!r} is running in this process; wait for its end, or close its generator"
            )


def checkpointed(
    items: Iterable[Item],
    work: Callable[[Item, Mark], Result],
    *,
    store: CheckpointStore,
    name: str,
    every: int = 100,
    fingerprint: str = "",
) -> Iterator[Result]:
    """Calls `work(item, mark)` for each of `items` in order, from the last checkpoint of the batch `name` on.

    Yields the results, each at least once over all runs: a result counts as taken when the next one is asked
    for, and a checkpoint covers it only after that. So a consumer that stops or dies with a result in hand
    gets it again: the next run repeats that item, marked. Results taken in earlier runs are not yielded
    again.

    Checkpoints are committed before the first item, then after `every` items, and however the run ends: all
    done, an exception (of `work` or `items`; it passes through), or a closed generator. After a SIGKILL at
    most `every` items are repeated, after any other end at most one. A finished batch does nothing when it is
    run again.

    `items` must be the same in every run: a sequence is continued by index, anything else is consumed up to
    there. `fingerprint` is any text that changes when the items or the work do, such as a digest; with
    another one than at its beginning a batch is refused. `name` is 1 to 200 printable ASCII characters: it
    travels in `Mark.metadata`.

    Raises ValueError at once for a bad argument. CheckpointError comes with the first `next`, if the batch
    cannot go on (also: it is running already), or later if the disk refuses.
    """
    _check(name, Progress(done=0, begun=0, fingerprint=fingerprint))
    if not isinstance(every, int) or isinstance(every, bool) or not 1 <= every <= 10**9:
        raise ValueError(f"every must be a whole number of items, from 1 to 1000000000; got {every!r}")
    if not isinstance(items, Iterable):
        raise ValueError(f"items must be something that can be iterated over; got {items!r}")
    if not callable(work):
        raise ValueError(f"work must be a function of (item, mark); got {work!r}")
    if not isinstance(store, CheckpointStore):
        raise ValueError(f"store must be a CheckpointStore, such as CheckpointStore('progress.db'); got {store!r}")
    return _run(items, work, store=store, name=name, every=every, fingerprint=fingerprint)


def _run(
    items: Iterable[Item],
    work: Callable[[Item, Mark], Result],
    *,
    store: CheckpointStore,
    name: str,
    every: int,
    fingerprint: str,
) -> Iterator[Result]:
    with store._alone(name):
        was = store.progress(name) or Progress(done=0, begun=0, fingerprint=fingerprint)
        _check_same(name, was, fingerprint)
        done, begun = was.done, was.begun

        def checkpoint() -> None:
            store.commit(name, done, begun=max(was.begun, done + every), fingerprint=fingerprint)

        try:
            for item in _after(done, items, name):
                if done == was.done:
                    checkpoint()  # not before there is an item: a finished batch has nothing to begin
                begun = max(begun, done + 1)
                yield work(item, Mark(index=done, key=f"{name}/{done}", repeat=done < was.begun))
                done += 1
                if (done - was.done) % every == 0:
                    checkpoint()
            begun = done
        finally:
            store.commit(name, done, begun=begun, fingerprint=fingerprint)


def _after(done: int, items: Iterable[Item], name: str) -> Iterator[Item]:
    rest: Iterator[Item]
    if isinstance(items, Sequence):
        there = min(done, len(items))
        rest = (items[index] for index in range(done, len(items)))
    else:
        rest = iter(items)
        there = sum(1 for _ in islice(rest, done))
    if there < done:
        raise CheckpointError(
            f"batch {name!r} has {done} items done, but there are only {there}: these are not its items; "
            f"give them a batch of their own name, or forget({name!r}) first"
        )
    return rest


def _check(name: str, new: Progress) -> None:
    good = isinstance(name, str) and 1 <= len(name) <= 200 and name.isascii() and name.isprintable()
    if not good or name != name.strip():
        raise ValueError(
            f"name must be 1 to 200 printable ASCII characters, without spaces at its ends, "
            f"because it travels in gRPC metadata; got {name!r}"
        )
    if not isinstance(new.done, int) or not 0 <= new.done < 2**62:
        raise ValueError(f"done must be a whole number of items, from 0 to 2**62 - 1; got {new.done!r}")
    if not isinstance(new.begun, int) or not new.done <= new.begun < 2**63:
        raise ValueError(f"begun must be a whole number, from done ({new.done}) to 2**63 - 1; got {new.begun!r}")
    if not isinstance(new.fingerprint, str):
        raise ValueError(f"fingerprint must be text, such as a digest of the items; got {new.fingerprint!r}")


def _check_same(name: str, old: Progress, fingerprint: str) -> None:
    if old.fingerprint != fingerprint:
        raise CheckpointError(
            f"batch {name!r} was begun with fingerprint {old.fingerprint!r} and this is {fingerprint!r}: "
            f"the items or the work have changed; give them a batch of their own name, "
            f"or forget({name!r}) to begin at item 0"
        )


def _check_follows(name: str, old: Progress, new: Progress) -> None:
    _check_same(name, old, new.fingerprint)
    if new.done < old.done:
        raise CheckpointError(
            f"batch {name!r} has {old.done} items done and cannot go back to {new.done}; "
            f"forget({name!r}) begins it anew"
        )


def _crc(name: str, progress: Progress) -> int:
    # SQLite's quick_check looks at the structure of the file, not at the values in it.
    return zlib.crc32(f"{name}\0{progress.done!r}\0{progress.begun!r}\0{progress.fingerprint}".encode())


def _open(path: Path) -> tuple[sqlite3.Connection, dict[str, Progress]]:
    with _one_opener(path):
        if not path.exists():
            _create(path)
        elif path.stat().st_size == 0:
            raise CheckpointError(f"{path} is empty, as no store ever is: restore it, or remove it to begin anew")
        uri = f"{path.as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False)
        try:
            # First the lock and a look: the file may turn out not to be ours.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
            batches = _read(path, connection)
            connection.execute("PRAGMA journal_mode = WAL")
            # NORMAL would do against SIGKILL; but in WAL mode it leaves out the fsync of each commit, so that
            # loss of power could take back commits that have returned.
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
    return connection, batches


@contextmanager
def _one_opener(path: Path) -> Iterator[None]:
    # Without this, two that open at the same moment both get SQLite's shared lock, and each waits in vain for
    # the other to let go. It must not be a lock on the store itself: a process that closes any handle of a
    # file loses all its POSIX locks there, and those are SQLite's.
    try:
        handle = os.open(f"{path}-lock", os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened; is its folder there and writable? ({error})") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise StoreInUse(f"{path} is just being opened by somebody else; it has one holder at a time") from None
    finally:
        os.close(handle)


def _create(path: Path) -> None:
    # Made beside and renamed: a store that is there at all is whole, so an empty file is damage and no
    # beginning.
    if Path(f"{path}-wal").exists():
        raise CheckpointError(
            f"{path} is missing, but {path}-wal with checkpoints of it is there: put it back, "
            f"or remove that one too to begin anew"
        )
    new = Path(f"{path}-new")
    new.unlink(missing_ok=True)
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
    new.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path, connection: sqlite3.Connection) -> dict[str, Progress]:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise CheckpointError(f"{path} is an SQLite file of another program; give another path, it stays as it is")
    if version > VERSION:
        raise CheckpointError(
            f"{path} has format {version}, this stormproof knows {VERSION}; use the newer one that wrote it"
        )
    found = "unknown format" if version < VERSION else connection.execute("PRAGMA quick_check").fetchone()[0]
    batches = {}
    for name, done, begun, fingerprint, crc in connection.execute("SELECT * FROM batches"):
        batches[name] = Progress(done=done, begun=begun, fingerprint=fingerprint)
        if crc != _crc(name, batches[name]):
            found = f"wrong checksum of batch {name!r}"
    if found != "ok":
        raise _damaged(path, found)
    return batches


def _meaning(path: Path, error: Exception) -> CheckpointError:
    # Damaged text (not UTF-8, in a row or in SQLite's own message) comes as an error without a code.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreInUse(f"{path} is held by somebody else, still after {WAIT} s; stop that one, or use another path")
    if code == sqlite3.SQLITE_NOTADB:
        return CheckpointError(f"{path} is not an SQLite file, or its beginning is damaged; use another path")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR):
        return _damaged(path, error)
    return CheckpointError(f"{path} cannot be used: {error}; the last checkpoint stands, so mend that and run again")


def _damaged(path: Path, found: object) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged ({found}): restore it, or move it and {path}-wal away to begin its batches anew, "
        f"which does all their items again, unmarked"
    )
