"""The standard health service (grpc.health.v1) of the Hello server: SERVING from the start, NOT_SERVING when it drains.

It speaks of the program, and not of how the Hello service has been told to misbehave (conduct.py): it answers normally
whatever that does. Import it in a server's own process only: its messages go into the one pool of the process, where a
client of somebody else's, forked from the same keeper, may want to have its own.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server as add_health

__all__ = ["Health", "add_health"]

#: What can be asked about: the server as a whole, and its service.
SERVICES = ("", "hello.Hello")

Context = grpc.aio.ServicerContext[Any, Any]


class Health(HealthServicer):  # type: ignore[misc] # it has no types
    """Serves Check and Watch."""

    def __init__(self) -> None:
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """The server takes no more calls. Those who watch are told so, and their streams end: open, they would hold it up."""
        self._draining.set()

    async def Check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:  # noqa: N802
        if request.service not in SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service!r} here")
        return self._state(request.service)

    async def Watch(self, request: HealthCheckRequest, context: Context) -> None:  # noqa: N802
        await context.write(self._state(request.service))
        await self._draining.wait()
        await context.write(self._state(request.service))

    def _state(self, service: str) -> HealthCheckResponse:
        if service not in SERVICES:
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        if self._draining.is_set():
            return HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING)
        return HealthCheckResponse(status=HealthCheckResponse.SERVING)
