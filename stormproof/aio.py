"""The asyncio driver: a `grpc.aio.Channel` over many endpoints, with the arguments and behaviour of `stormproof.Channel`.

Every decision is the same code (stormproof.core); only performing it differs: stormproof.aio_unary for calls with one
answer, stormproof.aio_streaming for those with many.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import grpc
import grpc.aio

from stormproof.aio_streaming import Streaming
from stormproof.aio_unary import AioCallError, StreamUnary, UnaryUnary, UnaryUnaryCall
from stormproof.connectivity import best
from stormproof.shared import Shared
from stormproof.subchannels import open_aio_channel

__all__ = ["AioCallError", "Channel"]


class Channel(Shared, grpc.aio.Channel):
    """A grpc.aio channel that balances over `endpoints` and keeps each method's policy.

    The arguments are those of `stormproof.Channel`, with the same meaning, units and errors. Make and use it in one
    event loop. Calls raise `AioCallError`; a cancelled one raises `asyncio.CancelledError`, as in grpc.aio.
    """

    _open = staticmethod(open_aio_channel)

    @functools.cached_property
    def _waiting(self) -> set[UnaryUnaryCall]:
        """Calls that a timer will wake, which `close` wakes at once."""
        return set()

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnary:
        return UnaryUnary(self, method, request_serializer, response_deserializer, bool(_registered_method))

    def unary_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return Streaming(self, "unary_stream", method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return StreamUnary(self, method, request_serializer, response_deserializer, bool(_registered_method))

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return Streaming(self, "stream_stream", method, request_serializer, response_deserializer)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The state of the best connected endpoint."""
        return best(subchannel.get_state(try_to_connect) for subchannel in self._subchannels.values())

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns once the state is another one than `last_observed_state`."""
        while self.get_state() is last_observed_state:
            changes = [
                asyncio.ensure_future(subchannel.wait_for_state_change(subchannel.get_state()))
                for subchannel in self._subchannels.values()
            ]
            try:
                await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for change in changes:
                    change.cancel()

    async def channel_ready(self) -> None:
        """Returns once one endpoint is connected."""
        while (state := self.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            await self.wait_for_state_change(state)

    async def close(self, grace: float | None = None) -> None:
        """Closes every connection; calls in flight may end within `grace` seconds, then they are cancelled."""
        self._closed.set()
        for call in tuple(self._waiting):
            call._woke()
        await asyncio.gather(*(subchannel.close(grace) for subchannel in self._subchannels.values()))

    async def __aenter__(self) -> Channel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
