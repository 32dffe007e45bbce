"""What becomes of a call that carries an idempotency key: whether its handler runs, and whether its outcome is kept.

Law 1: of all calls with one key, one at a time runs the handler. Law 2: a key belongs to its payload; with another one it
is refused, whatever became of the first. Law 3: an outcome that is kept is the answer to every later call.

    calls with this key                  event                            answer
    none under way                       arrived                          LOOK: the key is this call's; look in the store
    one under way                        arrived, same payload            WAIT for that one's outcome
    one under way                        arrived, another payload         CONFLICT
    this one holds it                    found nothing                    RUN
    this one holds it                    found an outcome, same payload   REPEAT
    this one holds it                    found one of another payload     CONFLICT
    this one holds it                    ended                            the key is free; `kept` says what the store is told

Stripe's rules: the first outcome is repeated, errors included, because an error does not say that nothing was done. Not kept
is what tells of the moment and not of the work (`PASSING`): a later call with the key runs the handler again, which is
what its caller comes back for. So a handler that answers with such a code must have undone what it did.
"""

from __future__ import annotations

from enum import Enum
from typing import Generic, TypeVar

from stormproof.core.outcome import Code

Ticket = TypeVar("Ticket")

#: Outcomes that are not kept: no room, no time, nobody waiting, a conflict or a fault that passes.
PASSING = frozenset({
    Code.CANCELLED, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.ABORTED, Code.UNAVAILABLE,
})  # fmt: skip


class Answer(Enum):
    """What to do with a call; the table above is its law."""

    LOOK = "look"
    WAIT = "wait"
    RUN = "run"
    REPEAT = "repeat"
    CONFLICT = "conflict"


def kept(code: Code) -> bool:
    """Whether an outcome with this code is the answer to later calls, too."""
    return code not in PASSING


def found(digest: bytes, stored: bytes | None) -> Answer:
    """What to do with a call of payload `digest` after a look in the store (None: no outcome of its key is there)."""
    if stored is None:
        return Answer.RUN
    return Answer.REPEAT if stored == digest else Answer.CONFLICT


class Keys(Generic[Ticket]):
    """The keys that are under way in this process, each with the payload's digest and a ticket to wait on."""

    def __init__(self) -> None:
        self._under_way: dict[str, tuple[bytes, Ticket]] = {}

    def arrived(self, key: str, digest: bytes, ticket: Ticket) -> tuple[Answer, Ticket]:
        """A call came: what to do, and the ticket of the call that holds the key, which may be its own."""
        there = self._under_way.get(key)
        if there is None:
            self._under_way[key] = (digest, ticket)
            return Answer.LOOK, ticket
        return (Answer.WAIT if there[0] == digest else Answer.CONFLICT), there[1]

    def ended(self, key: str) -> None:
        """The call that holds the key is over, however it ended."""
        del self._under_way[key]

    def __len__(self) -> int:
        return len(self._under_way)
