"""A `grpc.Channel` over many endpoints, under any generated stub. What it decides is decided in stormproof.core.

stub.SayHello(request)                      the generated stub, unchanged
  UnaryUnary.__call__                       stormproof.driver
    Call.begin -> Pool.begin -> Picker.pick      which endpoint (stormproof.core)
    grpc channel of that endpoint           the attempt, with what is left of the deadline
    Call.finished -> Pool.finished          answer it, or start again elsewhere
"""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc

from stormproof.connectivity import Connectivity
from stormproof.core.balancers import Balancer, LeastRequest
from stormproof.core.breaker import Failover, State
from stormproof.core.budget import RetryBudget
from stormproof.core.check import complain, instance
from stormproof.core.endpoint import Endpoint
from stormproof.core.policy import Policy
from stormproof.core.pool import Member, Pool
from stormproof.driver import UnaryUnary
from stormproof.observer import Ejected, Event, Observer, Readmitted
from stormproof.streaming import Balanced
from stormproof.subchannels import Options, open_channel


class Channel(grpc.Channel):
    """A channel that balances over `endpoints` and keeps each method's policy.

    endpoints    addresses ("host:port") or `Endpoint`s, at least one, all different.
    balancer     who is called: LeastRequest() unless told otherwise.
    policy       what every method may do; `methods` replaces it for single ones, by full name ("/pkg.Service/Method").
    failover     when endpoints are ejected; None: never, and a further attempt may go where the last one failed.
    budget       how many retries the channel may add in all.
    credentials  as for grpc.secure_channel; None: no encryption.
    options, compression   as for grpc.insecure_channel, for each endpoint's own channel.
    observer     is told every event (stormproof.observer).
    seed         fixes every random draw of this channel; None: different each time.

    Calls raise `CallError`, which is a `grpc.RpcError`. Raises ValueError that names every bad argument.
    Safe for use from many threads. Not for use across a fork: make it after forking.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint | str],
        *,
        balancer: Balancer = LeastRequest(),  # noqa: B008 - a frozen value
        policy: Policy = Policy(),  # noqa: B008
        methods: Mapping[str, Policy] | None = None,
        failover: Failover | None = Failover(),  # noqa: B008
        budget: RetryBudget = RetryBudget(),  # noqa: B008
        credentials: grpc.ChannelCredentials | None = None,
        options: Options = (),
        compression: grpc.Compression | None = None,
        observer: Observer | None = None,
        seed: int | None = None,
    ) -> None:
        members, problems = _members(endpoints)
        problems += configuration(balancer=balancer, policy=policy, methods=methods, failover=failover, budget=budget)
        complain("Channel", problems)
        self._policy = policy
        self._methods = dict(methods or {})
        self._observer = observer
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._notices: deque[Event] = deque()
        self._watchers: dict[Callable[[grpc.ChannelConnectivity], None], Connectivity] = {}
        self._pool = Pool(
            members,
            balancer=balancer,
            failover=failover,
            budget=budget,
            rng=random.Random(seed),
            changed=self._note if observer is not None else lambda _: None,
        )
        self._subchannels = {e.address: open_channel(e.address, credentials, options, compression) for e in members}

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
    ) -> grpc.UnaryStreamMultiCallable[Any, Any]:
        return Balanced(self, "unary_stream", method, request_serializer, response_deserializer, _registered_method)

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.StreamUnaryMultiCallable[Any, Any]:
        return Balanced(self, "stream_unary", method, request_serializer, response_deserializer, _registered_method)

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.StreamStreamMultiCallable[Any, Any]:
        return Balanced(self, "stream_stream", method, request_serializer, response_deserializer, _registered_method)

    def subscribe(
        self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool | None = False
    ) -> None:
        """Tells `callback` the state of the channel now and whenever it changes: that of its best endpoint."""
        self._watchers[callback] = Connectivity(self._subchannels, callback, bool(try_to_connect))

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        watcher = self._watchers.pop(callback, None)
        if watcher is not None:
            watcher.stop(self._subchannels)

    def close(self) -> None:
        """Ends calls in flight with CANCELLED and closes every connection. A second close does nothing."""
        self._closed.set()
        for callback in list(self._watchers):
            self.unsubscribe(callback)
        for subchannel in self._subchannels.values():
            subchannel.close()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _policy_of(self, method: str) -> Policy:
        return self._methods.get(method, self._policy)

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ValueError("this Channel was closed: make a new one to call again")

    def _note(self, member: Member) -> None:
        """Runs inside the lock: what the pool says is told to the observer later."""
        breaker, now = member.breaker, time.monotonic()
        opened = breaker.state is State.OPEN
        self._notices.append(
            Ejected(now, member.endpoint, breaker.until - now) if opened else Readmitted(now, member.endpoint)
        )

    def _tell(self, event: Event) -> None:
        if self._observer is not None:
            while self._notices:
                with contextlib.suppress(IndexError):  # another thread was quicker
                    self._observer(self._notices.popleft())
            self._observer(event)


def configuration(
    *,
    balancer: object,
    policy: object,
    methods: Mapping[str, Policy] | None = None,
    failover: object,
    budget: object,
) -> list[str]:
    """What is wrong with these arguments of a channel; empty if nothing is."""
    problems: list[str] = []
    if isinstance(balancer, type) or not isinstance(balancer, Balancer):
        problems.append(f"balancer must be a balancer, such as RoundRobin(); got {balancer!r}")
    problems += instance("policy", policy, Policy, "Policy(timeout=1.0)")
    for name, value in (methods or {}).items():
        if not name.startswith("/") or name.count("/") != 2:
            problems.append(f"methods must be named '/package.Service/Method'; got {name!r}")
        problems += instance(f"methods[{name!r}]", value, Policy, "Policy(timeout=1.0)")
    if failover is not None:
        problems += instance("failover", failover, Failover, "Failover(), or None for no failover")
    return problems + instance("budget", budget, RetryBudget, "RetryBudget()")


def _members(endpoints: Sequence[Endpoint | str]) -> tuple[list[Endpoint], list[str]]:
    """The endpoints, and what is wrong with them."""
    if isinstance(endpoints, str):
        return [], [f"endpoints must be a list of addresses; got the text {endpoints!r} (put it in brackets)"]
    members: list[Endpoint] = []
    problems: list[str] = []
    for value in endpoints:
        try:
            members.append(Endpoint.of(value))
        except ValueError as error:
            problems.append(f"endpoints: {error}")
    if not members and not problems:
        problems.append("endpoints must hold at least one address, such as '10.0.0.1:50051'; got none")
    twice = sorted(address for address, count in Counter(m.address for m in members).items() if count > 1)
    if twice:
        problems.append(
            f"endpoints must all be different; {', '.join(twice)} stands there twice (give it a weight instead)"
        )
    return members, problems
