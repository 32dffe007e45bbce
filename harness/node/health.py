"""The standard health service (grpc.health.v1) of the Hello server: SERVING from the start, NOT_SERVING when it drains.

It speaks of the program, and not of how the Hello service has been told to misbehave, unless it is told to lie itself
(conduct.py). Import it in a server's own process only: its messages go into the one pool of the process, where a
client of somebody else's, forked from the same keeper, may want to have its own.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server as add_health

from harness.node.conduct import Conduct
from harness.node.hello import SERVICES

__all__ = ["Health", "add_health"]

Context = grpc.aio.ServicerContext[Any, Any]


class Health(HealthServicer):  # type: ignore[misc] # it has no types
    """Serves Check and Watch; `conduct` decides what is said."""

    def __init__(self, conduct: Conduct) -> None:
        self._conduct = conduct
        self._draining = False
        self._news = asyncio.Event()

    def drain(self) -> None:
        """The server takes no more calls. Those who watch are told so, and their streams end: open, they would hold it up."""
        self._draining = True
        self.changed()

    def changed(self) -> None:
        """What is said may be another thing now."""
        self._news.set()
        self._news = asyncio.Event()

    async def Check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:  # noqa: N802
        if request.service not in SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service!r} here")
        return self._state(request.service)

    async def Watch(self, request: HealthCheckRequest, context: Context) -> None:  # noqa: N802
        said = None
        while True:
            news, state = self._news, self._state(request.service)
            if state != said:
                await context.write(state)
                said = state
            if self._draining:
                return
            await news.wait()

    def _state(self, service: str) -> HealthCheckResponse:
        if service not in SERVICES:
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        serving = self._conduct.serving(not self._draining)
        return HealthCheckResponse(status=HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING)
