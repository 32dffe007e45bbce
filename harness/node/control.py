"""The Control service: how a server is told to misbehave, and asked how often it did (control.proto)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc

from harness.node.conduct import Conduct
from harness.wire import Behaviour, DrainRequest, Observed, ObserveRequest

Context = grpc.aio.ServicerContext[Any, Any]


class Control:
    """Serves control.proto for `conduct`; `drain(grace)` is called to end the server, `grace` in seconds.

    `changed` is called when the server has been told to behave otherwise.
    """

    def __init__(self, conduct: Conduct, drain: Callable[[float], None], changed: Callable[[], None]) -> None:
        self._conduct = conduct
        self._drain = drain
        self._changed = changed

    async def Behave(self, request: Behaviour, context: Context) -> Observed:  # noqa: N802
        try:
            self._conduct.behave(request, time.monotonic())
            self._changed()
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except MemoryError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        return self._conduct.observed()

    async def Observe(self, request: ObserveRequest, context: Context) -> Observed:  # noqa: ARG002, N802
        return self._conduct.observed()

    async def Drain(self, request: DrainRequest, context: Context) -> Observed:  # noqa: ARG002, N802
        self._drain(request.grace)
        return self._conduct.observed()
