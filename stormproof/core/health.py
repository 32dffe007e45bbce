"""Whether endpoints say that they can serve: when each is asked (grpc.health.v1), and what an answer, or none, means.

Law 1: the server's own word counts at once, both ways. Law 2: silence counts only when it lasts, since a lost packet is
not a lost server. Law 3: a server without a health service is taken to serve, as if nobody had asked.

    asked, and then                                              serving     asked again
    SERVING                                                      yes         after the interval
    NOT_SERVING, UNKNOWN, SERVICE_UNKNOWN, or NOT_FOUND          no          after the interval
    UNIMPLEMENTED                                                yes         after `RARELY` intervals
    nothing within the timeout, or any other error               as it was   after the interval
    the same, for the `failures`th time in a row                 no          after the interval
    broken off by our own side (CANCELLED)                       as it was   after the interval

Until its first answer an endpoint counts as serving: a channel must be able to call before anybody was asked. Whose idea:
gRPC's health checking protocol, and gRFC A17, which watches where we ask again and again: a server that hangs is noticed
within a timeout, and no stream is held open on each connection.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from stormproof.core.check import complain, number, seconds
from stormproof.core.outcome import Code

#: Intervals between two questions to a server that has no health service: the next one on its address may have one.
RARELY = 60
#: Within which part of an interval a new endpoint is first asked.
SOON = 0.1
#: Seconds at most, and part of an interval, between two looks at who the endpoints are.
LOOK = 0.5
#: The status of a service that serves, by its number in grpc.health.v1.HealthCheckResponse.
SERVING = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """Each endpoint is asked again and again whether it can serve (`grpc.health.v1.Health/Check`).

    service   the service asked about; "" (the default) is the server as a whole.
    interval  seconds between two questions at most (0.01 or more; default 1). Each wait is drawn from half of it to the
              whole, so that many clients and many endpoints do not keep step.
    timeout   seconds for an answer (0.001 or more; default 1).
    failures  questions in a row without an answer that make an endpoint unhealthy (1 to 100; default 2).

    An endpoint that says it does not serve is left at once, and is back with its next good word. One that falls silent is
    left within interval + failures * max(interval, timeout), 3 s unless told otherwise, without a call having to fail on it.
    Any error but UNIMPLEMENTED and NOT_FOUND counts as silence: if your servers want credentials, give them to the channel.
    A question costs about as much as a call (measured: 1 ms of CPU): with hundreds of endpoints, ask less often.
    """

    service: str = ""
    interval: float = 1.0
    timeout: float = 1.0
    failures: int = 2

    def __post_init__(self) -> None:
        problems = []
        if not isinstance(self.service, str):
            problems.append(f"service must be the name of a service, or '' for the whole server; got {self.service!r}")
        problems += seconds("interval", self.interval, low=0.01) + seconds("timeout", self.timeout, low=0.001)
        problems += number("failures", self.failures, 1, 100, unit="questions in a row without an answer", whole=True)
        complain(self, problems)


class Answer(Enum):
    """What became of a question. ABANDONED: nobody asked in the end, so nothing is known."""

    SERVING = "serving"
    NOT_SERVING = "not serving"
    NO_SERVICE = "no health service"
    SILENCE = "no answer"
    ABANDONED = "broken off"


def answer_of(code: Code, status: int | None) -> Answer:
    """What a check says that ended with `code`. `status` is the number in its reply; None: there is none to be read."""
    if code is Code.OK and status is not None:
        return Answer.SERVING if status == SERVING else Answer.NOT_SERVING
    if code is Code.NOT_FOUND:  # Check's way to say SERVICE_UNKNOWN
        return Answer.NOT_SERVING
    if code is Code.CANCELLED:
        return Answer.ABANDONED
    return Answer.NO_SERVICE if code is Code.UNIMPLEMENTED else Answer.SILENCE


class Health:
    """The health of one endpoint. `next_at` is when it is to be asked next, at the earliest when it has answered."""

    __slots__ = ("_config", "_rng", "address", "next_at", "serving", "silent")

    def __init__(self, address: str, config: HealthCheck, rng: random.Random, now: float) -> None:
        self._config = config
        self._rng = rng
        self.address = address
        self.serving = True
        self.silent = 0  # questions in a row without an answer
        self.next_at = now + rng.random() * SOON * config.interval

    def asked(self, now: float) -> None:
        """A question is on its way."""
        self.next_at = now + self._wait()

    def answered(self, answer: Answer, now: float) -> None:
        """It came back."""
        if answer is Answer.SILENCE:
            self.silent += 1
            self.serving = self.serving and self.silent < self._config.failures
        elif answer is not Answer.ABANDONED:
            self.silent = 0
            self.serving = answer is not Answer.NOT_SERVING
        if answer is Answer.NO_SERVICE:
            self.next_at = now + RARELY * self._wait()
        self.next_at = max(self.next_at, now)

    def _wait(self) -> float:
        return self._config.interval * (0.5 + 0.5 * self._rng.random())


class Round:
    """The health of all endpoints of a channel: who is to be asked now. Nobody is asked twice at a time."""

    __slots__ = ("_config", "_count", "_healths", "_look_at", "_rng", "_waiting")

    def __init__(self, config: HealthCheck, rng: random.Random) -> None:
        self._config = config
        self._rng = rng
        self._healths: dict[str, Health] = {}
        self._waiting: list[tuple[float, int, Health]] = []  # a heap
        self._count = 0
        self._look_at = -math.inf

    @property
    def wake_at(self) -> float:
        """When to look for endpoints that came or went, or to ask one."""
        return min(self._look_at, self._waiting[0][0]) if self._waiting else self._look_at

    def looks(self, now: float) -> bool:
        """Whether it is time to say who the endpoints are: `members`."""
        return now >= self._look_at

    def members(self, addresses: Iterable[str], now: float) -> None:
        """These are the endpoints now. What was known of others is forgotten."""
        known, self._healths = self._healths, {}
        for address in addresses:
            health = known.get(address)
            if health is None:
                health = Health(address, self._config, self._rng, now)
                self._wait_for(health)
            self._healths[address] = health
        self._look_at = now + LOOK * min(1.0, self._config.interval)

    def ask(self, now: float) -> list[Health]:
        """Whom to ask now. `answered` must follow for each."""
        due = []
        while self._waiting and self._waiting[0][0] <= now:
            health = heapq.heappop(self._waiting)[2]
            if self._is_member(health):
                health.asked(now)
                due.append(health)
        return due

    def answered(self, health: Health, answer: Answer, now: float) -> bool:
        """A question came back. Returns whether there is something to tell: not of one that has gone, nor of an abandoned."""
        if not self._is_member(health):
            return False
        health.answered(answer, now)
        self._wait_for(health)
        return answer is not Answer.ABANDONED

    def _is_member(self, health: Health) -> bool:
        return self._healths.get(health.address) is health

    def _wait_for(self, health: Health) -> None:
        self._count += 1
        heapq.heappush(self._waiting, (health.next_at, self._count, health))
