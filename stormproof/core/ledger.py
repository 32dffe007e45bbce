"""What the disk must say of a run over a batch's items or a stream's messages, and when it must say it.

The law is that of a write-ahead log. Before an item is handed out, the disk already says that it may have been; only
when it has been taken does the disk say that it is done. So nothing is lost, at most `every` items come again after an
interruption, and each of those is marked. Exactly once is not promised and cannot be, from here: a server or consumer
that remembers the keys makes it so. Who writes to the disk, and how, is decided elsewhere (stormproof.checkpoint_store).

Of each item a run tells the ledger three things, in this order:

    came      it is there                  answer: what must be on disk before it is handed out, None for nothing
    hand_out  it is worked on, or given    answer: its Mark
    taken     it is done                   answer: what must be on disk now, None for nothing

`whole` says that there are no more. `now` is what must be on disk at the end, however the run ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, TypeGuard

from stormproof.core.check import complain

#: Tells a message of a stream from all others, so that what comes after it can be asked for.
Cursor: TypeAlias = str | bytes | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far work is: the items before `done` are done, those from there to before `begun` may be.

    fingerprint  the text that the work was begun with.
    cursor       of a stream: the last message that is done; None before there is one, and for a batch.
    finished     the stream came to its end. A batch knows its length, and needs no such word.
    """

    done: int
    begun: int
    fingerprint: str = ""
    cursor: Cursor | None = None
    finished: bool = False

    def __post_init__(self) -> None:
        problems = []
        if not _whole(self.done) or not 0 <= self.done < 2**62:
            problems.append(f"done must be a whole number of items, from 0 to 2**62 - 1; got {self.done!r}")
        elif not _whole(self.begun) or not self.done <= self.begun < 2**63:
            problems.append(f"begun must be a whole number, from done ({self.done}) to 2**63 - 1; got {self.begun!r}")
        if not _text(self.fingerprint):
            problems.append(f"fingerprint must be text, such as a digest of the items; got {self.fingerprint!r}")
        if self.cursor is not None:
            problems += bad_cursor(self.cursor)
        if not isinstance(self.finished, bool):
            problems.append(f"finished must be True or False; got {self.finished!r}")
        complain(self, problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What comes with one item: its `index` in the batch or stream, from 0, and a `key`, the same in every run.

    `repeat` is whether an earlier run may have done the item, or handed out the message; False: surely none has.
    """

    index: int
    key: str
    repeat: bool

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The same as gRPC metadata, for the `metadata=` of a stub's call."""
        key = ("idempotency-key", self.key)
        return (key, ("stormproof-repeat", "1")) if self.repeat else (key,)


class Ledger:
    """The books of one run of the work `name`, which has come as far as `was`; a checkpoint comes after `every` items."""

    def __init__(self, was: Progress, *, name: str, every: int) -> None:
        self.was = was
        self._name = name
        self._every = every
        self._done = was.done
        self._begun = was.begun
        self._cursor = was.cursor
        self._in_hand: Cursor | None = None
        self._finished = False

    @property
    def now(self) -> Progress:
        """What is true now, and so what must be on disk if the run ends."""
        return self._progress(self._begun)

    def came(self, cursor: Cursor | None = None) -> Progress | None:
        """A further item is there, with its `cursor` if it is a stream's message."""
        self._in_hand = cursor
        # Not before there is an item: work that is finished has nothing to begin.
        return self._checkpoint() if self._done == self.was.done else None

    def hand_out(self) -> Mark:
        """The item that came is worked on, or given to whoever reads."""
        self._begun = max(self._begun, self._done + 1)
        return Mark(index=self._done, key=f"{self._name}/{self._done}", repeat=self._done < self.was.begun)

    def taken(self) -> Progress | None:
        """The item is done: its result was taken, or the next message asked for."""
        self._done += 1
        self._cursor = self._in_hand
        return self._checkpoint() if (self._done - self.was.done) % self._every == 0 else None

    def whole(self, *, finished: bool = False) -> None:
        """There are no more items, so nothing is begun that is not done; `finished`: nor will there be any later."""
        self._begun = self._done
        self._finished = finished

    def _checkpoint(self) -> Progress:
        """Says that the next `every` items may begin; those that a dead run may have begun stay so."""
        return self._progress(max(self.was.begun, self._done + self._every))

    def _progress(self, begun: int) -> Progress:
        return Progress(
            done=self._done,
            begun=begun,
            fingerprint=self.was.fingerprint,
            cursor=self._cursor,
            finished=self._finished,
        )


def bad_cursor(cursor: object) -> list[str]:
    """What is wrong with `cursor`, as one that a store can keep; empty if nothing is."""
    if isinstance(cursor, bytes) or _text(cursor) or (_whole(cursor) and -(2**63) <= cursor < 2**64):
        return []
    return [f"cursor must be text, bytes or a whole number from -2**63 to 2**64 - 1, to be kept; got {cursor!r}"]


def bad_name(name: object) -> list[str]:
    """What is wrong with the name of a batch or a stream; empty if nothing is."""
    good = isinstance(name, str) and 1 <= len(name) <= 200 and name.isascii() and name.isprintable()
    if good and name == str(name).strip():
        return []
    return [
        f"name must be 1 to 200 printable ASCII characters, without spaces at its ends, "
        f"because it travels in gRPC metadata; got {name!r}"
    ]


def bad_every(every: object) -> list[str]:
    """What is wrong with the distance of two checkpoints; empty if nothing is."""
    if _whole(every) and 1 <= every <= 10**9:
        return []
    return [f"every must be a whole number of items, from 1 to 1000000000; got {every!r}"]


def _whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(value: object) -> TypeGuard[str]:
    """Whether it is text that can be written: half a surrogate pair cannot."""
    return isinstance(value, str) and value == value.encode(errors="replace").decode()
