"""What one method may do: how long it may take, and when another attempt is allowed.

Attempts count with the first one in (gRFC A6). Times are seconds. Policies are values: they hold no state, and one
policy serves any number of channels.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from stormproof.core.check import complain, instance, number, seconds
from stormproof.core.outcome import Code, Evidence, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before attempt n+1: uniformly from 0 to min(cap, base * multiplier ** (n - 1)) seconds.

    Full jitter, because callers that failed together must not come back together (AWS Builders' Library, "Timeouts,
    retries, and backoff with jitter"). `base` 0 waits not at all. Raises ValueError for a negative time or a
    multiplier under 1.
    """

    base: float = 0.025
    multiplier: float = 2.0
    cap: float = 1.0

    def __post_init__(self) -> None:
        problems = seconds("base", self.base) + seconds("cap", self.cap)
        complain(self, problems + number("multiplier", self.multiplier, 1, 100, unit="growth a retry"))

    def delay(self, failed: int, rng: random.Random) -> float:
        """Seconds to wait after the attempt of this number failed."""
        return rng.random() * min(self.cap, self.base * self.multiplier ** min(failed - 1, 1000))


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A failed attempt is followed by another one, up to `attempts` in all (1 to 10; 1 is no retry).

    `on` names the codes that are worth another attempt. Whatever they are, an attempt whose request may have reached a
    server without an answer is repeated only for a method that is declared idempotent (`Policy.idempotent`).
    """

    attempts: int = 3
    backoff: Backoff = field(default_factory=Backoff)
    on: frozenset[Code] = frozenset({Code.UNAVAILABLE})

    def __post_init__(self) -> None:
        problems = number("attempts", self.attempts, 1, 10, unit="with the first one in", whole=True)
        problems += instance("backoff", self.backoff, Backoff, "Backoff()")
        object.__setattr__(self, "on", frozenset(_codes(self.on, problems)))
        if Code.OK in self.on:
            problems.append("on must not hold OK: a success is never repeated")
        complain(self, problems)


def _codes(codes: Iterable[Code | str], problems: list[str]) -> Iterable[Code]:
    for code in codes:
        name = code if isinstance(code, str) else getattr(code, "name", str(code))
        if name in Code.__members__:
            yield Code[name]
        else:
            problems.append(f"on must hold gRPC status codes, such as Code.UNAVAILABLE; got {code!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a method may do.

    timeout          seconds for the whole call, attempts and waits included; None: no limit of ours. The default is
                     there because gRPC has none, and a call into a black hole would hang for ever.
    attempt_timeout  seconds for one attempt; None: whatever the call has left.
    retry            when to try again; None: never.
    idempotent       doing the work twice is as good as once. Only then is an attempt repeated whose request may have
                     been executed: one that timed out, or whose connection broke.

    A caller's own `timeout=` counts too: the smaller one wins. Raises ValueError for a time that is not positive.
    """

    timeout: float | None = 10.0
    attempt_timeout: float | None = None
    retry: Retry | None = field(default_factory=Retry)
    idempotent: bool = False

    def __post_init__(self) -> None:
        problems = seconds("timeout", self.timeout, low=0.001, optional=True)
        problems += seconds("attempt_timeout", self.attempt_timeout, low=0.001, optional=True)
        if self.retry is not None:
            problems += instance("retry", self.retry, Retry, "Retry(attempts=3), or None for no retry")
        problems += instance("idempotent", self.idempotent, bool, "True")
        complain(self, problems)

    @property
    def attempts(self) -> int:
        """The most attempts a call may take."""
        return 1 if self.retry is None else self.retry.attempts

    def may_repeat(self, outcome: Outcome) -> bool:
        """Whether an attempt that ended so may be followed by another one of the same work."""
        if self.retry is None:
            return False
        if outcome.pushback is not None:  # gRFC A6: "the server may send a pushback"; negative: "do not retry"
            return outcome.pushback >= 0
        if outcome.evidence is Evidence.LOST:
            # A timeout that we set ourselves is no answer: only a repeatable method may try again.
            return self.idempotent and (outcome.code in self.retry.on or outcome.code is Code.DEADLINE_EXCEEDED)
        return outcome.code in self.retry.on
