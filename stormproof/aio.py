"""The asyncio driver: a `grpc.aio.Channel` over many endpoints, with the arguments and behaviour of `stormproof.Channel`.

Every decision is the same code (stormproof.core); only performing it differs: stormproof.aio_unary for calls with one
answer, stormproof.aio_streaming for those with many,
stormproof.aio_checkpoints for those that outlive their client.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import weakref
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from stormproof.aio_checkpoints import checkpointed_stream
from stormproof.aio_streaming import Streaming
from stormproof.aio_unary import AioCallError, StreamUnary, UnaryUnary, UnaryUnaryCall
from stormproof.connectivity import best
from stormproof.core.health import HealthCheck
from stormproof.driver import tidy
from stormproof.health_checks import AioHealthChecks
from stormproof.shared import Asked, Shared
from stormproof.subchannels import open_aio_channel

#: Seconds after which who waits for a state looks at the endpoints again.
LOOK = 0.5

__all__ = ["AioCallError", "Channel", "checkpointed_stream"]


class Channel(Shared, grpc.aio.Channel):
    """A grpc.aio channel that balances over `endpoints` and keeps each method's policy.

    The arguments are those of `stormproof.Channel`, with the same meaning, units and errors. Make and use it in one
    event loop. Calls raise `AioCallError`; a cancelled one raises `asyncio.CancelledError`, as in grpc.aio.
    """

    _loop: asyncio.AbstractEventLoop | None = None  # in which it is used

    def _check_health(self, config: HealthCheck, rng: random.Random) -> AioHealthChecks:
        try:
            asyncio.get_running_loop()
        except RuntimeError as error:
            way_out = "make the channel in a coroutine"
            raise ValueError(f"Channel: failover.health needs a running event loop; {way_out}") from error
        checks = AioHealthChecks(Asked(self), config, rng)
        weakref.finalize(self, checks.stop)
        return checks

    def _open(self, *arguments: Any) -> grpc.aio.Channel:
        with contextlib.suppress(RuntimeError):  # made outside of one, as grpc.aio allows
            self._loop = asyncio.get_running_loop()
        channel: grpc.aio.Channel = open_aio_channel(*arguments)
        return channel

    def _close_subchannel(self, subchannel: grpc.aio.Channel) -> None:
        """From any thread: the resolver's, too. Without a loop, dropping it closes it."""
        if self._loop is not None and not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(subchannel.close(), self._loop)

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

    def _once_known(self, begin: Callable[[], None], timeout: float | None) -> None:
        """Calls `begin` once the resolver has answered, or after `timeout` seconds."""
        loop = asyncio.get_running_loop()
        waits = loop.create_future()
        waits.add_done_callback(lambda _: begin())

        def over() -> None:
            if not waits.done():
                waits.set_result(None)

        def wake() -> None:
            loop.call_soon_threadsafe(over)

        if timeout is not None:
            loop.call_later(timeout, over)
        if not self._when_known(wake):
            over()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The state of the best connected endpoint."""
        return best(subchannel.get_state(try_to_connect) for subchannel in self._all_subchannels().values())

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns once the state is another one than `last_observed_state`."""
        while self.get_state() is last_observed_state:
            changes = [
                asyncio.ensure_future(subchannel.wait_for_state_change(subchannel.get_state()))
                for subchannel in self._all_subchannels().values()
            ]
            try:  # endpoints may come meanwhile: look again, soon if there are none
                if changes:
                    await asyncio.wait(changes, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await asyncio.sleep(LOOK / 10)
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
        if self._resolution is not None:
            self._resolution.close()
            self._answered()
        if self._checks is not None:
            await self._checks.close()
        for call in tuple(self._waiting):
            call._woke()
        await asyncio.gather(*(subchannel.close(grace) for subchannel in self._to_close()))
        tidy(self)

    async def __aenter__(self) -> Channel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
