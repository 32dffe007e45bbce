"""What a team has as a gRPC service config becomes a ChannelConfig; what cannot be carried over exactly is noted."""

from __future__ import annotations

import json
from contextlib import suppress

import grpc
import pytest
from greeters import HELLO, Servers, named
from hypothesis import given, settings
from hypothesis import strategies as st

from protos import hello_pb2_grpc
from stormproof import (
    Backoff,
    CallError,
    ChannelConfig,
    Code,
    Endpoint,
    Hedge,
    LeastRequest,
    Policy,
    Retry,
    RetryBudget,
    RoundRobin,
    from_service_config,
)

ENDPOINTS = ["10.0.0.1:50051", "10.0.0.2:50051"]
RETRY = {
    "maxAttempts": 3,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
EVERYTHING = {
    "loadBalancingConfig": [{"grpclb": {}}, {"least_request_experimental": {"choiceCount": 3}}, {"round_robin": {}}],
    "methodConfig": [
        {"name": [{}], "timeout": "2.5s"},
        {"name": [{"service": "shop.Cart"}, {"service": "shop.Stock", "method": ""}], "retryPolicy": RETRY},
        {
            "name": [{"service": "shop.Cart", "method": "Get"}],
            "timeout": "0.3s",
            "hedgingPolicy": {"maxAttempts": 2, "hedgingDelay": ".05s", "nonFatalStatusCodes": ["UNAVAILABLE", 13]},
        },
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}


@pytest.fixture
def one():
    servers = Servers(1)
    yield servers
    servers.stop()


def methods(*each: dict) -> dict:
    return {"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": list(each)}


def retrying(**changes) -> dict:
    return methods({"name": [{}], "retryPolicy": {**RETRY, **changes}})


def test_everything_that_a_service_config_says_is_carried_over():
    """Timeouts, retries, hedging, throttling and the balancer, for all methods, a service, a method; the rest is noted."""
    retry = Policy(timeout=None, retry=Retry(attempts=3, backoff=Backoff(base=0.1, multiplier=2.0, cap=1.0)))
    imported = from_service_config(json.dumps(EVERYTHING), ENDPOINTS)
    assert imported.config == ChannelConfig(
        endpoints=ENDPOINTS,
        balancer=LeastRequest(3),
        policy=Policy(timeout=2.5, retry=None),
        methods={
            "/shop.Cart/": retry,
            "/shop.Stock/": retry,
            "/shop.Cart/Get": Policy(timeout=0.3, retry=None, hedge=Hedge(after=0.05, attempts=2)),
        },
        budget=RetryBudget(ratio=0.1, per_second=0.5, window=10.0),
    )
    assert [note.split(": ")[0] for note in imported.notes] == [
        "loadBalancingConfig[0]",
        "methodConfig[0].timeout",
        "methodConfig[1].retryPolicy",
        "methodConfig[1].retryPolicy",
        "methodConfig[2].hedgingPolicy",
        "methodConfig[2].hedgingPolicy.nonFatalStatusCodes",
        "retryThrottling",
    ]


def test_text_bytes_and_decoded_json_say_the_same():
    """A service config comes from a file, from a DNS record, or from code."""
    text = json.dumps(EVERYTHING)
    assert from_service_config(text, ENDPOINTS) == from_service_config(text.encode(), ENDPOINTS)
    assert from_service_config(text, ENDPOINTS) == from_service_config(EVERYTHING, ENDPOINTS)


def test_an_empty_service_config_gives_no_timeout_and_no_retries():
    """As in gRPC. But the calls are spread, and that is noted."""
    imported = from_service_config("{}", ENDPOINTS)
    assert imported.config == ChannelConfig(endpoints=ENDPOINTS, policy=Policy(timeout=None, retry=None))
    assert imported.notes == (
        "loadBalancingConfig: not there, where gRPC calls the first endpoint only; LeastRequest() is used",
    )


def test_work_that_may_have_been_done_is_repeated_only_on_request():
    """gRPC repeats it always. Here the default is not to, with a note; idempotent=True takes gRPC's way, without one."""
    careful = from_service_config(retrying(), ENDPOINTS)
    assert not careful.config.policy.idempotent
    assert any("may have been executed is not repeated, where gRPC does" in note for note in careful.notes)
    as_grpc = from_service_config(retrying(), ENDPOINTS, idempotent=True)
    assert as_grpc.config.policy.idempotent
    assert not any("executed" in note for note in as_grpc.notes)


def test_only_methods_with_a_retry_policy_become_idempotent():
    """idempotent=True is about what gRPC repeats, and it repeats nothing else."""
    config = from_service_config(EVERYTHING, ENDPOINTS, idempotent=True).config
    assert [name for name, policy in config.methods.items() if policy.idempotent] == ["/shop.Cart/", "/shop.Stock/"]


@pytest.mark.parametrize(
    ("service_config", "balancer", "note"),
    [
        ({"loadBalancingConfig": [{"round_robin": {}}]}, RoundRobin(), None),
        ({"loadBalancingPolicy": "ROUND_ROBIN"}, RoundRobin(), None),
        ({"loadBalancingPolicy": "nope", "loadBalancingConfig": [{"round_robin": {}}]}, RoundRobin(), None),
        ({"loadBalancingConfig": [{"least_request_experimental": {}}]}, LeastRequest(2), None),
        ({"loadBalancingConfig": [{"least_request_experimental": {"choiceCount": 99}}]}, LeastRequest(10), None),
        (
            {"loadBalancingConfig": [{"weighted_round_robin": {"blackoutPeriod": "5s"}}]},
            RoundRobin(),
            "loadBalancingConfig[0].weighted_round_robin: the weights are those of the endpoints, not of their load reports",
        ),
        (
            {"loadBalancingConfig": [{"outlier_detection_experimental": {"childPolicy": [{"round_robin": {}}]}}]},
            RoundRobin(),
            "loadBalancingConfig[0].outlier_detection_experimental: its settings are not carried over; "
            "Failover() ejects endpoints by how their calls end",
        ),
        (
            {"loadBalancingConfig": [{"grpclb": {}}]},
            LeastRequest(),
            "loadBalancingConfig: none of them is known here; LeastRequest() is used",
        ),
        (
            {"loadBalancingPolicy": "grpclb"},
            LeastRequest(),
            "loadBalancingPolicy: grpclb is not known here; LeastRequest() is used",
        ),
    ],
)
def test_the_first_known_balancer_is_taken(service_config, balancer, note):
    """gRFC A2, A24: the list first, in its order; the old text where there is no list. What differs is noted last."""
    imported = from_service_config(service_config, ENDPOINTS)
    assert imported.config.balancer == balancer
    assert imported.notes[-1:] == (() if note is None else (note,))


@pytest.mark.parametrize(
    "service_config", [{"loadBalancingConfig": [{"pick_first": {}}]}, {"loadBalancingPolicy": "pick_first"}]
)
def test_pick_first_becomes_a_tier_for_each_endpoint(service_config):
    """The first in the list serves; the next one when no earlier one can."""
    ordered = [Endpoint("spare:1", priority=1), Endpoint("a:1"), Endpoint("b:1")]
    config = from_service_config(service_config, ordered).config
    assert config.endpoints == (Endpoint("a:1"), Endpoint("b:1", priority=1), Endpoint("spare:1", priority=2))


@pytest.mark.parametrize(
    ("changes", "retry", "note"),
    [
        ({"maxAttempts": 9}, Retry(attempts=5), "maxAttempts: 5 is used, the most there is in gRPC too"),
        ({"maxAttempts": "2"}, Retry(attempts=2), None),
        ({"backoffMultiplier": 0.5}, Retry(backoff=Backoff(multiplier=1.0)), "backoffMultiplier: 1 is used"),
        ({"backoffMultiplier": "1.6"}, Retry(backoff=Backoff(multiplier=1.6)), None),
        ({"retryableStatusCodes": ["aborted", 14]}, Retry(on={Code.ABORTED, Code.UNAVAILABLE}), None),
        ({"retryableStatusCodes": ["OK", "ABORTED"]}, Retry(on={Code.ABORTED}), "retryableStatusCodes: without OK"),
        ({"initialBackoff": "1.0000005s"}, Retry(backoff=Backoff(base=1.0000005)), None),
        ({"initialBackoff": ".5s"}, Retry(backoff=Backoff(base=0.5)), None),
        ({"perAttemptRecvTimeout": "1s"}, Retry(), "perAttemptRecvTimeout: not known here, and ignored, as gRPC does"),
    ],
)
def test_retry_policies_as_they_are_found(changes, retry, note):
    """Numbers and codes in all forms that gRPC's implementations accept; bounds of ours and gRPC's are noted."""
    imported = from_service_config(retrying(**{"initialBackoff": "0.025s", **changes}), ENDPOINTS)
    assert imported.config.policy.retry == retry
    assert note is None or any(note in found for found in imported.notes)


def test_the_longest_times_become_thirty_years():
    """gRPC allows ten thousand years; gRPC for Python would end a call with such a timeout at once."""
    config = from_service_config(methods({"name": [{}], "timeout": "315576000000s"}), ENDPOINTS).config
    assert config.policy.timeout == 1e9


@pytest.mark.parametrize(
    ("method", "note"),
    [
        ({"waitForReady": True}, "methodConfig[0].waitForReady: not carried over; a call waits if it is made with"),
        ({"maxRequestMessageBytes": 10}, "methodConfig[0].maxRequestMessageBytes: not carried over; the option"),
        (
            {"name": [{}], "timeout": "1s"},
            "methodConfig[0].timeout: as the default of all methods it does not end answer",
        ),
        ({"timeout": "0s"}, "methodConfig[0].timeout: 0 is no limit, as in gRPC's C core"),
        ({"timeout": "0.000001s"}, "methodConfig[0].timeout: 0.001 s is used, the shortest there is here"),
        ({"name": []}, "methodConfig[0]: it has no name, and is skipped, as gRPC does"),
        ({"new": 1}, "methodConfig[0].new: not known here, and ignored, as gRPC does"),
    ],
)
def test_what_is_not_carried_over_is_noted(method, note):
    """Path first, then what is done instead."""
    (found,) = from_service_config(methods({"name": [{"service": "shop.Cart"}], **method}), ENDPOINTS).notes
    assert found.startswith(note)


def test_what_is_said_of_many_methods_is_one_note():
    """Twenty methods with retries are not forty lines."""
    each = [{"name": [{"service": f"shop.S{n}"}], "retryPolicy": RETRY} for n in range(20)]
    notes = from_service_config(methods(*each), ENDPOINTS).notes
    assert len(notes) == 3
    assert notes[0].startswith("methodConfig[0].retryPolicy, methodConfig[1].retryPolicy, ")


def test_without_throttling_there_is_still_a_budget():
    """gRPC would retry without end. The channel's own budget stays, and a note says how to take gRPC's way."""
    imported = from_service_config(retrying(), ENDPOINTS)
    assert imported.config.budget == RetryBudget()
    assert imported.notes[-1].startswith(
        "retryThrottling: not there, where gRPC never stops retrying; RetryBudget(ratio=0.1"
    )


@pytest.mark.parametrize(
    ("service_config", "says"),
    [
        ("{", "not a JSON text"),
        ("3", "must be a JSON object, such as .'methodConfig': .*; got 3"),
        ('[{"percentage": 10, "serviceConfig": {}}]', "a list of choices .gRFC A2.: give the 'serviceConfig' of one"),
        ({"methodConfig": {}}, "methodConfig must be a list of objects; got {}"),
        (methods(3), r"methodConfig\[0\] must be an object; got 3"),
        (methods({"name": [{"method": "x"}]}), r"name\[0\].service must be there, because 'method' is .'x'."),
        (methods({"name": [{"service": "a/b"}]}), r"name\[0\].service must be a name without slashes and spaces"),
        (methods({"name": [{}, {"service": ""}]}), r"methodConfig\[0\].name\[1\] must be configured once"),
        (methods({"name": [{}], "timeout": 3}), r"timeout must be a text of seconds, from 0 to 3.*'1.5s'; got 3"),
        (methods({"name": [{}], "timeout": "-1s"}), "timeout must be a text of seconds, from 0 .*; got '-1s'"),
        (methods({"name": [{}], "waitForReady": "true"}), "waitForReady must be true or false; got 'true'"),
        (methods({"name": [{}], "retryPolicy": 3}), r"methodConfig\[0\].retryPolicy must be an object; got 3"),
        (methods({"name": [{}], "retryPolicy": RETRY, "hedgingPolicy": {"maxAttempts": 2}}), "only one of the two"),
        (
            retrying(maxAttempts=1),
            r"methodConfig\[0\].retryPolicy.maxAttempts must be a whole number, 2 or more; got 1",
        ),
        (retrying(initialBackoff="0s"), "initialBackoff must be a text of seconds, over 0 .*; got '0s'"),
        (retrying(maxBackoff=None), "maxBackoff must be a text of seconds, over 0 .*; got None"),
        (retrying(backoffMultiplier=0), "backoffMultiplier must be a number over 0, such as 2.0; got 0"),
        (
            retrying(retryableStatusCodes=[]),
            r"retryableStatusCodes must be a list of at least one status code, .*; got \[\]",
        ),
        (retrying(retryableStatusCodes=["NO"]), r"retryableStatusCodes\[0\] must be a gRPC status code, .*; got 'NO'"),
        (
            {"retryThrottling": {"maxTokens": 0, "tokenRatio": 1}},
            "retryThrottling.maxTokens must be .* 1 or more; got 0",
        ),
        ({"retryThrottling": {"maxTokens": 10}}, "retryThrottling.tokenRatio must be a number over 0, .*; got None"),
        ({"loadBalancingConfig": [{}]}, r"loadBalancingConfig\[0\] must be the name of one balancer .*; got \[\]"),
        (
            {"loadBalancingConfig": [{"least_request_experimental": {"choiceCount": 1}}]},
            r"loadBalancingConfig\[0\].least_request_experimental.choiceCount must be a whole number, 2 or more; got 1",
        ),
    ],
)
def test_a_bad_service_config_says_where_and_what(service_config, says):
    """JSON path, value, bound and way out."""
    with pytest.raises(ValueError, match=f"^service config: .*{says}"):
        from_service_config(service_config, ENDPOINTS)


def test_all_problems_are_told_together():
    """Endpoints, methods, throttling and balancer in one error."""
    bad = {**retrying(maxAttempts=1, maxBackoff="1"), "loadBalancingPolicy": 3, "retryThrottling": []}
    with pytest.raises(ValueError, match="endpoints.*loadBalancingPolicy.*maxAttempts.*maxBackoff.*retryThrottling"):
        from_service_config(bad, [])


def refused_by_grpc(service_config: dict) -> bool:
    """Whether gRPC itself, which never connects anywhere here, rejects it as a service config."""
    text = json.dumps(service_config).replace(
        '"name": [{}]', '"name": [{"service": "never.Called"}]'
    )  # and never retried
    options = [("grpc.service_config", text)]
    with grpc.insecure_channel("unix:/nobody/listens/here", options=options) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(HELLO)(b"", timeout=5)
    return "service config" in caught.value.details()


@pytest.mark.parametrize(
    "service_config",
    [
        EVERYTHING,
        {},
        {"new": 1},
        {"methodConfig": {}},
        {"loadBalancingPolicy": "round_robin"},
        {"loadBalancingConfig": [{"nope": {}, "round_robin": {}}]},
        {"loadBalancingConfig": [{"nope": {}}, {"round_robin": {}}]},
        {"retryThrottling": {"maxTokens": 0, "tokenRatio": 0.1}},
        {"retryThrottling": {"maxTokens": 10, "tokenRatio": -1}},
        {"retryThrottling": {"maxTokens": 10, "tokenRatio": "0.1"}},
        methods({"name": [{}], "timeout": "0s"}),
        methods({"name": [{}], "timeout": "1.5"}),
        methods({"name": [{}], "timeout": "-1s"}),
        methods({"name": [{}], "waitForReady": "true"}),
        methods({"name": [{"method": "x"}]}),
        methods({"name": [{"service": "a"}, {"service": "a"}]}),
        methods({"name": [{"service": "a"}, {"service": "a", "method": "b"}]}),
        methods({"timeout": "2s"}),
        methods({"name": [{}], "maxRequestMessageBytes": 0, "maxResponseMessageBytes": "4096"}),
        methods({"name": [{}], "maxRequestMessageBytes": -1}),
        *(retrying(maxAttempts=n) for n in (0, 1, 2, 7, "3", 2.5)),
        *(retrying(backoffMultiplier=n) for n in (0, 0.5, "2.5", -1)),
        *(retrying(initialBackoff=wait) for wait in ("0s", 0.1, "0.1", "0.001s")),
        *(retrying(retryableStatusCodes=codes) for codes in ([], ["NO"], ["OK"], ["ABORTED", "INTERNAL"])),
    ],
)
def test_grpc_and_we_accept_the_same(service_config):
    """Each is given to gRPC's own channel, too: either both take it, or both refuse it."""
    refused = False
    try:
        from_service_config(service_config, ENDPOINTS)
    except ValueError:
        refused = True
    assert refused == refused_by_grpc(service_config)


@pytest.mark.parametrize(
    "service_config",
    [
        retrying(maxAttempts=2),
        retrying(maxAttempts=9),
        retrying(retryableStatusCodes=["ABORTED"]),
        retrying(retryableStatusCodes=["ABORTED", "UNAVAILABLE"]),
        methods({"name": [{"service": "hello.Hello"}], "retryPolicy": RETRY}),
        methods({"name": [{"service": "hello.Hello", "method": "SayHello"}], "retryPolicy": RETRY}),
        methods({"name": [{"service": "hello.Hello", "method": "Chat"}, {"service": "hello"}], "retryPolicy": RETRY}),
        methods({"name": [{}], "retryPolicy": RETRY}, {"name": [{"service": "hello.Hello"}], "timeout": "2s"}),
    ],
)
def test_a_server_gets_as_many_attempts_from_us_as_from_grpc(one, service_config):
    """A call that is answered UNAVAILABLE, through gRPC's own retries and through ours (gRPC loses waits under 2 ms)."""
    quick = json.dumps(service_config).replace('"0.1s"', '"0.01s"').replace('"1s"', '"0.01s"')
    [greeter], counts = one.greeters, []
    for channel in (
        grpc.insecure_channel(one.addresses[0], options=[("grpc.service_config", quick)]),
        from_service_config(quick, one.addresses).config.channel(),
    ):
        before = len(greeter.metadata)
        with channel, pytest.raises(grpc.RpcError):
            hello_pb2_grpc.HelloStub(channel).SayHello(named("fail"), timeout=10)
        counts.append(len(greeter.metadata) - before)
    assert counts[0] == counts[1] > 0


def test_timeouts_of_a_method_are_kept(one):
    """The server hangs; the caller hears DEADLINE_EXCEEDED after the 0.2 s that the service config allows."""
    config = from_service_config(
        methods({"name": [{"service": "hello.Hello"}], "timeout": "0.2s"}), one.addresses
    ).config
    with config.channel() as channel, pytest.raises(CallError) as caught:
        hello_pb2_grpc.HelloStub(channel).SayHello(named("hang"))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


scalar = (
    st.none() | st.booleans() | st.integers(-2, 10**13) | st.floats() | st.sampled_from(["", "1s", "0s", "x/", "OK"])
)
keys = st.sampled_from([
    "methodConfig", "name", "service", "method", "timeout", "waitForReady", "retryPolicy", "hedgingPolicy", "maxAttempts",
    "initialBackoff", "backoffMultiplier", "retryableStatusCodes", "retryThrottling", "maxTokens", "tokenRatio",
    "loadBalancingConfig", "loadBalancingPolicy", "pick_first", "least_request_experimental", "choiceCount", "childPolicy",
    "outlier_detection_experimental", "round_robin",
])  # fmt: skip
anything = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=20
)


@settings(deadline=None)
@given(st.dictionaries(keys, anything), st.booleans())
def test_nothing_gets_more_than_a_value_error(service_config, idempotent):
    """Whatever stands there, the answer is a configuration or a ValueError about the service config."""
    with suppress(ValueError):
        imported = from_service_config(service_config, ENDPOINTS, idempotent=idempotent)
        assert ChannelConfig.from_json(imported.config.to_json()) == imported.config
