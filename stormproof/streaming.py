"""Streaming methods: balanced, and with no policy beyond that yet. What a caller gets is gRPC's own call object."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import grpc

from stormproof.core.outcome import OK, Outcome
from stormproof.core.pool import Flight
from stormproof.driver import BROKEN_OFF
from stormproof.subchannels import outcome_of

if TYPE_CHECKING:
    from stormproof.channel import Channel


class Balanced(
    grpc.UnaryStreamMultiCallable,  # type: ignore[type-arg] # generic in the types only
    grpc.StreamUnaryMultiCallable,  # type: ignore[type-arg]
    grpc.StreamStreamMultiCallable,  # type: ignore[type-arg]
):
    """A streaming method: one attempt, on the endpoint that the balancer picks; what it returns is gRPC's own call."""

    def __init__(
        self,
        channel: Channel,
        kind: str,
        method: str,
        serializer: Any,
        deserializer: Any,
        registered: bool | None,
    ) -> None:
        self._channel = channel
        self._on = {
            address: getattr(subchannel, kind)(method, serializer, deserializer, bool(registered))
            for address, subchannel in channel._subchannels.items()
        }

    def __call__(self, request: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override] # any kind
        flight, on = self._begin()
        try:
            call = on(request, *args, **kwargs)
        except BaseException as problem:
            self._ended(flight, outcome_of(problem) if isinstance(problem, grpc.RpcError) else BROKEN_OFF)
            raise
        return self._watched(flight, call)

    def with_call(self, request_iterator: Iterator[Any], *args: Any, **kwargs: Any) -> Any:
        flight, on = self._begin()
        try:
            answer = on.with_call(request_iterator, *args, **kwargs)
        except BaseException as problem:
            self._ended(flight, outcome_of(problem) if isinstance(problem, grpc.RpcError) else BROKEN_OFF)
            raise
        self._ended(flight, OK)
        return answer

    def future(self, request_iterator: Iterator[Any], *args: Any, **kwargs: Any) -> Any:
        flight, on = self._begin()
        return self._watched(flight, on.future(request_iterator, *args, **kwargs))

    def _begin(self) -> tuple[Flight, Any]:
        self._channel._check_open()
        with self._channel._lock:
            flight = self._channel._pool.begin(time.monotonic())
        return flight, self._on[flight.member.endpoint.address]

    def _watched(self, flight: Flight, call: Any) -> Any:
        """Reports the end of a call that goes on; a call that is over already returned a plain answer."""
        if not isinstance(call, grpc.Call):
            self._ended(flight, OK)
        elif not call.add_callback(lambda: self._ended(flight, self._outcome(call))):
            self._ended(flight, self._outcome(call))
        return call

    def _outcome(self, call: grpc.Call) -> Outcome:
        return OK if call.code() is grpc.StatusCode.OK else outcome_of(call)

    def _ended(self, flight: Flight, outcome: Outcome) -> None:
        with self._channel._lock:
            self._channel._pool.finished(flight, outcome, time.monotonic())
