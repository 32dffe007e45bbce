"""Long work that continues after a server's death or the client's own SIGKILL: batches of calls, and answer streams.

What is on disk when is the ledger's affair (stormproof.core.ledger), how it gets there the store's
(stormproof.checkpoint_store). Here is the order of things: ask for an item, commit, hand it out, wait until it is taken.
What is called, and when it is retried, is decided elsewhere. `stormproof.aio` has the streams of asyncio.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from stormproof.checkpoint_store import CheckpointError, CheckpointStore, check_same
from stormproof.core.check import complain, instance
from stormproof.core.ledger import Ledger, Mark, Progress, bad_cursor, bad_every, bad_name
from stormproof.core.policy import Checkpoint

Item = TypeVar("Item")
Result = TypeVar("Result")
Request = TypeVar("Request")
Message = TypeVar("Message")


def checkpointed(
    items: Iterable[Item],
    work: Callable[[Item, Mark], Result],
    *,
    store: CheckpointStore,
    name: str,
    every: int = 100,
    fingerprint: str = "",
) -> Generator[Result, None, None]:
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
    problems = _common(store, name, every, fingerprint)
    if not isinstance(items, Iterable):
        problems.append(f"items must be something that can be iterated over; got {items!r}")
    if not callable(work):
        problems.append(f"work must be a function of (item, mark); got {work!r}")
    complain("checkpointed", problems)
    return _batch(items, work, store=store, name=name, every=every, fingerprint=fingerprint)


def checkpointed_stream(
    call: Callable[[Request], Iterable[Message]],
    request: Request,
    *,
    checkpoint: Checkpoint,
    store: CheckpointStore,
    name: str,
    every: int = 100,
    fingerprint: str = "",
) -> Generator[tuple[Message, Mark], None, None]:
    """Reads the answers of `call(request)`, from the last checkpoint of the stream `name` on.

    `call` is the stub's method, or any function of one request that returns an iterator (`functools.partial` gives it
    metadata and more). A later run calls it with `checkpoint.resume(request, cursor)`, where the cursor is that of the
    last message taken. With the same `checkpoint` in the method's `Policy` the stream also outlives its server.

    Yields (message, Mark). `Mark.index` counts the messages of all runs from 0; `Mark.repeat` is whether an earlier run
    may have handed the message out. Each comes at least once, in order: a message counts as taken when the next one is
    asked for, and a checkpoint covers it only after that. So whoever must not act twice looks at the mark.

    Checkpoints are committed before the first message is handed out, then after `every` messages, and however the run
    ends: at the stream's end, with an error of `call`, `resume` or `cursor` (it passes through, and the next run goes on
    from there), or closed. After a SIGKILL at most `every` messages come again, after any other end at most one. A
    stream that has ended is not called again: it yields nothing.

    The stream must be the same in every run, and what `resume` asks for the rest of it: then nothing comes that the
    uncut one would not have. What limits it (a number of messages) must get smaller in `resume`, from what the cursor
    tells. `fingerprint` is any text that changes with the request; with another one than at its beginning a stream is
    refused. `name` is 1 to 200 printable ASCII characters, and no batch's.

    Raises ValueError at once for a bad argument, and where `cursor` gives something else than text, bytes or a whole
    number of 64 bits. CheckpointError as for `checkpointed`.
    """
    stream = Stream(call, request, checkpoint, store=store, name=name, every=every, fingerprint=fingerprint)
    return _stream(stream)


def _batch(
    items: Iterable[Item],
    work: Callable[[Item, Mark], Result],
    *,
    store: CheckpointStore,
    name: str,
    every: int,
    fingerprint: str,
) -> Generator[Result, None, None]:
    with store._alone(name):
        ledger = _ledger(store, name, every, fingerprint, stream=False)
        try:
            for item in _after(ledger.was.done, items, name):
                if due := ledger.came():
                    store._keep(name, due)
                yield work(item, ledger.hand_out())
                if due := ledger.taken():
                    store._keep(name, due)
            ledger.whole()
        finally:
            store._keep(name, ledger.now)


def _stream(stream: Stream) -> Generator[tuple[Any, Mark], None, None]:
    with stream.running() as ledger:
        if ledger.was.finished:
            return
        try:
            with _left(stream.call(ledger.was)) as messages:
                for message in messages:
                    if due := ledger.came(stream.cursor(message)):
                        stream.keep(due)
                    yield message, ledger.hand_out()
                    if due := ledger.taken():
                        stream.keep(due)
            ledger.whole(finished=True)
        finally:
            stream.keep(ledger.now)


class Stream:
    """A checkpointed stream, but for the reading: what threads and asyncio share."""

    def __init__(
        self,
        call: Callable[[Any], Any],
        request: Any,
        checkpoint: Checkpoint,
        *,
        store: CheckpointStore,
        name: str,
        every: int,
        fingerprint: str,
    ) -> None:
        problems = _common(store, name, every, fingerprint)
        if not callable(call):
            problems.append(f"call must be a function of one request, such as stub.List; got {call!r}")
        way_out = "Checkpoint(resume=..., cursor=lambda message: message.id)"
        problems += instance("checkpoint", checkpoint, Checkpoint, way_out)
        if isinstance(checkpoint, Checkpoint) and checkpoint.cursor is None:
            problems.append(f"checkpoint must have a cursor, because a store keeps no messages, such as {way_out}")
        complain("checkpointed_stream", problems)
        self._call = call
        self._request = request
        self._checkpoint = checkpoint
        self._store = store
        self._name = name
        self._every = every
        self._fingerprint = fingerprint

    @contextmanager
    def running(self) -> Iterator[Ledger]:
        """The ledger of a run; nobody else runs the stream meanwhile."""
        with self._store._alone(self._name):
            yield _ledger(self._store, self._name, self._every, self._fingerprint, stream=True)

    def call(self, was: Progress) -> Any:
        """Asks for all that comes after `was`."""
        first = was.cursor is None
        return self._call(self._request if first else self._checkpoint.resume(self._request, was.cursor))

    def cursor(self, message: Any) -> Any:
        """That of a message that has just come."""
        assert self._checkpoint.cursor is not None
        cursor = self._checkpoint.cursor(message)
        complain("Checkpoint", bad_cursor(cursor))
        return cursor

    def keep(self, progress: Progress) -> None:
        """Returns when it is on disk."""
        self._store._keep(self._name, progress)


def _ledger(store: CheckpointStore, name: str, every: int, fingerprint: str, *, stream: bool) -> Ledger:
    was = store.progress(name) or Progress(done=0, begun=0, fingerprint=fingerprint)
    check_same(name, was, fingerprint)
    if stream and was.done and was.cursor is None:
        raise CheckpointError(f"{name!r} was begun as a batch; give the stream a name of its own")
    if not stream and (was.finished or was.cursor is not None):
        raise CheckpointError(f"{name!r} was begun as a stream; give the batch a name of its own")
    return Ledger(was, name=name, every=every)


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


@contextmanager
def _left(messages: Any) -> Iterator[Any]:
    """Ends the call when its reader has gone; without effect if it is over."""
    try:
        yield messages
    finally:
        leave = getattr(messages, "cancel", None) or getattr(messages, "close", None)
        if leave is not None:
            leave()


def _common(store: object, name: object, every: object, fingerprint: object) -> list[str]:
    """What is wrong with what batches and streams have in common."""
    problems = bad_name(name) + bad_every(every)
    if not isinstance(fingerprint, str):
        problems.append(f"fingerprint must be text, such as a digest of the items; got {fingerprint!r}")
    return problems + instance("store", store, CheckpointStore, "CheckpointStore('progress.db')")
