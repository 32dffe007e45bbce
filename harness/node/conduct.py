"""How a server misbehaves: what a Behaviour (control.proto) makes of each call, and how often it acted.

Time is the argument `now`: seconds from any origin.

Draws depend on the seed and on the call's own id, not on the order of arrival, so that the same calls
misbehave again in a replay. Nothing here waits or answers; hello.py does what is decided here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import grpc

from harness.wire import Behaviour, Health, Observed

_CODES = {code.value[0]: code for code in grpc.StatusCode if code is not grpc.StatusCode.OK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """What is done to one call: `code` instead of work, or no answer (`hang`), or `delay` seconds, a lie."""

    code: grpc.StatusCode | None = None
    why: str = ""
    hang: bool = False
    delay: float = 0.0
    wrong: bool = False


GOOD = Manner()


class Conduct:
    """Decides the manner of each call. `name` is the server's, to sign its refusals. Not thread safe."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._behaviour = Behaviour()
        self._good = True
        self._arrived = 0
        self._observed = Observed()
        self._cold_since = 0.0

    def behave(self, behaviour: Behaviour, now: float) -> None:
        """Replaces the whole behaviour; ValueError names every field out of bounds, and nothing changes."""
        if problems := _problems(behaviour):
            raise ValueError("Behaviour: " + "; ".join(problems))
        before = self._behaviour
        if (before.cold_delay, before.cold_for) != (behaviour.cold_delay, behaviour.cold_for):
            self._cold_since = now
        self._behaviour = behaviour
        self._good = behaviour == Behaviour(seed=behaviour.seed)
        self._arrived = 0

    def observed(self) -> Observed:
        """How often each misbehaviour acted since the server started."""
        return self._observed

    @property
    def memory(self) -> int:
        """Bytes to hold."""
        return self._behaviour.memory

    def serving(self, truth: bool) -> bool:
        """What the health service says, where `truth` is whether the server serves."""
        asked = self._behaviour.health
        said = truth if asked == Health.AS_IT_IS else asked == Health.ALWAYS_SERVING
        self._observed.lied += said is not truth
        return said

    def decide(self, operation: int, sent: int, running: int, now: float) -> Manner:
        """The manner of a call that has just arrived while `running` others are in the server.

        `operation` and `sent` are its id; a call without one (-1) is known by its place since the last
        `behave`.
        """
        self._observed.received += 1
        self._arrived += 1
        if self._good:
            return GOOD
        asked = self._behaviour
        who = str(operation) if operation >= 0 else f"#{self._arrived}"
        draw = random.Random(f"{asked.seed}:{who}:{sent}").random
        error, hang, wrong = draw() < asked.error_rate, draw() < asked.hang_rate, draw() < asked.wrong_rate
        if 0 < asked.limit <= running:
            self._observed.refused += 1
            why = f"{self._name} is told to run {asked.limit} calls at once"
            return Manner(code=grpc.StatusCode.RESOURCE_EXHAUSTED, why=why)
        if error:
            self._observed.errors += 1
            return Manner(code=_CODES[asked.error_code], why=f"{self._name} is told to fail")
        if hang:
            self._observed.hung += 1
            return Manner(hang=True)
        cold = self._coldness(now)
        self._observed.delayed += asked.delay > 0
        self._observed.cold += cold > 0
        self._observed.wrong += wrong
        return Manner(delay=asked.delay + cold, wrong=wrong)

    def _coldness(self, now: float) -> float:
        """Seconds that a call takes longer because the server is still cold."""
        asked = self._behaviour
        left = self._cold_since + asked.cold_for - now
        return asked.cold_delay * left / asked.cold_for if left > 0 else 0.0


def _problems(asked: Behaviour) -> list[str]:
    rates = {"error_rate": asked.error_rate, "hang_rate": asked.hang_rate, "wrong_rate": asked.wrong_rate}
    problems = [
        f"{name} must be a number, from 0 to 1; got {rate:g}" for name, rate in rates.items() if not 0 <= rate <= 1
    ]
    if asked.error_rate > 0 and asked.error_code not in _CODES:
        problems.append(f"error_code must be the number of a gRPC status, from 1 to 16; got {asked.error_code}")
    for name in ("delay", "cold_delay", "cold_for"):
        seconds = getattr(asked, name)
        if not 0 <= seconds <= 3600:
            problems.append(f"{name} must be seconds, from 0 to 3600; got {seconds:g}")
    if asked.memory < 0:
        problems.append(f"memory must be bytes, 0 or more; got {asked.memory}")
    if asked.health not in Health.values():
        problems.append(f"health must be one of {', '.join(Health.keys())}; got {asked.health}")
    if asked.limit < 0:
        problems.append(f"limit must be 0 (no limit) or more; got {asked.limit}")
    return problems
