"""A channel's configuration goes to JSON and back, and a bad one says what is wrong, where, and what to do."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import random
import re
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest
from greeters import DRIVERS, HELLO, Servers, calling, named
from hypothesis import given, settings
from hypothesis import strategies as st

from protos import hello_pb2_grpc
from stormproof import (
    Adaptive,
    Backoff,
    CallError,
    Channel,
    ChannelConfig,
    Checkpoint,
    Code,
    ConsistentHash,
    Endpoint,
    Failover,
    Hedge,
    LeastRequest,
    PeakEwma,
    Policy,
    RandomChoice,
    Retry,
    RetryBudget,
    RoundRobin,
    aio,
)
from stormproof.observer import AttemptBegan

SHOP = ChannelConfig(
    endpoints=["10.0.0.1:50051", Endpoint("10.0.0.2:50051", weight=2.0, priority=1)],
    balancer=PeakEwma(decay=5.0),
    policy=Policy(timeout=None, retry=Retry(attempts=4, on={Code.ABORTED, Code.UNAVAILABLE}), idempotent=True),
    methods={"/shop.Cart/": Policy(retry=None, hedge=Hedge(after=0.05)), "/shop.Cart/Get": Policy(attempt_timeout=0.1)},
    failover=None,
    budget=RetryBudget.unlimited(),
    options=[("grpc.keepalive_time_ms", 10_000), ("grpc.primary_user_agent", "shop")],
    seed=7,
)
PLAIN = {"schema": 1, "endpoints": ["10.0.0.1:50051"]}


@pytest.fixture
def one():
    servers = Servers(1)
    yield servers
    servers.stop()


@pytest.fixture(params=DRIVERS)
def driver(request):
    return request.param


def test_it_holds_every_argument_of_a_channel_that_is_data():
    """A new argument of Channel needs a field of the same name and default here, or a place among the exceptions."""
    not_data = {"self", "credentials", "compression", "observer"}
    for channel in (Channel, aio.Channel):
        arguments = inspect.signature(channel.__init__).parameters
        assert {field.name for field in fields(ChannelConfig)} == set(arguments) - not_data
    plain = ChannelConfig(endpoints=["10.0.0.1:50051"])
    unset = {"endpoints": plain.endpoints, "methods": None}
    wanted = {name: unset.get(name, arguments[name].default) for name in arguments if name not in not_data}
    assert {name: getattr(plain, name) for name in wanted} == {**wanted, "methods": {}}


def test_what_is_written_is_read_as_an_equal_value():
    """Every field away from its default; sets, infinity and None come back, and endpoints have become `Endpoint`s."""
    assert ChannelConfig.from_json(SHOP.to_json()) == SHOP
    assert SHOP.endpoints == (Endpoint("10.0.0.1:50051"), Endpoint("10.0.0.2:50051", weight=2.0, priority=1))


seconds = st.floats(0.001, 100)
retries = st.builds(
    Retry,
    attempts=st.integers(1, 10),
    backoff=st.builds(Backoff, base=seconds, multiplier=st.floats(1, 100), cap=seconds),
    on=st.frozensets(st.sampled_from(sorted(set(Code) - {Code.OK}))),
)
policies = st.builds(
    Policy,
    timeout=st.none() | seconds,
    attempt_timeout=st.none() | seconds,
    retry=st.none() | retries,
    hedge=st.none() | st.builds(Hedge, after=seconds, attempts=st.integers(2, 5)),
    idempotent=st.booleans(),
)
balancers = st.one_of(
    st.builds(LeastRequest, choices=st.none() | st.integers(2, 10)),
    st.builds(PeakEwma, decay=seconds, failure=seconds, probe=seconds),
    st.builds(Adaptive, probe=seconds),
    st.builds(
        ConsistentHash,
        header=st.from_regex(r"[a-z0-9_.-]+", fullmatch=True),
        bound=st.none() | st.floats(1, 100),
        points=st.integers(1, 10_000),
    ),
    st.sampled_from([RoundRobin(), RandomChoice()]),
)
configs = st.builds(
    ChannelConfig,
    endpoints=st.lists(
        st.builds(Endpoint, st.sampled_from(["a:1", "b:2", "unix:/c"]), st.floats(0, 1e12), st.integers(0, 1000)),
        min_size=1,
        unique_by=lambda endpoint: endpoint.address,
    ),
    balancer=balancers,
    policy=policies,
    methods=st.dictionaries(st.sampled_from(["/a.B/", "/a.B/C", "/b/Ü"]), policies),
    failover=st.none() | st.builds(Failover, consecutive=st.integers(1, 1000), base=seconds, cap=seconds),
    budget=st.just(RetryBudget.unlimited()) | st.builds(RetryBudget, ratio=st.floats(0, 1)),
    options=st.lists(st.tuples(st.text(), st.text() | st.integers(-(2**31), 2**31))),
    seed=st.none() | st.integers(0, 2**63),
)


@settings(max_examples=50, deadline=None)
@given(configs)
def test_any_configuration_survives_json(config):
    """Written and read it is equal, to the last bit of every float."""
    assert ChannelConfig.from_json(config.to_json()) == config


def test_fields_that_are_left_out_have_their_defaults():
    """A text by hand says what differs, and an endpoint may be its address."""
    text = '{"schema": 1, "endpoints": ["a:1"], "policy": {"type": "Policy", "timeout": 0.3}}'
    assert ChannelConfig.from_json(text) == ChannelConfig(endpoints=["a:1"], policy=Policy(timeout=0.3))


@dataclass(frozen=True)
class Newest:
    """A balancer of a team's own: the last endpoint of those that may be picked."""

    def picker(self, rng: random.Random) -> Newest:
        return self

    def pick(self, eligible, now):
        return eligible.members[-1]

    def load(self):
        return None


def test_a_balancer_of_ones_own_is_named_by_its_module():
    """It comes back where its module has been imported. Reading imports nothing itself."""
    mine = ChannelConfig(endpoints=["a:1"], balancer=Newest())
    assert json.loads(mine.to_json())["balancer"] == {"type": f"{__name__}:Newest"}
    assert ChannelConfig.from_json(mine.to_json()) == mine
    assert "this" not in sys.modules
    with pytest.raises(
        ValueError, match="^balancer: no class is named 'this:Zen'.*a module that the program has imported"
    ):
        ChannelConfig.from_json(json.dumps({**PLAIN, "balancer": {"type": "this:Zen"}}))
    assert "this" not in sys.modules


@dataclass(frozen=True)
class From:
    """A function that is data: what to ask for after a broken stream."""

    step: int

    def __call__(self, request, last):
        return request + last * self.step


def test_a_function_that_is_a_dataclass_is_data():
    """Where a policy wants a function, one of these goes to JSON and back."""
    config = ChannelConfig(endpoints=["a:1"], policy=Policy(checkpoint=Checkpoint(resume=From(2))))
    again = ChannelConfig.from_json(config.to_json())
    assert again == config
    assert again.policy.checkpoint.resume(1, 3) == 7


@dataclass(frozen=True)
class Field:
    """Another: the key of a call is this entry of its request."""

    name: str

    def __call__(self, request, metadata):
        return request and request[self.name]


def test_the_key_of_a_balancer_is_data_too():
    """A function that is a dataclass gives the same keys after JSON."""
    config = ChannelConfig(endpoints=["a:1"], balancer=ConsistentHash(key=Field("user"), bound=None))
    again = ChannelConfig.from_json(config.to_json())
    assert again == config
    assert again.balancer.key_of({"user": "Ada"}, None) == "Ada"
    with pytest.raises(TypeError, match=r"^balancer.key: .*in place of a function, a frozen dataclass with __call__"):
        ChannelConfig(endpoints=["a:1"], balancer=ConsistentHash(key=max)).to_json()


def test_what_could_not_be_read_again_is_not_written():
    """A class inside a function, and a part that is no data: TypeError, with the path."""

    @dataclass(frozen=True)
    class Inside(Newest):
        pass

    @dataclass(frozen=True)
    class Keyed(Newest):
        key: object = print

    Keyed.__qualname__ = "Keyed"
    resuming = Policy(checkpoint=Checkpoint(resume=max))
    with pytest.raises(TypeError, match="Inside cannot be written as JSON: move the class to the top of its module"):
        ChannelConfig(endpoints=["a:1"], balancer=Inside()).to_json()
    with pytest.raises(TypeError, match="^balancer.key: <built-in function print> cannot be written as JSON"):
        ChannelConfig(endpoints=["a:1"], balancer=Keyed()).to_json()
    with pytest.raises(TypeError, match=r"^methods\['/a/b'\].checkpoint.resume: .*a frozen dataclass with __call__"):
        ChannelConfig(endpoints=["a:1"], methods={"/a/b": resuming}).to_json()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not a JSON text"),
        ("[]", r"must be a JSON object, as to_json writes it; got \[\]"),
        ("{}", "schema must be the number of this format's version, 1 today; got None"),
        ('{"schema": 2}', "schema must be 1 or less; got 2 .a newer stormproof wrote it: upgrade"),
        ('{"schema": 1, "type": "Policy"}', "type must be 'ChannelConfig'; got 'Policy'"),
        ('{"schema": 1}', "ChannelConfig cannot be made of nothing: it needs endpoints too"),
    ],
)
def test_a_text_that_is_no_configuration_says_so(text, says):
    """JSON, object, version, type, and what cannot be left out."""
    with pytest.raises(ValueError, match=says):
        ChannelConfig.from_json(text)


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"polcy": 1}, "ChannelConfig cannot be made of polcy: it has endpoints, balancer, policy, methods"),
        (
            {"balancer": {"type": "RoundRobbin"}},
            "^balancer: no class is named 'RoundRobbin': use a name that stormproof",
        ),
        ({"balancer": {"type": "os:system"}}, "^balancer: 'os:system' must be a dataclass"),
        ({"balancer": {"type": 3}}, "^balancer: no class is named 3"),
        ({"balancer": {"type": "Retry"}}, "balancer must be a balancer, such as RoundRobin"),
        (
            {"policy": {"timeout": 1}},
            """policy must be a Policy, .*; got {'timeout': 1} .*names its class with "type".""",
        ),
        ({"policy": {"type": "Policy", "timeout": "1s"}}, "^policy: Policy: timeout must be a number.*; got '1s'"),
        (
            {"policy": {"type": "Policy", "retry": {"type": "Retry", "on": 5}}},
            "^policy.retry: Retry: on must be a set of gRPC status codes.*; got 5",
        ),
        ({"methods": {"/a.B/C": None}}, "methods../a.B/C.. must be a Policy, such as .*; got None"),
        ({"methods": []}, "methods must be a dict of policies by method"),
        ({"budget": {"type": "RetryBudget", "ratio": {"type": "float"}}}, "^budget.ratio: float .* it needs value too"),
        (
            {"endpoints": {"a:1": 1}},
            "endpoints must be a list of addresses, such as .'10.0.0.1:50051'.; got {'a:1': 1}",
        ),
        (
            {"endpoints": [{"type": "Endpoint"}]},
            r"^endpoints\[0\]: Endpoint cannot be made of nothing: it needs address",
        ),
        (
            {"options": [["grpc.x", 1.5]]},
            r"options\[0\] must be a name and a text or whole number, .*; got \('grpc.x', 1.5\)",
        ),
        ({"options": "grpc.x"}, "options must be a list of pairs"),
        ({"seed": "7"}, "seed must be a whole number, or None for another one each time; got '7'"),
    ],
)
def test_a_bad_part_says_where_and_what(part, says):
    """Path, value and way out."""
    with pytest.raises(ValueError, match=says):
        ChannelConfig.from_json(json.dumps({**PLAIN, **part}))


def test_problems_in_several_places_are_told_together():
    """Nobody fixes a file one error at a time."""
    retry = {"type": "Retry", "attempts": 99, "backof": 3}
    parts = {"balancer": {"type": "Fastest"}, "methods": {"/a.B/C": {"type": "Policy", "retry": retry}}, "sed": 1}
    budget = {"type": "RetryBudget", "window": 0}
    told = r"^balancer: .*; methods\['/a.B/C'\].retry: .* backof: .*; budget: .*got 0; ChannelConfig cannot .* sed: "
    with pytest.raises(ValueError, match=told):
        ChannelConfig.from_json(json.dumps({**PLAIN, **parts, "budget": budget}))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(json.loads(SHOP.to_json()))), anything)
def test_no_text_gets_more_than_a_value_error(field, garbage):
    """Whatever stands in a field, the answer is a configuration or a ValueError."""
    with contextlib.suppress(ValueError):
        config = ChannelConfig.from_json(json.dumps({**json.loads(SHOP.to_json()), field: garbage}))
        assert isinstance(config, ChannelConfig)


def test_bad_values_are_all_told_when_it_is_built():
    """The same checks as those of Channel, and those of what is to be data."""
    with pytest.raises(ValueError, match=r"^ChannelConfig: endpoints.*methods must be named.*budget.*options.*seed"):
        ChannelConfig(endpoints=["nowhere"], methods={"Get": Policy()}, budget=1, options=[("x", None)], seed=0.5)


def threads(config, observer):
    with config.channel(observer=observer) as channel:
        hello_pb2_grpc.HelloStub(channel).SayHello(named("fail"))


async def tasks(config, observer):
    async with config.aio_channel(observer=observer) as channel:
        await hello_pb2_grpc.HelloStub(channel).SayHello(named("fail"))


@pytest.mark.parametrize("greet", [threads, lambda *given: asyncio.run(tasks(*given))], ids=["threads", "asyncio"])
def test_a_channel_of_it_has_these_arguments(greet, one):
    """Policies, endpoints and budget are those of the configuration; an observer is given when the channel is made."""
    config = replace(SHOP, endpoints=one.addresses, methods={HELLO: Policy(retry=Retry(attempts=2))})
    events: list = []
    with pytest.raises(CallError) as caught:
        greet(config, events.append)
    assert caught.value.attempts == 2
    assert [event.endpoint.address for event in events if isinstance(event, AttemptBegan)] == one.addresses * 2


@pytest.mark.parametrize(
    ("methods", "attempts"),
    [
        ({}, 1),
        ({"/hello.Hello/": 2}, 2),
        ({"/hello.Hello/": 2, HELLO: 3}, 3),
        ({HELLO: 3, "/hello.Hello/": 2}, 3),
        ({"/hello.Hell/": 2, "/hello.Hello/SayHell": 2, "/hello.Hello/Say": 2}, 1),
    ],
)
def test_the_most_specific_policy_counts(driver, one, methods, attempts):
    """The method's own, then that of its service ("/package.Service/"), then the channel's: one of them, whole."""
    policies = {name: Policy(retry=Retry(attempts=n, backoff=Backoff(base=0.0))) for name, n in methods.items()}
    with calling(driver, one.addresses, policy=Policy(retry=None), methods=policies) as client:
        with pytest.raises(CallError) as caught:
            client.call("fail")
    assert caught.value.attempts == attempts


@pytest.mark.parametrize("name", ["SayHello", "/hello.Hello", "//SayHello", "//", "/a/b/c", "/a b/c", "", 7])
def test_a_name_that_can_match_no_method_is_refused(name):
    """A misspelled name would silently be no policy."""
    with pytest.raises(
        ValueError, match="methods must be named '/package.Service/Method', or '/package.Service/' for all"
    ):
        Channel(["10.0.0.1:50051"], methods={name: Policy()})


NO_ATTEMPT = '0.3, "retry": {"type": "Retry", "attempts": 0}},'


def test_the_page_about_configuration_is_true():
    """docs/config.md: its JSON is its Python, its errors and notes are the ones that come."""
    page = (Path(__file__).parents[2] / "docs" / "config.md").read_text()
    (by_hand, mistake, service_config, notes), (built, imported) = blocks(page, "json|text"), blocks(page, "python")
    names: dict = {"service_config": service_config}
    exec(built, names)
    names["channel"].close()
    assert ChannelConfig.from_json(by_hand) == names["config"]
    with pytest.raises(ValueError, match="PeakEvma") as caught:
        ChannelConfig.from_json(by_hand.replace("PeakEwma", "PeakEvma").replace("0.3},", NO_ATTEMPT))
    assert str(caught.value) == "; ".join(mistake.splitlines())
    exec(imported, names)
    assert "\n".join(names["imported"].notes) == notes.strip()


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"```(?:{kind})\n(.*?)```", page, re.DOTALL)
