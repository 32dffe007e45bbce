"""Answer streams of the client's process: each is read to its end, and the journal tells what of it reached the caller.

A message is journaled before the next one is asked for, and so before a checkpoint covers it: whatever becomes of the
process, its journal tells of no less than its store does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.greetings import Reader, greeted
from stormproof import Checkpoint, CheckpointStore, checkpointed_stream

if TYPE_CHECKING:
    from harness.client import Calls


class WrongAnswer(Exception):
    """A message that is not the one that was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Durable:
    """The progress of a run's streams, where a client's death leaves it."""

    store: CheckpointStore
    checkpoint: Checkpoint
    every: int
    seed: int

    def finished(self, item: int) -> bool:
        """Whether the stream of this number has been read to its end."""
        was = self.store.progress(self._name(item))
        return was is not None and was.finished

    def read(
        self, item: int, ask: Callable[[Any], Iterable[Any]], request: Any
    ) -> Generator[tuple[Any, bool], None, None]:
        """The messages from where it is, each with whether an earlier run may have had it."""
        messages = checkpointed_stream(
            ask, request, checkpoint=self.checkpoint, store=self.store, name=self._name(item), every=self.every
        )
        for message, mark in messages:
            yield message, mark.repeat

    def _name(self, item: int) -> str:
        return f"stream-{self.seed}-{item}"


def still_due(arrivals: Sequence[float], finished: Callable[[int], bool], now: float) -> Iterator[tuple[int, float]]:
    """The numbers of the streams that have not been read to their ends, and when each is due.

    None is due before `now`: a client that was killed is not charged for the time in which it was not there.
    """
    return ((item, max(due, now)) for item, due in enumerate(arrivals) if not finished(item))


def read(
    calls: Calls, item: int, due: float | None, *, messages: int, durable: Durable | None, reader: type[Reader] = Reader
) -> bool:
    """One operation: the stream of this number, of so many messages, due then (None: now). Whether it came to an end."""
    name, reads, recorder = greeted(item, messages), reader(), calls.recorder
    with calls.operation(due, item=item, messages=messages) as operation:
        ask = partial(calls.stub.SayHelloToEach, metadata=operation.metadata, timeout=calls.timeout)
        request = calls.request(name=name)
        with closing(_all(ask(request)) if durable is None else durable.read(item, ask, request)) as answers:
            for message, repeat in answers:
                if message.message != f"Hello, {name}!":
                    raise WrongAnswer(f"the answer was {message.message!r}")
                attempt = recorder.attempts.get(operation.id, 0)
                for number in reads.came(message.number, attempt):
                    recorder.heard(operation.id, number, attempt, repeat)
    return operation.ok


def _all(stream: Any) -> Generator[tuple[Any, bool], None, None]:
    """The messages of a call, none of which any earlier run had; the call ends with its reader."""
    try:
        for message in stream:
            yield message, False
    finally:
        stream.cancel()
