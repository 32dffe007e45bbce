"""Uses of every public name as a user's code has them: type-checked by `make check` (mypy strict), and never run.

What does not type-check here is a mistake in the types of the library, not in this file. `tests/test_api_uses.py` holds
it to be complete.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, assert_type

import grpc
import grpc.aio
import pytest
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

import stormproof.aio
from faults import (
    Bandwidth,
    Blackhole,
    ColdStart,
    CpuHog,
    Drain,
    Errors,
    Fault,
    FileDescriptors,
    Hang,
    Injection,
    Kill,
    Latency,
    MemoryHog,
    MemoryLimit,
    Named,
    Overload,
    PacketLoss,
    Partition,
    Pause,
    Refuse,
    Reset,
    Restart,
    Slice,
    SlowClose,
    Some,
    StaleHealth,
    Target,
    Toxic,
    Truncate,
    WrongAnswer,
    at,
    during,
    every,
    every_so_often,
    majority,
    named,
    one,
    rolling,
    some,
)
from harness import (
    GREETINGS,
    AtMostOnce,
    Available,
    AvoidsFaulty,
    Batch,
    Client,
    Closed,
    EvenShare,
    Fast,
    GrpcClient,
    HealthyShare,
    LogNormal,
    NoRetryStorm,
    Normal,
    NoStrays,
    NothingLost,
    Pareto,
    Poisson,
    Recovers,
    Resumes,
    RetriesElsewhere,
    Scenario,
    Servers,
    SpreadsRetries,
    Steady,
    StopsWork,
    Streams,
    Trace,
    Uncut,
    WeightedShare,
    WithinBudget,
    WithinDeadline,
)
from harness.fleet.deployment import Deployment
from harness.runner import Result
from stormproof import (
    Adaptive,
    Backoff,
    Balancer,
    CallError,
    Channel,
    ChannelConfig,
    Checkpoint,
    CheckpointError,
    CheckpointStore,
    Code,
    ConsistentHash,
    Dns,
    Endpoint,
    Evidence,
    Failover,
    File,
    HealthCheck,
    Hedge,
    Keyed,
    KeyedPicker,
    LeastRequest,
    LoadReports,
    Mark,
    Outcome,
    PeakEwma,
    Picker,
    Policy,
    Polled,
    RandomChoice,
    Resolver,
    Retry,
    RetryBudget,
    RoundRobin,
    SlowStart,
    StoreInUse,
    Subset,
    checkpointed,
    checkpointed_stream,
    from_service_config,
)
from stormproof.core.eligible import Eligible
from stormproof.core.load import Load
from stormproof.core.pool import Member
from stormproof.observer import AttemptBegan, AttemptEnded, CallBegan, CallEnded, Ejected, Event, Readmitted, observers
from stormproof.orca import report_in
from stormproof.otel import OpenTelemetry
from stormproof.server import LoadReport, LoadReporter

ADDRESSES = ["10.0.0.1:50051", "10.0.0.2:50051"]


class GetRequest:
    """A message, as protoc and its type stubs make one."""

    def __init__(self, *, id: int) -> None: ...
    def SerializeToString(self) -> bytes: ...  # type: ignore[empty-body] # noqa: N802


class GetReply:
    """Its answer."""

    name: str


class CartStub:
    """A stub, in the words of mypy-protobuf."""

    def __init__(self, channel: grpc.Channel) -> None: ...

    Get: grpc.UnaryUnaryMultiCallable[GetRequest, GetReply]
    Watch: grpc.UnaryStreamMultiCallable[GetRequest, GetReply]
    Fill: grpc.StreamUnaryMultiCallable[GetRequest, GetReply]
    Chat: grpc.StreamStreamMultiCallable[GetRequest, GetReply]


class CartAsyncStub:
    """The same for asyncio."""

    def __init__(self, channel: grpc.aio.Channel) -> None: ...

    Get: grpc.aio.UnaryUnaryMultiCallable[GetRequest, GetReply]
    Watch: grpc.aio.UnaryStreamMultiCallable[GetRequest, GetReply]


def a_generated_stub_takes_a_channel() -> None:
    with Channel(ADDRESSES, balancer=PeakEwma(), policy=Policy(timeout=1.0, retry=Retry(attempts=3))) as channel:
        assert_type(channel, Channel)
        cart = CartStub(channel)
        assert_type(cart.Get(GetRequest(id=7), timeout=0.3, metadata=(("tenant", "a"),)), GetReply)
        reply, call = cart.Get.with_call(GetRequest(id=7), wait_for_ready=True)
        print(reply.name, call.code(), cart.Get.future(GetRequest(id=7)).result(timeout=1.0).name)
        print([reply.name for reply in cart.Watch(GetRequest(id=7))])
        print(cart.Fill(iter([GetRequest(id=7)])).name, [reply.name for reply in cart.Chat(iter([GetRequest(id=7)]))])


def a_channel_is_a_grpc_channel(interceptor: grpc.UnaryUnaryClientInterceptor) -> None:
    channel: grpc.Channel = Channel(ADDRESSES, credentials=grpc.ssl_channel_credentials(), options=[("grpc.x", 1)])
    grpc.channel_ready_future(channel).result(timeout=5.0)
    CartStub(grpc.intercept_channel(channel, interceptor)).Get(GetRequest(id=7))
    channel.subscribe(lambda state: print(state is grpc.ChannelConnectivity.READY), try_to_connect=True)
    channel.close()


async def an_asyncio_stub_takes_a_channel() -> None:
    async with stormproof.aio.Channel(ADDRESSES, policy=Policy(hedge=Hedge(after=0.05))) as channel:
        base: grpc.aio.Channel = channel
        cart = CartAsyncStub(base)
        await channel.channel_ready()
        assert_type(await cart.Get(GetRequest(id=7), timeout=0.3), GetReply)


def after(request: GetRequest, last: GetReply) -> GetRequest:
    print(request, last.name)
    return GetRequest(id=8)


def policies() -> Channel:
    careful = Policy(timeout=None, attempt_timeout=0.1, retry=None, idempotent=True)
    often = Retry(attempts=5, backoff=Backoff(base=0.01, multiplier=2.0, cap=1.0), on=frozenset({Code.ABORTED}))
    resuming = Policy(checkpoint=Checkpoint(resume=after))
    return Channel(
        [Endpoint("10.0.0.1:50051", weight=2.0), Endpoint("10.0.0.2:50051", priority=1), "unix:/run/cart"],
        balancer=LeastRequest(choices=None),
        policy=careful,
        methods={"/shop.Cart/": Policy(retry=often), "/shop.Cart/Watch": resuming},
        failover=Failover(consecutive=3, rate=0.5, minimum=10, base=0.5, cap=1.5),
        budget=RetryBudget(ratio=0.2, per_second=1.0, window=10.0),
        compression=grpc.Compression.Gzip,
        seed=7,
    )


def errors_say_what_happened(cart: CartStub) -> None:
    try:
        cart.Get(GetRequest(id=7))
    except CallError as error:
        assert_type(error.code(), grpc.StatusCode)
        assert_type(error.outcome, Outcome)
        lost = error.outcome.evidence is Evidence.LOST and error.may_have_happened
        print(error.details(), error.attempts, error.endpoints, error.advice, lost, error.outcome.code is Code.ABORTED)
    except grpc.RpcError:
        raise


def observer(event: Event) -> None:
    match event:
        case CallBegan(method=method) | CallEnded(outcome=Outcome(message=method)):
            print(method)
        case AttemptBegan(endpoint=endpoint) | Ejected(endpoint=endpoint) | Readmitted(endpoint=endpoint):
            print(endpoint.address)
        case AttemptEnded():
            assert_type(event.outcome, Outcome)


def a_channel_is_observed(tracers: TracerProvider, meters: MeterProvider) -> None:
    telemetry = OpenTelemetry(target="shop", methods=["/shop.Cart/"], tracer_provider=tracers, meter_provider=meters)
    Channel(ADDRESSES, observer=telemetry).close()
    Channel(ADDRESSES, observer=observers(OpenTelemetry(), observer, print)).close()


@dataclass(frozen=True)
class Newest:
    """A balancer of one's own."""

    def picker(self, rng: random.Random) -> Picker:
        print(rng.random())
        return NewestPicker()


class NewestPicker:
    """Its running state."""

    def pick(self, eligible: Eligible, now: float) -> Member:
        print(now)
        return eligible.members[-1]

    def load(self) -> Load | None:
        return None


@dataclass(frozen=True)
class NewestForAll(Newest):
    """A balancer of one's own that looks at the call, too."""

    def picker(self, rng: random.Random) -> KeyedPicker:
        print(rng.random())
        return NewestForAllPicker()

    def key_of(self, request: Any, metadata: Sequence[tuple[str, str | bytes]] | None) -> str | None:
        print(metadata)
        return "all" if request is None else None


class NewestForAllPicker(NewestPicker):
    """Its running state."""

    def pick_for(self, key: str, eligible: Eligible, tried: Sequence[Member], now: float) -> Member:
        print(key, now)
        return next((member for member in eligible.members if member not in tried), eligible.members[-1])


def user_of(request: GetRequest, metadata: Sequence[tuple[str, str | bytes]] | None) -> str | None:
    print(metadata)
    return str(request)


def keyed() -> list[Keyed]:
    by_user = ConsistentHash(key=user_of, bound=None, points=1000)
    print(by_user.key_of(GetRequest(id=1), [("user-id", "7")]))
    return [ConsistentHash(header="user-id"), by_user, NewestForAll()]


def balancers() -> list[Balancer]:
    return [RoundRobin(), RandomChoice(), LeastRequest(), PeakEwma(decay=5.0), Adaptive(probe=0.5), Newest()]


@dataclass(frozen=True)
class Registry:
    """A resolver of one's own."""

    shop: str
    period: float = 5.0

    def resolve(self) -> list[Endpoint | str]:
        return [Endpoint(f"{self.shop}-1:50051", weight=2.0), f"{self.shop}-2:50051"]


def endpoints_come_and_go() -> list[ChannelConfig]:
    cart = Dns("cart.internal:50051", period=30.0)
    sources: list[Resolver] = [
        cart,
        File("endpoints.json"),
        File(Path("endpoints"), period=0.5),
        Polled(lambda: ADDRESSES),
        Registry("cart"),
        Subset(cart, size=20),
        Subset(ADDRESSES, size=1, identity="client-7"),
    ]
    return [ChannelConfig(endpoints=source) for source in sources]


def how_endpoints_are_weighed_and_asked() -> list[object]:
    weighed = LoadReports(blackout=5.0, expiry=60.0, period=0.5, error_penalty=2.0)
    asked = HealthCheck(service="shop.Cart", interval=5.0, timeout=0.5, failures=3)
    return [weighed, SlowStart(window=30.0, floor=0.05, aggression=2.0), SlowStart(window=30.0).factor(10.0), asked]


def servers_report_their_load(servicer: grpc.GenericRpcHandler, call: grpc.Call) -> None:
    reporter = LoadReporter(lambda: LoadReport(application_utilization=0.5, named_metrics={"queue": 3}))
    grpc.server(ThreadPoolExecutor(8), handlers=[servicer], interceptors=[reporter])
    grpc.aio.server(interceptors=[LoadReporter()])
    report = report_in(call.trailing_metadata())
    print(report and (report.qps, report.eps, report.cpu_utilization, report.named_metrics.get("queue")))


def configuration_is_data() -> None:
    config = ChannelConfig(endpoints=ADDRESSES, balancer=Newest(), methods={"/shop.Cart/": Policy(timeout=0.3)})
    again = ChannelConfig.from_json(config.to_json())
    channel = replace(again, seed=7).channel(observer=observer, credentials=grpc.ssl_channel_credentials())
    assert_type(channel, Channel)
    assert_type(again.aio_channel(), stormproof.aio.Channel)
    imported = from_service_config({"loadBalancingConfig": [{"round_robin": {}}]}, ADDRESSES, idempotent=True)
    assert_type(imported.config, ChannelConfig)
    print(*from_service_config("{}", [Endpoint("10.0.0.1:50051")]).notes, sep="\n")


def a_batch_that_survives(names: list[str], greet: Callable[[str, Mark], int]) -> Iterator[int]:
    try:
        with CheckpointStore("greetings.db") as store:
            yield from checkpointed(names, greet, store=store, name="greetings", every=10)
    except StoreInUse:
        print("another process is at it")
    except CheckpointError as error:
        print(error)


def page(request: GetRequest, cursor: int) -> GetRequest:
    print(request)
    return GetRequest(id=cursor)


def number(reply: GetReply) -> int:
    return len(reply.name)


PAGES = Checkpoint(resume=page, cursor=number)


def a_stream_that_survives(cart: CartStub, store: CheckpointStore) -> None:
    tenant = partial(cart.Watch, metadata=(("tenant", "a"),))
    first = GetRequest(id=0)
    for reply, mark in checkpointed_stream(cart.Watch, first, checkpoint=PAGES, store=store, name="carts", every=10):
        assert_type(reply, GetReply)
        assert_type(mark, Mark)
        print(mark.index, mark.key, mark.repeat, mark.metadata)
    print(next(checkpointed_stream(tenant, first, checkpoint=PAGES, store=store, name="a", fingerprint="2026")))


async def an_asyncio_stream_that_survives(cart: CartAsyncStub, store: CheckpointStore) -> None:
    stream = stormproof.aio.checkpointed_stream(
        cart.Watch, GetRequest(id=0), checkpoint=PAGES, store=store, name="carts", every=10
    )
    async with aclosing(stream):
        async for reply, mark in stream:
            assert_type(reply, GetReply)
            assert_type(mark, Mark)


FAULTS: list[Fault] = [
    Latency(0.3, jitter=0.05), Bandwidth(10_000, towards="client"), Blackhole(), Reset(after=0.1), Refuse(),
    SlowClose(0.5), Slice(100, variation=20, delay=0.001), Truncate(1000), PacketLoss(0.01, correlation=0.5), Partition(),
    Kill(), Drain(grace=10.0), Pause(), Restart(downtime=0.5), CpuHog(0.8), FileDescriptors(left=2), MemoryLimit(10_000),
    Errors(0.2, code="INTERNAL"), Overload(10), Hang(0.1), WrongAnswer(0.1), ColdStart(0.2, lasting=5.0), StaleHealth(),
    MemoryHog(10_000_000),
]  # fmt: skip
TARGETS: list[Target] = [one, majority, every, some(2), named("server-0", "client"), Some(1), Named(("server-1",))]
TOXIC = Toxic(type="latency", stream="downstream", attributes={"latency": 300})
TIMES: list[Injection] = [
    during(1.5, 7.5, Latency(0.3), on=one),
    at(2.0, Kill(), on=named("server-0")),
    every_so_often(2.0, Pause(), lasting=0.5, start=1.0, end=6.0, on=majority),
    *rolling(1.0, 1.0, Restart(), count=4),
]

BAD_DAY = Scenario(
    servers=Servers(4, service_time=0.002, weights=(1, 1, 2, 2)),
    client=Client(balancer=PeakEwma(), policy=Policy(timeout=1.0), checkpoint_every=10),
    workload=Poisson(rate=100, seconds=8),
    faults=TIMES,
    guarantees=[
        Available(0.99), Fast(p90=0.05, grace=1.0), WithinDeadline(1.0), EvenShare(), WeightedShare(), AtMostOnce(),
        NoRetryStorm(attempts_per_call=1.2), NothingLost(), Recovers(within=2.0), AvoidsFaulty(within=1.0), Resumes(every=10),
        HealthyShare(within=0.3), RetriesElsewhere(), SpreadsRetries(window=0.002), StopsWork(within=0.2),
        WithinBudget(attempts=3, ratio=0.1, per_second=1.0, window=10.0), NoStrays(tolerance=0.1),
    ],
)  # fmt: skip
OTHER_DAYS = [
    replace(BAD_DAY, workload=Steady(rate=10, seconds=5), client=GrpcClient(timeout=1.0)),
    replace(BAD_DAY, workload=Closed(callers=4, seconds=5), guarantees=(Available(0.9),)),
    replace(BAD_DAY, workload=Batch(items=100), faults=()),
    replace(
        BAD_DAY,
        client=Client(policy=Policy(checkpoint=GREETINGS), checkpoint_every=5),
        workload=Streams(rate=10, seconds=5, messages=20),
        guarantees=[Uncut(), Uncut(every=5)],
    ),
    *(
        replace(BAD_DAY, servers=Servers(4, service_time=service_time, workers=4, queue=20, cold_start=0.5))
        for service_time in (
            Normal(0.01, deviation=0.002), LogNormal(0.005, sigma=0.7), Pareto(0.002, shape=1.5), Trace((0.002, 0.003, 0.09)),
        )
    ),
]  # fmt: skip


@dataclass(frozen=True)
class OurClient:
    """A client of one's own: anything that makes a grpc.Channel."""

    def channel(self, endpoints: Sequence[Endpoint], *, seed: int, observer: Callable[[Event], None]) -> grpc.Channel:
        return Channel(endpoints, seed=seed, observer=observer)


def test_a_scenario(run: Callable[[Scenario], Result]) -> None:
    result = run(replace(BAD_DAY, client=OurClient()))
    result.check()
    assert result.broken == ["Fast"] or result.verdict == "held"


@pytest.mark.servers(Servers(3, service_time=0.005))
def test_by_hand(fleet: Deployment) -> None:
    with fleet.fault(Latency(0.3), on="server-1"), Channel(list(fleet.addresses.values())) as channel:
        CartStub(channel).Get(GetRequest(id=7))
