"""What every driver's channel has in common: its checked configuration, its pool, and the way to its observer."""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import grpc

from stormproof.connectivity import Connectivity
from stormproof.core.balancers import Balancer, LeastRequest
from stormproof.core.balancers.base import Keyed
from stormproof.core.breaker import State
from stormproof.core.budget import RetryBudget
from stormproof.core.call import Call
from stormproof.core.check import complain, instance
from stormproof.core.endpoint import Endpoint
from stormproof.core.failover import Failover
from stormproof.core.health import Answer, HealthCheck
from stormproof.core.policy import Policy
from stormproof.core.pool import Member, Pool
from stormproof.core.reports import LoadReports
from stormproof.observer import (
    Ejected,
    Event,
    HealthChanged,
    Joined,
    Left,
    Observer,
    Propagates,
    Readmitted,
    Unresolved,
    tell,
)
from stormproof.resolver import Resolution, Resolver, wrong_with
from stormproof.subchannels import Bound, Options, transport
from stormproof.timers import Timers

#: "/package.Service/Method", or "/package.Service/" for all methods of a service.
_NAME = re.compile(r"/[^/\s]+/[^/\s]*")


class Shared:
    """The state that all calls of one channel share. One short lock guards the pool; nothing blocks inside it.

    The arguments are explained at `Channel`. `_open` makes the channel of one endpoint: grpc's, or grpc.aio's.
    """

    _open: Callable[..., Any]  # of an address and the transport's arguments
    _close_subchannel: Callable[[Any], None]
    _check_health: Callable[[HealthCheck, random.Random], Any]  # begins it
    # What decides; harness.saboteurs plants defects here.
    _pool_type: ClassVar[type[Pool]] = Pool
    _call_type: ClassVar[type[Call]] = Call

    def __init__(
        self,
        endpoints: Sequence[Endpoint | str] | Resolver,
        *,
        balancer: Balancer = LeastRequest(),  # noqa: B008 - a frozen value
        policy: Policy = Policy(),  # noqa: B008
        methods: Mapping[str, Policy] | None = None,
        failover: Failover | None = Failover(),  # noqa: B008
        budget: RetryBudget = RetryBudget(),  # noqa: B008
        load_reports: LoadReports | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        options: Options = (),
        compression: grpc.Compression | None = None,
        observer: Observer | None = None,
        seed: int | None = None,
    ) -> None:
        fixed, problems = endpoints_of(endpoints)
        problems += configuration(
            balancer=balancer,
            policy=policy,
            methods=methods,
            failover=failover,
            budget=budget,
            load_reports=load_reports,
        )
        problems += transport(credentials, options, compression)
        if observer is not None and (isinstance(observer, type) or not callable(observer)):
            problems.append(f"observer must be a function of an event, such as print, or None; got {observer!r}")
        if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
            problems.append(f"seed must be a whole number, or None for another one each time; got {seed!r}")
        complain("Channel", problems)
        self._key_of = balancer.key_of if isinstance(balancer, Keyed) else None
        self._reads_reports = load_reports is not None
        self._policy = policy
        self._methods = dict(methods or {})
        self._observer = observer
        self._adds = observer.metadata_for if isinstance(observer, Propagates) else None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._timers = Timers()
        weakref.finalize(self, self._timers.close).atexit = False  # of a channel that was dropped unclosed
        self._notices: deque[Event] = deque()
        self._abandoned: deque[Callable[[], None]] = deque()  # of streams that were dropped: see AnswerStream.__del__
        self._resolution: Resolution | None = None
        self._known = bool(fixed)  # whether calls need not wait for the resolver's first answer
        self._waiters: list[Callable[[], None]] = []
        self._pool = self._pool_type(
            fixed,
            balancer=balancer,
            failover=failover,
            budget=budget,
            rng=random.Random(seed),
            load_reports=load_reports,
            changed=self._note,
        )
        self._watchers: dict[Callable[[grpc.ChannelConnectivity], None], Connectivity] = {}  # on threads only
        self._transport = (credentials, options, compression)
        self._subchannels: dict[str, Any] = {}
        self._opening = threading.Lock()
        self._bounds: weakref.WeakSet[Bound] = weakref.WeakSet()
        for endpoint in fixed:
            self._subchannel(endpoint.address)
        if isinstance(endpoints, Resolver):
            self._pool.problem = "the channel has no endpoints: its resolver has not answered yet"
            found, not_found = weakref.WeakMethod(self._resolved), weakref.WeakMethod(self._unresolved)
            self._resolution = Resolution(
                endpoints,
                lambda found_now: _tell_if_there(found, found_now),
                lambda problem: _tell_if_there(not_found, problem),
                rng=random.Random(seed),
            )
            weakref.finalize(self, self._resolution.close)  # a channel that was dropped unclosed
        self._checks: Any = None
        if failover is not None and failover.health is not None:
            self._checks = self._check_health(failover.health, random.Random(seed))

    def _resolved(self, endpoints: list[Endpoint]) -> None:
        """The resolver found these. It calls in its own thread."""
        now = time.monotonic()
        with self._lock:
            came, left = self._pool.update(endpoints, now)
        self._answered()
        self._let_go()
        for watcher in list(self._watchers.values()):
            watcher.follow(self._all_subchannels())
        for endpoint in came:
            self._tell(Joined(now, endpoint))
        for endpoint in left:
            self._tell(Left(now, endpoint))

    def _unresolved(self, problem: Exception) -> None:
        with self._lock:
            self._pool.problem = f"the channel has no endpoints: {problem}"
        self._answered()
        self._tell(Unresolved(time.monotonic(), problem))

    def _answered(self) -> None:
        """The resolver has answered, well or not, or will not any more: nobody waits from now on."""
        with self._lock:
            self._known = True
            waiting, self._waiters = self._waiters, []
        for wake in waiting:
            wake()

    def _when_known(self, wake: Callable[[], None]) -> bool:
        """Whether `wake` will be called once endpoints are known; if not, they are known already."""
        with self._lock:
            if not self._known:
                self._waiters.append(wake)
            return not self._known

    def _subchannel(self, address: str) -> Any:
        """The channel to one endpoint; opened when first asked for."""
        with self._opening:
            found = self._subchannels.get(address)
            if found is None:
                self._check_open()
                found = self._subchannels[address] = self._open(address, *self._transport)
            return found

    def _all_subchannels(self) -> dict[str, Any]:
        """Those to all endpoints there are now, by address."""
        return {member.endpoint.address: self._subchannel(member.endpoint.address) for member in self._pool.members}

    def _bind(self, make: Callable[[Any], Any]) -> Bound:
        """What makes one method's attempts at each address, of `make(channel to the endpoint)`."""

        def made(address: str) -> Any:
            subchannel = self._subchannel(address)
            with self._opening:  # never on a channel that was closed: there grpc (1.85.1) crashes the process
                self._check_open()
                return make(subchannel)

        bound = Bound(made)
        with self._opening:
            self._bounds.add(bound)
        return bound

    def _to_close(self) -> list[Any]:
        """All channels to endpoints; nothing is bound to them from now on."""
        assert self._closed.is_set()
        with self._opening:
            return list(self._subchannels.values())

    def _let_go(self) -> None:
        """Closes the channels to endpoints that have left and on which nothing is in flight any more."""
        pool = self._pool
        while pool.drained:
            with self._lock:
                addresses = {member.endpoint.address for member in pool.drained}
                pool.drained.clear()
                with self._opening:
                    gone = [a for a in addresses if not pool.knows(a)]  # another one may have come there
                    subchannels = [self._subchannels.pop(address, None) for address in gone]
                    for bound in self._bounds:
                        for address in gone:
                            bound.pop(address, None)
            for subchannel in subchannels:
                if subchannel is not None:
                    self._close_subchannel(subchannel)

    def _policy_of(self, method: str) -> Policy:
        """The most specific one: the method's own, its service's, the channel's."""
        return self._named_policy_of(method) or self._policy

    def _named_policy_of(self, method: str) -> Policy | None:
        """The method's own or its service's; None if it has but the channel's."""
        service = method[: method.rfind("/") + 1]
        return self._methods.get(method, self._methods.get(service))

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ValueError("this Channel was closed: make a new one to call again")

    def _note(self, member: Member) -> None:
        """Runs inside the lock: what the pool says is told to the observer later."""
        breaker, now = member.breaker, time.monotonic()
        opened = breaker.state is State.OPEN
        if opened and self._resolution is not None:
            self._resolution.soon()  # it may have moved
        if self._observer is not None:
            self._notices.append(
                Ejected(now, member.endpoint, breaker.until - now) if opened else Readmitted(now, member.endpoint)
            )

    def _checked(self, address: str, answer: Answer, serving: bool) -> None:
        """An endpoint was asked whether it can serve."""
        now = time.monotonic()
        with self._lock:
            news = self._pool.checked(address, answer, serving, now)
            endpoint = self._pool.endpoint(address)
        if news and endpoint is not None:
            self._tell(HealthChanged(now, endpoint, serving))

    def _tell(self, event: Event) -> None:
        if self._observer is not None:
            while self._notices:
                with contextlib.suppress(IndexError):  # another thread was quicker
                    tell(self._observer, self._notices.popleft())
            tell(self._observer, event)


class Asked:
    """The endpoints of a channel, for its health checks; none once the channel has been dropped."""

    def __init__(self, channel: Shared) -> None:
        self._channel = weakref.ref(channel)

    def members(self) -> list[str]:
        channel = self._channel()
        return [] if channel is None else [member.endpoint.address for member in channel._pool.members]

    def subchannel(self, address: str) -> Any:
        channel = self._channel()
        if channel is None or not channel._pool.knows(address):
            raise ValueError(f"{address} is no endpoint any more")
        return channel._subchannel(address)

    def checked(self, address: str, answer: Answer, serving: bool) -> None:
        channel = self._channel()
        if channel is not None:
            channel._checked(address, answer, serving)


def _tell_if_there(method: weakref.WeakMethod[Any], news: Any) -> None:
    """Calls it, unless its channel was dropped."""
    told = method()
    if told is not None:
        told(news)


def configuration(
    *,
    balancer: object,
    policy: object,
    methods: object = None,
    failover: object,
    budget: object,
    load_reports: object = None,
) -> list[str]:
    """What is wrong with these arguments of a channel; empty if nothing is."""
    problems: list[str] = []
    if isinstance(balancer, type) or not isinstance(balancer, Balancer):
        problems.append(f"balancer must be a balancer, such as RoundRobin(); got {balancer!r}")
    problems += instance("policy", policy, Policy, "Policy(timeout=1.0)")
    if methods is not None:
        problems += _methods(methods)
    if failover is not None:
        problems += instance("failover", failover, Failover, "Failover(), or None for no failover")
    if load_reports is not None:
        problems += instance("load_reports", load_reports, LoadReports, "LoadReports(), or None for none")
    return problems + instance("budget", budget, RetryBudget, "RetryBudget()")


def _methods(methods: object) -> list[str]:
    if not isinstance(methods, Mapping):
        return [f"methods must be a dict of policies by method, or None for none; got {methods!r}"]
    problems: list[str] = []
    for name, value in methods.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            problems.append(
                f"methods must be named '/package.Service/Method', or '/package.Service/' for all of one; got {name!r}"
            )
        problems += instance(f"methods[{name!r}]", value, Policy, "Policy(timeout=1.0)")
    return problems


def endpoints_of(endpoints: object) -> tuple[list[Endpoint], list[str]]:
    """The endpoints of a fixed list (none of a resolver), and what is wrong with them."""
    if isinstance(endpoints, Resolver):
        return [], wrong_with(endpoints)
    if isinstance(endpoints, str):
        return [], [f"endpoints must be a list of addresses; got the text {endpoints!r} (put it in brackets)"]
    if isinstance(endpoints, Mapping) or not isinstance(endpoints, Iterable):
        return [], [f"endpoints must be a list of addresses, such as ['10.0.0.1:50051']; got {endpoints!r}"]
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
