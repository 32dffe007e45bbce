"""The HTTP API: what the real Toxiproxy answers, ours answers too; and where ours is better, it is said
so.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.proxy import wire
from harness.proxy.api import VERSION

NOWHERE = "127.0.0.1:1"


def make(server, name, **more):
    """A proxy to nowhere on any port of loopback, as the server answers it."""
    body = {"name": name, "upstream": NOWHERE, "listen": "127.0.0.1:0", **more}
    answer = server.call("POST", "/proxies", body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def without_logger(proxy):
    """The real one leaks an empty member of that name."""
    return {key: value for key, value in proxy.items() if key != "Logger"}


def told(answer):
    """Status and body of an answer."""
    return answer.status_code, answer.json() if answer.content else None


def test_a_proxy_lives_from_create_to_delete(server, name):
    """201, 200, 204, then 404; the answer carries the real port."""
    made = make(server, name)
    assert made["listen"].startswith("127.0.0.1:")
    assert not made["listen"].endswith(":0")
    expected = {"name": name, "listen": made["listen"], "upstream": NOWHERE, "enabled": True, "toxics": []}
    assert without_logger(made) == expected
    assert without_logger(server.call("GET", f"/proxies/{name}").json()) == expected
    assert without_logger(server.call("GET", "/proxies").json()[name]) == expected
    assert told(server.call("DELETE", f"/proxies/{name}")) == (204, None)
    assert told(server.call("DELETE", f"/proxies/{name}")) == (
        404,
        {"error": "proxy not found", "status": 404},
    )


def test_a_toxic_lives_from_add_to_remove(server, name):
    """200 throughout; missing attributes appear, unknown ones are dropped, edits merge; 204, then 404."""
    make(server, name)
    toxics = f"/proxies/{name}/toxics"
    body = {"type": "latency", "attributes": {"latency": 5, "foo": 2}}
    expected = {
        "attributes": {"latency": 5, "jitter": 0},
        "name": "latency_downstream",
        "type": "latency",
        "stream": "downstream",
        "toxicity": 1,
    }
    assert told(server.call("POST", toxics, body)) == (200, expected)
    assert told(server.call("GET", toxics)) == (200, [expected])
    change = {"name": "other", "stream": "upstream", "toxicity": 0.5, "attributes": {"jitter": 3}}
    expected |= {"toxicity": 0.5, "attributes": {"latency": 5, "jitter": 3}}
    for method in ("PATCH", "POST"):
        assert told(server.call(method, f"{toxics}/latency_downstream", change)) == (200, expected)
    assert told(server.call("GET", f"{toxics}/latency_downstream")) == (200, expected)
    assert told(server.call("DELETE", f"{toxics}/latency_downstream")) == (204, None)
    gone = (404, {"error": "toxic not found", "status": 404})
    assert told(server.call("DELETE", f"{toxics}/latency_downstream")) == gone
    assert told(server.call("GET", f"{toxics}/latency_downstream")) == gone


def test_toxics_of_the_upstream_are_listed_first(server, name):
    """Each stream in the order in which they were added; names are unique over both."""
    make(server, name)
    toxics = f"/proxies/{name}/toxics"
    for kind, stream in (("noop", "downstream"), ("latency", "Upstream"), ("timeout", "upstream")):
        assert server.call("POST", toxics, {"type": kind, "stream": stream}).status_code == 200
    names = [toxic["name"] for toxic in server.call("GET", toxics).json()]
    assert names == ["latency_Upstream", "timeout_upstream", "noop_downstream"]
    again = {"type": "noop", "name": "timeout_upstream"}
    assert told(server.call("POST", toxics, again)) == (409, {"error": "toxic already exists", "status": 409})


REFUSED = [
    ("/proxies", {"upstream": NOWHERE}, "missing required field: name"),
    ("/proxies", {"name": "x"}, "missing required field: upstream"),
    ("/proxies/{name}/toxics", {"type": "nonsense"}, "invalid toxic type"),
    ("/proxies/{name}/toxics", {}, "invalid toxic type"),
    (
        "/proxies/{name}/toxics",
        {"type": "noop", "stream": "sideways"},
        "stream was invalid, can be either upstream or downstream",
    ),
]


@pytest.mark.parametrize(("path", "body", "message"), REFUSED)
def test_what_is_missing_or_unknown_is_refused_in_the_same_words(server, name, path, body, message):
    """400, as JSON by content and as plain text by type: clients know it so."""
    make(server, name)
    answer = server.call("POST", path.format(name=name), body)
    assert told(answer) == (400, {"error": message, "status": 400})
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/proxies", "not an object"),
        ("/proxies", {"name": 5, "upstream": NOWHERE}),
        ("/proxies", {"name": "x", "upstream": NOWHERE, "enabled": "yes"}),
        ("/proxies/{name}", {"enabled": 1}),
        ("/proxies/{name}/toxics", {"type": "latency", "attributes": {"latency": 1.5}}),
        ("/proxies/{name}/toxics", {"type": "latency", "attributes": {"latency": "100"}}),
        ("/proxies/{name}/toxics", {"type": "latency", "attributes": []}),
        ("/populate", {"name": "x"}),
    ],
)
def test_a_body_of_the_wrong_shape_is_a_bad_request(server, name, path, body):
    """400 and a reason that begins the same way."""
    make(server, name)
    answer = server.call("POST", path.format(name=name), body)
    assert answer.status_code == answer.json()["status"] == 400
    assert answer.json()["error"].startswith("bad request body: ")


def test_members_are_known_in_any_case_and_null_means_the_default(server, name):
    """As Go's decoder has it."""
    body = {"NAME": name, "Upstream": NOWHERE, "listen": "127.0.0.1:0", "enabled": None, "nonsense": 1}
    answer = server.call("POST", "/proxies", body)
    assert answer.status_code == 201
    assert answer.json()["enabled"] is True


def test_a_proxy_can_be_made_disabled_and_enabled_later(server, name):
    """It keeps its listen text until it listens."""
    assert make(server, name, enabled=False)["listen"] == "127.0.0.1:0"
    enabled = server.call("PATCH", f"/proxies/{name}", {"enabled": True}).json()
    assert enabled["enabled"] is True
    assert not enabled["listen"].endswith(":0")
    assert server.call("POST", f"/proxies/{name}", {"enabled": False}).json()["enabled"] is False


def test_a_taken_address_is_the_servers_failure(server, name):
    """500, and there is no such proxy afterwards; a name that is taken is a conflict, 409."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        answer = server.call("POST", "/proxies", {"name": name, "upstream": NOWHERE, "listen": listen})
    error = f"listen tcp {listen}: bind: address already in use"
    assert told(answer) == (500, {"error": error, "status": 500})
    assert server.call("GET", f"/proxies/{name}").status_code == 404
    make(server, name)
    again = server.call("POST", "/proxies", {"name": name, "upstream": NOWHERE})
    assert told(again) == (409, {"error": "proxy already exists", "status": 409})


def test_populate_leaves_what_is_as_asked_and_replaces_the_rest(server, name):
    """The same address and upstream: untouched, toxics included. Another upstream: a new proxy without toxics."""
    listen = make(server, name)["listen"]
    server.call("POST", f"/proxies/{name}/toxics", {"type": "noop"})
    same = {"name": name, "upstream": NOWHERE, "listen": listen}
    answer = server.call("POST", "/populate", [same, {**same, "name": f"{name}-b", "listen": "127.0.0.1:0"}])
    assert answer.status_code == 201
    assert [proxy["name"] for proxy in answer.json()["proxies"]] == [name, f"{name}-b"]
    assert [len(proxy["toxics"]) for proxy in answer.json()["proxies"]] == [1, 0]
    other = server.call("POST", "/populate", [{**same, "upstream": "127.0.0.1:2"}]).json()["proxies"][0]
    assert (other["upstream"], other["toxics"]) == ("127.0.0.1:2", [])
    assert told(server.call("POST", "/populate", [])) == (201, {"proxies": None})


def test_populate_names_the_proxy_that_lacks_something_and_makes_none(server, name):
    """All are looked at before the first is made."""
    good = {"name": name, "upstream": NOWHERE, "listen": "127.0.0.1:0"}
    answer = server.call("POST", "/populate", [good, {"name": "x"}])
    error = {"error": "missing required field: upstream at proxy 2", "status": 400, "proxies": None}
    assert told(answer) == (400, error)
    assert server.call("GET", f"/proxies/{name}").status_code == 404


def test_reset_enables_all_and_removes_all_toxics(server, name):
    """Names and addresses stay; what the body says does not matter."""
    make(server, name)
    server.call("POST", f"/proxies/{name}/toxics", {"type": "noop"})
    server.call("POST", f"/proxies/{name}", {"enabled": False})
    assert told(server.call("POST", "/reset", "garbage")) == (204, None)
    proxy = server.call("GET", f"/proxies/{name}").json()
    assert (proxy["enabled"], proxy["toxics"]) == (True, [])


def test_unknown_paths_wrong_methods_and_browsers_are_turned_away(server):
    """404 with a text, 405 with nothing, 403 for anything that calls itself Mozilla."""
    unknown = server.call("GET", "/nonsense")
    assert (unknown.status_code, unknown.text) == (404, "404 page not found\n")
    wrong = server.call("PUT", "/proxies")
    assert (wrong.status_code, wrong.text) == (405, "")
    browser = server.call("GET", "/proxies", headers={"User-Agent": "Mozilla/5.0"})
    assert (browser.status_code, browser.text) == (403, "User agent not allowed\n")


def test_the_version_has_a_type_and_every_answer_an_id(server):
    """Clients choose by the version; ours can be told from the real one by it."""
    answer = server.call("GET", "/version")
    expected = VERSION if server.kind == "builtin" else "2.12.0"
    assert answer.text == f'{{"version": "{expected}"}}\n'
    assert answer.headers["Content-Type"] == "application/json;charset=utf-8"
    assert len(answer.headers["X-Toxiproxy-Request-Id"]) == 20


@pytest.mark.parametrize(
    ("toxic", "message"),
    [
        (
            {"type": "bandwidth", "attributes": {"rate": -1}},
            "bandwidth: rate must be a whole number from 0 to",
        ),
        ({"type": "slicer"}, "slicer: average_size must be a whole number from 1 to"),
        ({"type": "noop", "toxicity": 7}, "toxicity must be a number from 0 to 1; got 7"),
        (
            {"type": "latency", "attributes": {"jitter": 2**62}},
            "latency: jitter must be a whole number from 0 to",
        ),
    ],
)
def test_ours_refuses_what_would_stop_the_real_one(builtin, name, toxic, message):
    """Better: 400 that names attribute, value and bound, and the toxic is not there."""
    make(builtin, name)
    answer = builtin.call("POST", f"/proxies/{name}/toxics", toxic)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert builtin.call("GET", f"/proxies/{name}/toxics").json() == []


def test_our_failed_move_leaves_the_proxy_where_it_was(builtin, name):
    """Better: a listen address that is taken changes nothing, and the proxy still accepts."""
    made = make(builtin, name)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        answer = builtin.call("PATCH", f"/proxies/{name}", {"listen": listen, "upstream": "127.0.0.1:2"})
    assert answer.status_code == 500
    assert builtin.call("GET", f"/proxies/{name}").json() == made
    host, _, port = made["listen"].rpartition(":")
    socket.create_connection((host, int(port)), 10).close()


@pytest.mark.parametrize("listen", [None, "", ":0"])
def test_our_listener_without_a_host_is_on_loopback_only(builtin, name, listen):
    """Better: a proxy made for a test is nobody else's to reach."""
    assert make(builtin, name, listen=listen)["listen"].startswith("127.0.0.1:")


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:99999", "127.0.0.1:http", "::1:80", "[::1:80"])
def test_a_listen_address_that_is_none_says_why(builtin, name, listen):
    """500 as with the real one, with a reason, and no proxy."""
    answer = builtin.call("POST", "/proxies", {"name": name, "upstream": NOWHERE, "listen": listen})
    assert answer.status_code == 500
    assert f"address {listen}: " in answer.json()["error"]


def test_bodies_that_are_no_json_are_bad_requests_too(builtin):
    """Cut off, nested without end, or not text at all."""
    for body in (b"{", b"[" * 100_000, b"\xff\xfe", b""):
        answer = requests.post(f"http://127.0.0.1:{builtin.port}/proxies", data=body, timeout=20)
        assert answer.status_code == 400, body[:10]
        assert answer.json()["error"].startswith("bad request body: ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.dictionaries(
    st.sampled_from(["name", "type", "stream", "toxicity", "attributes", "upstream", "listen", "enabled"]),
    st.sampled_from(["latency", "slicer", "upstream"]) | JSON,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # building the texts takes a while
@given(FIELDS)
def test_no_body_can_raise_anything_but_a_refusal(fields):
    """Whatever JSON comes: checked values, or a Refusal."""
    for read in (wire.asked, lambda fields: wire.new_toxic(fields, ())):
        with suppress(wire.Refusal):
            read(wire.one(json.dumps(fields).encode()))
