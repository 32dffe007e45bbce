"""The context that a handler with an idempotency key gets: what it says of its outcome is held back until it is stored.

grpc.aio sends an abort's status at once; here the store comes first. And on asyncio the handler may outlive its call, whose
C object is then gone: what would touch it raises instead.
"""

from __future__ import annotations

from typing import Any

import grpc

from stormproof.core.outcome import Code
from stormproof.observer import Sent
from stormproof.server.outcomes import Record

#: What a context knows without its call.
_LASTING = frozenset({"invocation_metadata", "time_remaining", "cancelled", "done", "is_active"})


class Aborted(grpc.aio.AbortError):
    """The handler has called abort."""


class Held:
    """A stand-in for the context of a unary handler. `over` is set when its call has ended before it."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._code: Any = None
        self._details = ""
        self._trailing: Sent = ()
        self.over = False

    def __getattr__(self, name: str) -> Any:
        if self.over and name not in _LASTING:
            raise RuntimeError(f"{name} is not known any more: the caller has gone; ask when the handler begins")
        return getattr(self._context, name)

    def set_code(self, code: Any) -> None:
        self._code = code

    def code(self) -> Any:
        return self._code

    def set_details(self, details: str) -> None:
        self._details = details

    def details(self) -> str:
        return self._details

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self._trailing = tuple((name, value) for name, value in trailing_metadata)

    def trailing_metadata(self) -> Sent:
        return self._trailing

    def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> Any:
        self._code = grpc.StatusCode.UNKNOWN if _number(code) is Code.OK else code
        self._details = details or self._details
        if trailing_metadata:
            self.set_trailing_metadata(trailing_metadata)
        raise Aborted(details)

    def abort_with_status(self, status: Any) -> Any:
        return self.abort(status.code, status.details, status.trailing_metadata)

    def record(self, digest: bytes, reply: bytes) -> Record:
        """How the handler ended, which returned `reply` or aborted."""
        code = _number(self._code)
        told = reply if code is Code.OK else b""
        return Record(digest=digest, code=code, details=self._details, reply=told, trailing=self._trailing)

    def failed(self, digest: bytes, problem: Exception) -> Record:
        """How the handler ended, which raised `problem`; gRPC says it in the same words."""
        code = _number(self._code)
        details = self._details or f"Exception calling application: {problem}"
        code = Code.UNKNOWN if code is Code.OK else code
        return Record(digest=digest, code=code, details=details, trailing=self._trailing)


class AioHeld(Held):
    """The same for a handler on an asyncio server."""

    async def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> Any:
        super().abort(code, details, trailing_metadata)

    async def abort_with_status(self, status: Any) -> Any:
        await self.abort(status.code, status.details, status.trailing_metadata)


def _number(code: Any) -> Code:
    """A status as a handler may give it: of gRPC's enum, a number, or None for none."""
    return Code(code.value[0] if isinstance(code, grpc.StatusCode) else code or 0)
