"""One SQLite file that a process holds alone, and whose commits survive SIGKILL and loss of power.

Decides how such a file is made, checked, held and given back, in the way SQLite's makers call durable (WAL, synchronous
FULL); what is in it is its owner's. A file that is damaged, without its whole log, of a newer format or somebody else's
is refused. It is never begun anew, and what can still be read stays in it and its log.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

#: Seconds that a second opener waits for a holder that is just dying.
WAIT = 0.5
#: Bytes that the log has at least while the file is open, so that one cut short is known as such. SQLite begins it again
#: after 1000 pages, which takes a little less. Most of it is a hole, and takes no room on the disk.
LOG = 1 << 22
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of file, and how its troubles are told.

    application_id  in the file's header: tells our files from other people's SQLite files.
    version         of the format; a newer one is refused, not guessed at.
    schema          SQL that makes its tables.
    error, in_use   what is raised when the file cannot be used; when somebody else holds it.
    anew            what it would mean to begin anew.
    salvage         says what can still be read in a file that is refused; called with its path.
    """

    application_id: int
    version: int
    schema: str
    error: type[Exception]
    in_use: type[Exception]
    anew: str
    salvage: Callable[[Path], str] = lambda _: ""


class DurableFile:
    """The file `path`, which is made if it is not there; its folder must exist.

    `read(connection, log)` takes in what the file holds, and returns what is wrong with it, None if nothing is; `log` is
    FILE-wal as bytes. Threads may share it, processes may not: a child made by a bare `os.fork` must leave by
    `os._exit`, or SQLite tidies its parent's files away.
    """

    def __init__(
        self, path: str | os.PathLike[str], kind: Kind, read: Callable[[sqlite3.Connection, bytes], str | None]
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise ValueError(f"path must name a file, such as 'progress.db'; got {path!r}")
        self.path = Path(path).resolve()
        self._log = Path(f"{self.path}-wal")
        self._kind = kind
        self._mutex = Lock()
        self._process = os.getpid()
        self._closed = False
        with self._one_opener():
            try:
                self.connection = self._open(read)
            except (sqlite3.Error, UnicodeDecodeError) as error:
                raise self._meaning(error) from error
            except OSError as error:
                raise self._unusable(error) from error

    def check(self) -> None:
        """Raises if it is not held by this process. Waits for nobody."""
        if os.getpid() != self._process:
            raise self._kind.error(f"{self.path} was opened by process {self._process}; open it after the fork")
        if self._closed:
            raise self._kind.error(f"{self.path} is closed; keep it open for as long as it is needed")

    @contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time. What SQLite complains of is raised as an error of the file's kind."""
        self.check()
        with self._mutex:
            self.check()
            try:
                yield self.connection
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def damage(self, found: object) -> str:
        """What to say of it, and what to do, after the file's path."""
        return f"is damaged ({found}): restore it, or move it and {self._log} away to begin anew, {self._kind.anew}"

    def close(self) -> None:
        """Frees the file. Closing twice is fine; any other use afterwards is an error."""
        if os.getpid() == self._process:
            with self._mutex:
                if not self._closed:
                    # First all is brought home, so that the word finds room in the log, however full the disk is.
                    with suppress(sqlite3.Error):
                        self.connection.execute("PRAGMA wal_checkpoint(FULL)")
                        self.connection.execute(f"PRAGMA user_version = {self._kind.version}")
                    self.connection.close()
                    self._closed = True

    @contextmanager
    def _one_opener(self) -> Iterator[None]:
        # Without this, two that open at the same moment both get SQLite's shared lock, and each waits in vain for
        # the other to let go. It must not be a lock on the file itself: a process that closes any handle of a file
        # loses all its POSIX locks there, and those are SQLite's. They are what holds the file, and not this one,
        # because a forked child does not inherit them: the holder's death frees the file at once.
        try:
            handle = os.open(f"{self.path}-lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise self._kind.error(
                f"{self.path} cannot be opened; is its folder there and writable? ({error})"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise self._kind.in_use(
                f"{self.path} is just being opened by somebody else; it has one holder at a time"
            ) from None
        finally:
            os.close(handle)

    def _open(self, read: Callable[[sqlite3.Connection, bytes], str | None]) -> sqlite3.Connection:
        if not self.path.exists():
            self._create()
        elif self.path.stat().st_size == 0:
            raise self._refused("is empty, as no store ever is: restore it, or remove it to begin anew")
        uri = f"{self.path.as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        log = b""
        try:
            try:
                connection.execute("BEGIN EXCLUSIVE")
                connection.execute("COMMIT")
            finally:
                log = self._log.read_bytes() if self._log.exists() else b""
            was_open = self._check(connection, log)
            if found := read(connection, log):
                raise self._damaged(found)
            connection.execute("PRAGMA journal_mode = WAL")
            # NORMAL would do against SIGKILL; but in WAL mode it leaves out the fsync of each commit, so that loss of
            # power could take back commits that have returned.
            connection.execute("PRAGMA synchronous = FULL")
            if not was_open:
                self._say_open(connection)
        except BaseException as error:
            connection.close()
            if log and not self._log.exists() and _code(error) not in _BUSY:
                self._log.write_bytes(log)  # SQLite has tidied it away; it may be all that can still be read
            raise
        return connection

    def _say_open(self, connection: sqlite3.Connection) -> None:
        # In the file itself, and only once there is a log, of its full size: from now on the two belong together.
        connection.execute("SELECT * FROM sqlite_schema")
        if self._log.stat().st_size < LOG:
            os.truncate(self._log, LOG)
        connection.execute(f"PRAGMA user_version = {-self._kind.version}")
        connection.execute("PRAGMA wal_checkpoint(FULL)")

    def _check(self, connection: sqlite3.Connection, log: bytes) -> bool:
        """Whether it was open when its last holder died. Raises if it is not a whole file of this kind."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        was_open, version, known = version < 0, abs(version), self._kind.version
        if application != self._kind.application_id:
            raise self._refused("is an SQLite file of another program; give another path, it stays as it is")
        if version > known:
            raise self._refused(f"has format {version}, this stormproof knows {known}; use the newer one that wrote it")
        if was_open and len(log) < LOG:
            raise self._damaged(f"{self._log.name}, with what was committed last, is missing or cut short")
        found = "unknown format" if version < known else connection.execute("PRAGMA quick_check").fetchone()[0]
        if found != "ok":
            raise self._damaged(found)
        return bool(was_open)

    def _create(self) -> None:
        # Made beside and renamed: a file that is there at all is whole, so an empty one is damage and no beginning.
        if self._log.exists():
            raise self._refused(
                f"is missing, but {self._log} with what was committed last is there: put it back, "
                f"or remove that one too to begin anew"
            )
        new = Path(f"{self.path}-new")
        new.unlink(missing_ok=True)
        with closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(
                f"BEGIN; {self._kind.schema}; PRAGMA application_id = {self._kind.application_id}; "
                f"PRAGMA user_version = {self._kind.version}; COMMIT;"
            )
        new.rename(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _meaning(self, error: Exception) -> Exception:
        """What it means that the file cannot be opened."""
        code = _code(error)
        if code in _BUSY:
            return self._kind.in_use(
                f"{self.path} is held by somebody else, still after {WAIT} s; stop that one, or use another path"
            )
        if code == sqlite3.SQLITE_NOTADB:
            return self._refused("is not an SQLite file, or its beginning is damaged; use another path")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR):
            return self._damaged(error)
        return self._unusable(error)

    def _unusable(self, error: Exception) -> Exception:
        return self._kind.error(
            f"{self.path} cannot be used: {error}; what was committed stands, so mend that and run again"
        )

    def _damaged(self, found: object) -> Exception:
        return self._refused(self.damage(found))

    def _refused(self, why: str) -> Exception:
        return self._kind.error(f"{self.path} {why}{self._kind.salvage(self.path)}")


def _code(error: BaseException) -> int:
    # Damaged text (not UTF-8, in a row or in SQLite's own message) comes as an error without a code.
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)) & 0xFF
