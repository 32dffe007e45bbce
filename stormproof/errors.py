"""What a caller catches. Every error says what was tried, who must act, and whether the work may have been done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from stormproof.core.outcome import Code, Evidence, Outcome
from stormproof.observer import Sent

STATUS = {status.value[0]: status for status in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Tried:
    """One failed attempt: where, and how it ended."""

    address: str
    outcome: Outcome

    def __str__(self) -> str:
        return f"{self.address} {self.outcome.code.name} ({self.outcome.evidence.value})"


class CallError(grpc.RpcError, grpc.Call):
    """A call failed. It is a `grpc.RpcError` like any other, and it knows more.

    code(), details(), trailing_metadata(), initial_metadata() are those of the last attempt. `tried` lists all attempts.
    `may_have_happened` is True when a server may have done the work, so that calling again may do it twice.
    """

    def __init__(self, method: str, outcome: Outcome, tried: Sequence[Tried], last: grpc.Call | None = None) -> None:
        super().__init__(method, outcome)
        self.method = method
        self.outcome = outcome
        self.tried = tuple(tried)
        self._last = last

    @property
    def attempts(self) -> int:
        """How many attempts were made."""
        return len(self.tried)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The addresses that were tried, in order."""
        return tuple(tried.address for tried in self.tried)

    @property
    def may_have_happened(self) -> bool:
        """Whether a server may have done the work."""
        return any(not tried.outcome.definite for tried in self.tried)

    @property
    def advice(self) -> str:
        """Who must act, and how."""
        if self.may_have_happened:
            return "the work may have been done: call again only if doing it twice is harmless"
        if self.outcome.code in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.ABORTED):
            return "the work was not done: call again later, or look after the servers"
        if self.outcome.code is Code.CANCELLED or self.outcome.evidence is Evidence.NEVER_SENT:
            return "the work was not done"
        return "the server answered so: calling again unchanged will not help"

    def code(self) -> grpc.StatusCode:
        return STATUS[int(self.outcome.code)]

    def details(self) -> str:
        count = f"{self.attempts} attempt" + ("" if self.attempts == 1 else "s")
        return f"{self.outcome.message} [{count}: {'; '.join(map(str, self.tried)) or 'none'}; {self.advice}]"

    def debug_error_string(self) -> str:
        return str(self)

    def initial_metadata(self) -> Sent:
        return tuple(self._last.initial_metadata() or ()) if self._last is not None else ()

    def trailing_metadata(self) -> Sent:  # type: ignore[override] # the types disagree with each other
        return tuple(self._last.trailing_metadata() or ()) if self._last is not None else ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> None:  # type: ignore[override] # the call is over
        return None

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: object) -> bool:  # noqa: ARG002
        return False

    def __str__(self) -> str:
        return f"{self.method} failed with {self.outcome.code.name}: {self.details()}"
