"""A `grpc.Channel` over many endpoints, under any generated stub. What it decides is decided in stormproof.core.

stub.SayHello(request)                      the generated stub, unchanged
  UnaryUnary.__call__                       stormproof.driver
    Call.begin -> Pool.begin -> Picker.pick      which endpoint (stormproof.core)
    grpc channel of that endpoint           the attempt, with what is left of the deadline
    Call.finished -> Pool.finished          answer it, or start again elsewhere
"""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable
from typing import Any

import grpc

from stormproof.connectivity import Connectivity
from stormproof.core.health import HealthCheck
from stormproof.driver import UnaryUnary, tidy
from stormproof.health_checks import HealthChecks
from stormproof.shared import Asked, Shared
from stormproof.streaming import Streaming, StreamUnary
from stormproof.subchannels import open_channel


class Channel(Shared, grpc.Channel):
    """A channel that balances over `endpoints` and keeps each method's policy.

    endpoints    addresses ("host:port") or `Endpoint`s, at least one, all different; or a `Resolver` that finds them: `Dns`,
                 `File`, `Polled`, `Subset`. Calls wait for its first answer, within their deadline.
    balancer     who is called: LeastRequest() unless told otherwise.
    policy       what every method may do; `methods` replaces it for single ones, by full name ("/pkg.Service/Method"), and
                 for all of a service ("/pkg.Service/"). The most specific one counts, whole, as in a gRPC service config.
    failover     when endpoints are ejected; None: never, and a further attempt may go where the last one failed.
    budget       how many retries the channel may add in all.
    load_reports endpoints are weighed by the load that their servers report (gRFC A51, A58); None: by `Endpoint.weight`.
    credentials  as for grpc.secure_channel; None: no encryption.
    options, compression   as for grpc.insecure_channel, for each endpoint's own channel.
    observer     is told every event (stormproof.observer).
    seed         fixes every random draw of this channel; None: different each time.

    Calls raise `CallError`, which is a `grpc.RpcError`. Raises ValueError that names every bad argument.
    Safe for use from many threads. Not for use across a fork: make it after forking.
    """

    def _check_health(self, config: HealthCheck, rng: random.Random) -> HealthChecks:
        checks = HealthChecks(Asked(self), config, rng)
        weakref.finalize(self, checks.close)
        return checks

    def _open(self, *arguments: Any) -> grpc.Channel:
        channel: grpc.Channel = open_channel(*arguments)
        return channel

    def _close_subchannel(self, subchannel: grpc.Channel) -> None:
        subchannel.close()

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
    ) -> Streaming:
        return Streaming(
            self, "unary_stream", method, request_serializer, response_deserializer, bool(_registered_method)
        )

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> StreamUnary:
        return StreamUnary(self, method, request_serializer, response_deserializer, bool(_registered_method))

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Streaming:
        return Streaming(
            self, "stream_stream", method, request_serializer, response_deserializer, bool(_registered_method)
        )

    def subscribe(
        self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool | None = False
    ) -> None:
        """Tells `callback` the state of the channel now and whenever it changes: that of its best endpoint."""
        self._watchers[callback] = Connectivity(self._all_subchannels(), callback, bool(try_to_connect))

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        watcher = self._watchers.pop(callback, None)
        if watcher is not None:
            watcher.stop()

    def close(self) -> None:
        """Ends calls in flight with CANCELLED and closes every connection. A second close does nothing."""
        self._closed.set()
        if self._resolution is not None:
            self._resolution.close()
            self._answered()
        if self._checks is not None:
            self._checks.close()
        self._timers.close()
        for callback in list(self._watchers):
            self.unsubscribe(callback)
        for subchannel in self._to_close():
            subchannel.close()
        tidy(self)

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
