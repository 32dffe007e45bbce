"""One answer stream as its caller reads it: what stormproof/streaming.py and harness/client_streams.py do, in virtual time.

The machine of its call is that of any other (driver.py). Here is what it reads: which messages came, what the next attempt
has to ask for, and, for a durable client, what its disk must say. Whoever reads takes no time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.greetings import Reader, greeted
from harness.history import Piece, pieces
from harness.wire import HelloReply, HelloRequest
from stormproof.core.ledger import Ledger, Progress
from stormproof.core.policy import Checkpoint


class Stream:
    """The stream `item` of `messages` messages. `asked` is what the next attempt asks for.

    With a `ledger` it is durable: it goes on where that says, and `keep` puts its progress where a kill leaves it.
    `since` is when the reader began to wait for a message, `wrong` whether it got one that it had not asked for.
    """

    __slots__ = (
        "_checkpoint", "_first", "_heard", "_keep", "_ledger", "_name", "_reader", "asked", "messages", "resumable", "since",
        "wrong",
    )  # fmt: skip

    def __init__(
        self,
        item: int,
        messages: int,
        checkpoint: Checkpoint | None,
        ledger: Ledger | None,
        keep: Callable[[Progress], None],
        reader: Reader,
    ) -> None:
        self.messages = messages
        self.since = 0.0
        self.wrong = False
        self.resumable = checkpoint is not None
        self._checkpoint = checkpoint
        self._ledger = ledger
        self._keep = keep
        self._reader = reader
        self._name = greeted(item, messages)
        self._heard: list[tuple[int, int, bool]] = []
        self._first: Any = HelloRequest(name=self._name)
        if ledger is not None and ledger.was.cursor is not None:
            assert checkpoint is not None
            self._first = checkpoint.resume(self._first, ledger.was.cursor)
        self.asked = self._first

    def came(self, number: int, attempt: int, now: float) -> None:
        """A message arrived; the reader takes it, and waits for the next one."""
        self.since = now
        repeat = False
        if self._checkpoint is not None:
            reply = HelloReply(message=f"Hello, {self._name}!", number=number)
            self.asked = self._checkpoint.after(self._first, reply)
            repeat = self._ledger is not None and self._booked(self._ledger, reply)
        self._heard += [(read, attempt, repeat) for read in self._reader.came(number, attempt)]

    def _booked(self, ledger: Ledger, reply: Any) -> bool:
        """Whether an earlier run may have had the message, which is taken at once."""
        assert self._checkpoint is not None
        assert self._checkpoint.cursor is not None
        self._kept(ledger.came(self._checkpoint.cursor(reply)))
        mark = ledger.hand_out()
        self._kept(ledger.taken())
        return mark.repeat

    def ended(self, *, whole: bool) -> None:
        """The call is over; `whole`: the stream came to its end."""
        if self._ledger is not None:
            if whole:
                self._ledger.whole(finished=True)
            self._keep(self._ledger.now)

    def _kept(self, due: Progress | None) -> None:
        if due is not None:
            self._keep(due)

    def heard(self) -> tuple[Piece, ...]:
        """What reached the caller, in its order."""
        return pieces(self._heard)
