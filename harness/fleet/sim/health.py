"""Asks endpoints again and again whether they can serve: what stormproof/health_checks.py does, in virtual time.

Whom to ask when, and what an answer means, is decided in stormproof.core.health. A question goes over the connection that
the calls use, as a call of its own under no policy; a server that runs and has connections answers at once, whatever its
workers do. Not modelled: that a real client asks for the first time up to a tenth of a second before its workload begins.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.fleet.sim.link import Connection
from stormproof.core.health import SERVING, Health, HealthCheck, Round, answer_of
from stormproof.core.outcome import OK, Outcome
from stormproof.core.pool import Pool

if TYPE_CHECKING:
    from harness.fleet.sim.driver import Driver
    from harness.fleet.sim.subchannel import Subchannel

#: The status of a service that does not serve, by its number in grpc.health.v1.HealthCheckResponse.
NOT_SERVING = 2


class Question:
    """One question, which travels as an `Attempt` does."""

    __slots__ = (
        "answer", "connection", "deadline", "ended", "health", "outcome", "remaining", "service", "serving", "subchannel",
    )  # fmt: skip

    def __init__(self, service: str, health: Health, subchannel: Subchannel, deadline: float) -> None:
        self.service = service
        self.health = health
        self.subchannel = subchannel
        self.deadline: float | None = deadline
        self.connection: Connection | None = None
        self.answer = OK
        self.serving = True  # what a reply says, if there is one
        self.ended: float | None = None
        self.outcome: Outcome | None = None
        self.remaining: float | None = None


class HealthChecks:
    """Asks the endpoints at `addresses` over the subchannels of `driver`, and tells `pool`. `rng` draws when."""

    def __init__(
        self, driver: Driver, pool: Pool, addresses: Sequence[str], config: HealthCheck, rng: random.Random
    ) -> None:
        self._driver = driver
        self._pool = pool
        self._addresses = addresses
        self._service = config.service
        self._timeout = config.timeout
        self._round = Round(config, rng)
        self._armed: float | None = None

    def begin(self) -> None:
        """Asks from now on."""
        self._ask(None)

    def _ask(self, _: None) -> None:
        driver = self._driver
        if driver.process.stopped:
            driver.process.put_off(self._ask, None)
            return
        self._armed = None
        if driver.closed:
            return
        now = driver.engine.now
        if self._round.looks(now):
            self._round.members(self._addresses, now)
        for health in self._round.ask(now):
            question = Question(self._service, health, driver.subchannel(health.address), now + self._timeout)
            driver.engine.at(now + self._timeout, driver.timed_out, question)
            question.subchannel.send(question)
        self._arm()

    def answered(self, question: Question, outcome: Outcome) -> None:
        """A question came back."""
        now, health = self._driver.engine.now, question.health
        status = SERVING if question.serving else NOT_SERVING
        answer = answer_of(outcome.code, status if outcome is OK else None)
        if self._round.answered(health, answer, now):
            self._pool.checked(health.address, answer, health.serving, now)
        self._arm()

    def _arm(self) -> None:
        """Looks again when it is time."""
        engine = self._driver.engine
        at = max(engine.now, self._round.wake_at)
        if self._armed is None or at < self._armed:
            self._armed = at
            engine.at(at, self._woke, at)

    def _woke(self, at: float) -> None:
        if at == self._armed:
            self._ask(None)
