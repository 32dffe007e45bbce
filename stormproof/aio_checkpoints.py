"""The asyncio driver of checkpointed streams: the same ledger and the same order as in stormproof.checkpoints.

Commits wait for the disk in a thread, beside the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from stormproof.checkpoint_store import CheckpointStore
from stormproof.checkpoints import Stream
from stormproof.core.ledger import Mark, Progress
from stormproof.core.policy import Checkpoint

Request = TypeVar("Request")
Message = TypeVar("Message")


def checkpointed_stream(
    call: Callable[[Request], AsyncIterable[Message]],
    request: Request,
    *,
    checkpoint: Checkpoint,
    store: CheckpointStore,
    name: str,
    every: int = 100,
    fingerprint: str = "",
) -> AsyncGenerator[tuple[Message, Mark], None]:
    """`stormproof.checkpointed_stream` for asyncio: `async for` over it; the arguments and promises are the same.

    `call` is the method of an asyncio stub, or any function of one request that returns an async iterator. If the loop
    over it may be left early, put `contextlib.aclosing` around it: Python closes async generators late, and its last
    checkpoint comes with that.
    """
    stream = Stream(call, request, checkpoint, store=store, name=name, every=every, fingerprint=fingerprint)
    return _stream(stream)


async def _stream(stream: Stream) -> AsyncGenerator[tuple[Any, Mark], None]:
    with stream.running() as ledger:
        if ledger.was.finished:
            return
        try:
            async with _left(stream.call(ledger.was)) as messages:
                async for message in messages:
                    if due := ledger.came(stream.cursor(message)):
                        await _keep(stream, due)
                    yield message, ledger.hand_out()
                    if due := ledger.taken():
                        await _keep(stream, due)
            ledger.whole(finished=True)
        finally:
            await _keep(stream, ledger.now)


async def _keep(stream: Stream, progress: Progress) -> None:
    """Returns when it is on disk, however often the task is cancelled meanwhile: else the next run's commits might be first."""
    keeping = asyncio.ensure_future(asyncio.to_thread(stream.keep, progress))
    cancelled = None
    while not keeping.done():
        try:
            await asyncio.wait([keeping])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from keeping.exception()
    keeping.result()


@asynccontextmanager
async def _left(messages: Any) -> AsyncIterator[Any]:
    """Ends the call when its reader has gone; without effect if it is over."""
    try:
        yield messages
    finally:
        if hasattr(messages, "cancel"):
            messages.cancel()
        elif hasattr(messages, "aclose"):
            await messages.aclose()
