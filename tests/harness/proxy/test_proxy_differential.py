"""Generated requests go to the built-in proxy and to the real one: answers and states agree, but for the listed differences.

STORMPROOF_SEQUENCES says how many sequences (300); `make differential` runs 2,500, and prints what was compared.
"""

from __future__ import annotations

import json
import os
import socket
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twins import Pair, Request, Twin

from harness.fleet.ports import free_port

SEQUENCES = int(os.environ.get("STORMPROOF_SEQUENCES", "300"))

NAMES = ("a", "b", "ä b", "c%2Fd")
PLAIN = st.sampled_from(["a", "a", "a", "b", *NAMES])
ODD = st.sampled_from([None, 5, 1.5, True, [], {}, "x", "", "\ud800"])
LISTEN = st.sampled_from(
    ["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:<P1>", "127.0.0.1:<P2>", "localhost:<P1>", "localhost:0", "", ":0",
     ":", ":<P1>", "127.0.0.1:<TAKEN>", "nonsense", "127.0.0.1:99999", "127.0.0.1:-1", "192.0.2.1:0", "::1:0", "127.0.0.1:"]
)  # fmt: skip
UPSTREAM = st.sampled_from(["127.0.0.1:1", "127.0.0.1:2", "nonsense", ""])
ENABLED = st.sampled_from([True, False, None])
TYPES = st.sampled_from(
    [
        "latency",
        "bandwidth",
        "slow_close",
        "timeout",
        "reset_peer",
        "slicer",
        "limit_data",
        "noop",
        "packet_loss",
        "Latency",
        "",
        "x",
    ]
)
STREAMS = st.sampled_from(["upstream", "downstream", "Upstream", "DOWNSTREAM", "", "sideways", None])
TOXIC_NAMES = st.sampled_from(["t", "latency_downstream", "ü/t", ""])
WHOLE = st.sampled_from([0, 1, 5, 1000, 86_400_000, -1, 2**40, 2**63, None, 1.5, "1"])
TOXICITY = st.sampled_from([0, 1, 1.0, 0.5, 0.1, 0.123456789, 1e-9, 7, -1, 1e300, None])
ATTRIBUTES = st.dictionaries(
    st.sampled_from(
        [
            "latency",
            "jitter",
            "rate",
            "delay",
            "timeout",
            "average_size",
            "size_variation",
            "bytes",
            "loss_rate",
            "unknown",
            "RATE",
        ]
    ),
    WHOLE,
    max_size=3,
)
#: Bodies that are not made of members: Go's decoder is a world of its own.
TEXTS = st.sampled_from(
    [None, "", "null", "{}", "[]", "[null]", "{", "5", '"x"', " \n{} ", "{}{", "nan", "[{}", "{'a':1}", '{"a":01}', "\ufeff{}",
     '{"name":"a","upstream":"127.0.0.1:1","listen":"127.0.0.1:0"} more', '{"name":"b","name":"a","upstream":"127.0.0.1:1"}',
     '{"name":"a","NAME":null,"upstream":"127.0.0.1:1","enabled":false}', '{"type":"noop","toxicity":NaN}',
     '{"name":"a\udcff"}',
     '{"type":"latency","attributes":{"latency":1},"attributes":{"jitter":2}}', '{"type":"latency","attributes":null}',
     '[{"name":"a","upstream":"127.0.0.1:1","listen":"127.0.0.1:0"},{"name":"a","upstream":"127.0.0.1:1"}]']
)  # fmt: skip


def members(**known: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    """Objects with some of the members, now and then with one of the wrong type, or in another case."""
    whole = st.fixed_dictionaries({}, optional=known)
    odd = st.dictionaries(st.sampled_from([*known, *map(str.upper, known), "unknown"]), ODD, max_size=1)
    return st.builds(lambda one, other: {**one, **other}, whole, st.one_of(st.just({}), st.just({}), odd))


PROXIES = st.one_of(
    st.fixed_dictionaries({"name": PLAIN, "upstream": UPSTREAM, "listen": LISTEN}, optional={"enabled": ENABLED}),
    members(name=PLAIN, upstream=UPSTREAM, listen=LISTEN, enabled=ENABLED),
)
CHANGES = members(name=PLAIN, upstream=UPSTREAM, listen=LISTEN, enabled=ENABLED)
TOXICS = st.one_of(
    st.fixed_dictionaries({"type": TYPES}, optional={"stream": STREAMS, "name": TOXIC_NAMES, "attributes": ATTRIBUTES}),
    members(type=TYPES, stream=STREAMS, name=TOXIC_NAMES, attributes=ATTRIBUTES, toxicity=TOXICITY),
)
EDITS = members(type=TYPES, attributes=ATTRIBUTES, toxicity=TOXICITY, name=TOXIC_NAMES)


def request(method: object, path: object, body: st.SearchStrategy[object] | None = None) -> st.SearchStrategy[Request]:
    """Requests of that kind: mostly with a `body`, now and then with a text that is none."""
    bodies = st.none() if body is None else st.one_of(body, body, body).map(json.dumps) | TEXTS
    paths = path if isinstance(path, st.SearchStrategy) else st.just(path)
    methods = method if isinstance(method, st.SearchStrategy) else st.just(method)
    return st.builds(lambda m, p, b: Request(method=m, path=p, body=b), methods, paths, bodies)


MAKE_A, MAKE_B = (
    Request(
        method="POST", path="/proxies", body=json.dumps({"name": name, "upstream": "127.0.0.1:1", "listen": listen})
    )
    for name, listen in (("a", "127.0.0.1:<P1>"), ("b", "127.0.0.1:0"))
)
ADD_T, ADD_LATENCY = (
    Request(method="POST", path="/proxies/a/toxics", body=json.dumps({"type": "latency", **more}))
    for more in ({"name": "t", "stream": "upstream", "toxicity": 0.5}, {"attributes": {"latency": 5, "jitter": 3}})
)
PROXY = PLAIN.map(lambda name: f"/proxies/{quote(name, safe='')}")
TOXIC = st.builds(
    lambda proxy, name: f"{proxy}/toxics/{quote(name, safe='')}",
    PROXY,
    st.sampled_from(["t", "latency_downstream", "timeout_upstream", "noop_Upstream", "slicer_downstream"]),
)
#: What a sequence may begin with: proxies that are in order, and toxics on them, so that what follows finds something.
BEGINNINGS = st.sampled_from(
    [(), (MAKE_A,), (MAKE_A, ADD_T), (MAKE_A, ADD_T, ADD_LATENCY), (MAKE_A, MAKE_B, ADD_LATENCY), (MAKE_B, MAKE_A, ADD_T)]
)  # fmt: skip
EITHER = st.sampled_from(["POST", "PATCH"])
ANY = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
ELSEWHERE = st.sampled_from(
    ["/", "/nonsense", "/proxies/", "/reset", "/populate", "/version", "/proxies/a/toxics/t/x", "/proxies"]
)
REQUESTS = st.one_of(
    request("POST", "/proxies", PROXIES),
    request("POST", "/proxies", PROXIES),
    request("POST", "/populate", st.lists(PROXIES, max_size=3)),
    request(EITHER, PROXY, CHANGES),
    request("POST", PROXY.map(lambda path: f"{path}/toxics"), TOXICS),
    request("POST", PROXY.map(lambda path: f"{path}/toxics"), TOXICS),
    request(EITHER, TOXIC, EDITS),
    request("DELETE", PROXY | TOXIC),
    request("GET", PROXY | TOXIC | PROXY.map(lambda path: f"{path}/toxics")),
    request("POST", "/reset", st.just({})),
    request(ANY, ELSEWHERE | PROXY | TOXIC, st.just({})),
)


@pytest.fixture(scope="module")
def pair(builtin, real):
    """Both servers; each has two ports of its own, and one that is taken by the test."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        twins = [
            Twin(kind=s.kind, port=s.port, ports={"<P1>": free_port(), "<P2>": free_port(), "<TAKEN>": busy})
            for s in (builtin, real)
        ]
        pair = Pair(*twins)
        yield pair
        pair.clear()
    seen = ", ".join(f"{count} {difference.name}" for difference, count in sorted(pair.seen.items(), key=str))
    print(f"\n{pair.sequences} sequences, {pair.requests} requests to each server; deliberate differences: {seen}")


@settings(max_examples=SEQUENCES, deadline=None, suppress_health_check=list(HealthCheck))
@given(beginning=BEGINNINGS, requests=st.lists(REQUESTS, min_size=1, max_size=14))
def test_generated_requests_are_answered_alike(pair, beginning, requests):
    """Status, type and body agree for each request, and all proxies after each change."""
    pair.play([*beginning, *requests])
