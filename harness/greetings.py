"""How a broken stream of greetings continues, as values: what `Policy(checkpoint=...)` needs, in place of functions.

A client's policies travel to its process as JSON, which has no functions; a frozen dataclass with `__call__` is one that
has a name. What asks for something else than the rest of the stream (a saboteur) has the same form.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.wire import HelloReply, HelloRequest
from stormproof.core.policy import Checkpoint


@dataclass(frozen=True, slots=True)
class Rest:
    """Asks for the greetings of a stream that come after the one of a number."""

    def __call__(self, request: HelloRequest, number: int) -> HelloRequest:
        return HelloRequest(name=request.name, after=number)


@dataclass(frozen=True, slots=True)
class Number:
    """Which greeting of its stream this is, from 1."""

    def __call__(self, reply: HelloReply) -> int:
        return int(reply.number)


#: `Policy(checkpoint=GREETINGS)`: a stream of greetings that broke goes on elsewhere after the last one heard.
GREETINGS = Checkpoint(resume=Rest(), cursor=Number())


class Reader:
    """What of one stream reaches its caller: every message, when it comes. A saboteur's has a defect."""

    def came(self, number: int, attempt: int) -> Iterable[int]:  # noqa: ARG002
        """A message came in this attempt. The numbers of those that reach the caller now."""
        return (number,)


def greeted(item: int, messages: int) -> str:
    """Whom the stream `item` greets: a name of as many characters as the stream has `messages`, the same in each run."""
    return f"{item}"[-messages:].rjust(messages, "0")
