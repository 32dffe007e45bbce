"""The same requests to both servers, and what of their answers must agree.

Compared are status, content type, the request id's presence and the body with the order of its members. Named tolerances:

- OWN_WORDS: what is wrong with a body, or with an address, each server says in its own words.
- ports that the kernel chose are all the same, and a missing host is 127.0.0.1 (Difference.LOOPBACK).
"""

from __future__ import annotations

import http.client
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from differences import Difference

OWN_WORDS = (re.compile("bad request body: "), re.compile("(listen tcp: )?(address|lookup) "))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; `<P1>` and such in its body stand for ports that each server has of its own."""

    method: str
    path: str
    body: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What can be compared of an answer; `body` is JSON with objects as lists of pairs, or text."""

    status: int
    type: str | None
    nosniff: str | None
    numbered: bool
    body: Any

    def member(self, name: str) -> Any:
        """A member of the body, where that is an object."""
        return dict(self.body).get(name) if isinstance(self.body, list) and all(map(_pair, self.body)) else None


@dataclass(slots=True, kw_only=True)
class Twin:
    """One of the two servers; `ports` are those that stand for tokens."""

    kind: str
    port: int
    ports: dict[str, int]
    _http: http.client.HTTPConnection | None = field(default=None, repr=False)

    def ask(self, request: Request) -> Answer:
        """The answer to `request`."""
        body = request.body
        for token, port in self.ports.items():
            body = body and body.replace(token, str(port))
        if self._http is None:
            self._http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = body.encode("utf-8", "surrogateescape") if body is not None else None
        self._http.request(request.method, request.path, sent, {"Content-Type": "application/json"})
        answer = self._http.getresponse()
        text = answer.read().decode()
        return Answer(
            status=answer.status,
            type=answer.getheader("Content-Type"),
            nosniff=answer.getheader("X-Content-Type-Options"),
            numbered=answer.getheader("X-Toxiproxy-Request-Id") is not None,
            body=self._alike(text),
        )

    def clear(self) -> None:
        """No proxies."""
        for name, _ in self.ask(Request(method="GET", path="/proxies")).body:
            self.ask(Request(method="DELETE", path=f"/proxies/{quote(name, safe='')}"))

    def _alike(self, text: str) -> Any:
        try:
            return self._value(json.loads(text, object_pairs_hook=list))
        except ValueError:
            return text

    def _value(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        if not all(map(_pair, value)) or not value:
            return [self._value(item) for item in value]
        if self.kind == "toxiproxy" and ("Logger", []) in value:
            value.remove(("Logger", []))
        return [(name, self._member(name, item)) for name, item in value]

    def _member(self, name: str, item: Any) -> Any:
        if name == "listen":
            return self._address(item)
        if name == "error":
            return self._words(item)
        return self._value(item)

    def _address(self, address: str) -> str:
        host, colon, port = address.rpartition(":")
        tokens = {str(number): token for token, number in self.ports.items()}
        if host in ("", "[::]") and colon:
            host = "127.0.0.1"
        return (
            f"{host}:{tokens.get(port, port if port in ('', '0') or not port.isdigit() else '<any>')}"
            if colon
            else address
        )

    def _words(self, error: str) -> str:
        for words in OWN_WORDS:
            if found := words.match(error):
                return f"{found[0]}..."
        for token, port in self.ports.items():
            error = error.replace(f"127.0.0.1:{port}", token).replace(f":{port}", token)
        return re.sub(r"listen tcp (127\.0\.0\.1|\[::\]|):", "listen tcp :", error)


def _pair(item: Any) -> bool:
    return isinstance(item, tuple)


class Pair:
    """Both servers, and what was seen so far."""

    def __init__(self, ours: Twin, real: Twin) -> None:
        self.ours = ours
        self.real = real
        self.requests = 0
        self.sequences = 0
        self.seen: Counter[Difference] = Counter()

    def clear(self) -> None:
        """Neither has proxies."""
        for twin in (self.ours, self.real):
            twin.clear()

    def play(self, requests: list[Request]) -> None:
        """Sends all of them to both; AssertionError at the first answer or state that differs without a reason."""
        self.clear()
        self.sequences += 1
        for number, request in enumerate(requests):
            self.requests += 1
            ours, real = self.ours.ask(request), self.real.ask(request)
            story = f"{requests[: number + 1]}\n  ours {ours}\n  real {real}"
            why = reason(request, ours, real)
            assert ours == real or why is not None, story
            if why is None and request.method != "GET":
                states = [twin.ask(Request(method="GET", path="/proxies")).body for twin in (self.ours, self.real)]
                if states[0] != states[1]:
                    why = state_reason(request, real)
                    assert why is not None, f"{story}\n  then ours {states[0]}\n  then real {states[1]}"
            if why is not None:
                self.seen[why] += 1
                self.clear()  # they are in different states now


def reason(request: Request, ours: Answer, real: Answer) -> Difference | None:
    """Which deliberate difference explains that the answers differ; None if none does, or if they do not."""
    toxic = "/toxics" in request.path and request.method in ("POST", "PATCH")
    if request.path == "/version":
        return Difference.VERSION
    if ours == real:
        return None
    if toxic and (ours.status, real.status) == (400, 200):
        return Difference.BOUNDS
    if toxic and '"packet_loss"' in (request.body or "") and real.member("error") == "invalid toxic type":
        return Difference.LOSS
    if (ours.status, real.status) == (500, 500) and request.path == "/populate" and same_error(ours, real):
        return Difference.ROLLBACK  # and what was made before is listed as it then is
    return None


def same_error(ours: Answer, real: Answer) -> bool:
    """Whether both give the same reason, or each one in words of its own."""
    return ours.member("error") == real.member("error")


def state_reason(request: Request, real: Answer) -> Difference | None:
    """Which deliberate difference explains that the servers are in different states after the same answer."""
    if real.status == 500:
        return Difference.RESET if request.path == "/reset" else Difference.ROLLBACK
    if real.status == 400 and "/toxics/" in request.path:
        return Difference.ATOMIC
    return None
