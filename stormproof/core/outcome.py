"""How an attempt or a call ended, and what that says about the work: done, surely not done, or nobody can know.

The status alone does not tell. UNAVAILABLE is what a caller gets when no connection could be made (the work surely
did not happen), when the server itself said so, and when a connection broke with the request on its way (nobody can
know). So an outcome carries its evidence, as maelstrom's errors carry `definite`, and every retry decision asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum


class Code(IntEnum):
    """gRPC's status codes, by their numbers on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Evidence(Enum):
    """How much is known of what the server did.

    NEVER_SENT: no byte of the request left for a server. ANSWERED: the server itself gave this status.
    LOST: the request may have left, and no answer came; the server may have done all, part or nothing of the work.
    """

    NEVER_SENT = "never sent"
    ANSWERED = "answered"
    LOST = "lost"


#: Answers that a server gives in place of the work. The others (UNKNOWN, INTERNAL, ...) may come after half of it.
_REFUSALS = frozenset({
    Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.ALREADY_EXISTS, Code.PERMISSION_DENIED, Code.RESOURCE_EXHAUSTED,
    Code.FAILED_PRECONDITION, Code.ABORTED, Code.OUT_OF_RANGE, Code.UNIMPLEMENTED, Code.UNAVAILABLE,
    Code.UNAUTHENTICATED,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """`pushback` is the server's own word on a retry (gRFC A6): seconds to wait, negative for "do not", None for none."""

    code: Code
    evidence: Evidence = Evidence.ANSWERED
    message: str = ""
    pushback: float | None = None

    @property
    def ok(self) -> bool:
        return self.code is Code.OK

    @property
    def ours(self) -> bool:
        """Whether it was our own side that failed (a request that cannot be serialized): nobody else is to blame."""
        return self.evidence is Evidence.NEVER_SENT and self.code is not Code.UNAVAILABLE

    @property
    def definite(self) -> bool:
        """Whether it is sure that the work was done, or sure that it was not."""
        if self.evidence is Evidence.ANSWERED:
            return self.ok or self.code in _REFUSALS
        return self.evidence is Evidence.NEVER_SENT

    def __str__(self) -> str:
        return self.code.name if self.ok else f"{self.code.name} ({self.evidence.value}): {self.message}"


#: The outcome of every attempt that went well.
OK = Outcome(Code.OK)
