"""What one method may do: how long it may take, and when another attempt is allowed.

Attempts count with the first one in (gRFC A6). Times are seconds. Policies are values: they hold no state, and one
policy serves any number of channels.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from stormproof.core.check import complain, instance, number, seconds
from stormproof.core.outcome import Code, Evidence, Outcome

_NO_ANSWER = frozenset({Code.DEADLINE_EXCEEDED, Code.CANCELLED})


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
        on: object = self.on  # a set of codes or of their names
        if isinstance(on, str) or not isinstance(on, Iterable):
            problems.append(f"on must be a set of gRPC status codes, such as {{Code.UNAVAILABLE}}; got {on!r}")
        else:
            object.__setattr__(self, "on", frozenset(_codes(on, problems)))
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
class Hedge:
    """While nobody has answered, a further copy of the call is sent to another endpoint every `after` seconds.

    `attempts` is how many copies there are in all, the first one included (2 to 5). The first success wins, and the
    others are cancelled. A copy that fails without harm starts the next one at once. Each further copy is paid for from
    the channel's RetryBudget, so that a jump of all latencies cannot double the load. Hedging a method declares it
    idempotent. Source: gRFC A6; Dean and Barroso, "The Tail at Scale".
    """

    after: float
    attempts: int = 2

    def __post_init__(self) -> None:
        problems = seconds("after", self.after)
        problems += number("attempts", self.attempts, 2, 5, unit="copies, with the first one in", whole=True)
        complain(self, problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A broken answer stream continues on another server: nothing is lost, repeated or reordered.

    resume  `resume(request, cursor)` makes the request that asks for what comes after a message; it is called only once
            a message has arrived. Until then the request itself is sent again.
    cursor  `cursor(message)` tells one message from all others; None: the message itself is the cursor. For a stream that
            outlives its client (`checkpointed_stream`) it must give text, bytes or a whole number.

    What they raise surfaces in the caller. Source: Spanner's and Bigtable's resumable reads.
    """

    resume: Callable[[Any, Any], Any]
    cursor: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        problems: list[str] = []
        if not callable(self.resume):
            problems.append(f"resume must be a function of (request, cursor); got {self.resume!r}")
        if self.cursor is not None and not callable(self.cursor):
            problems.append(
                f"cursor must be a function of a message, or None for the message itself; got {self.cursor!r}"
            )
        complain(self, problems)

    def after(self, request: Any, last: Any) -> Any:
        """The request for what comes after the message `last`."""
        return self.resume(request, last if self.cursor is None else self.cursor(last))


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a method may do.

    timeout          seconds for the whole call, attempts and waits included; None: no limit of ours. The default is
                     there because gRPC has none, and a call into a black hole would hang for ever.
    attempt_timeout  seconds for one attempt; None: whatever the call has left.
    retry            when to try again; None: never.
    hedge            when to ask a second endpoint without waiting for the first; None: never.
    idempotent       doing the work twice is as good as once. Only then is an attempt repeated whose request may have
                     been executed: one that timed out, or whose connection broke.
    idempotency_key  each call carries a fresh random `idempotency-key` in its metadata, the same in all its attempts, and
                     may therefore be repeated like an idempotent one. A key of the caller's own is kept. The servers
                     must honour it (stormproof.server.Idempotency), and from one store: a further attempt usually goes
                     to another server. Where they do not, the work may be done twice.
    checkpoint       how a broken answer stream continues elsewhere; None: it ends with its error.
    buffer           bytes of a client stream that are kept for another attempt (default 256 KiB, as in gRFC A6). A
                     stream that outgrows them is committed to the attempt that it is in.

    Of a method with an answer stream, `timeout` is a limit for the whole stream and counts only where the method has a
    policy of its own (`methods=`): a channel-wide default must not cut a stream short that is meant to last.
    `attempt_timeout` is the longest silence between two messages. Hedging is for unary methods.

    A caller's own `timeout=` counts too: the smaller one wins. Raises ValueError for a time that is not positive.
    """

    timeout: float | None = 10.0
    attempt_timeout: float | None = None
    retry: Retry | None = field(default_factory=Retry)
    hedge: Hedge | None = None
    idempotent: bool = False
    idempotency_key: bool = False
    checkpoint: Checkpoint | None = None
    buffer: int = 256 * 1024

    def __post_init__(self) -> None:
        problems = seconds("timeout", self.timeout, low=0.001, optional=True)
        problems += seconds("attempt_timeout", self.attempt_timeout, low=0.001, optional=True)
        if self.retry is not None:
            problems += instance("retry", self.retry, Retry, "Retry(attempts=3), or None for no retry")
        if self.hedge is not None:
            problems += instance("hedge", self.hedge, Hedge, "Hedge(after=0.05), or None for no hedging")
        problems += instance("idempotent", self.idempotent, bool, "True")
        problems += instance("idempotency_key", self.idempotency_key, bool, "True")
        if self.checkpoint is not None:
            problems += instance("checkpoint", self.checkpoint, Checkpoint, "Checkpoint(resume=...), or None")
        problems += number("buffer", self.buffer, 0, 2**40, unit="bytes", whole=True)
        complain(self, problems)

    @property
    def attempts(self) -> int:
        """The most attempts a call may take."""
        return 1 if self.retry is None else self.retry.attempts

    @property
    def repeatable(self) -> bool:
        """Whether asking twice is as good as once: it was declared so, it is hedged, or servers know the call by its key."""
        return self.idempotent or self.hedge is not None or self.idempotency_key

    def may_repeat(self, outcome: Outcome) -> bool:
        """Whether an attempt that ended so may be followed by another one of the same work."""
        if self.retry is None:
            return False
        if outcome.pushback is not None:  # gRFC A6: "the server may send a pushback"; negative: "do not retry"
            return outcome.pushback >= 0
        if outcome.evidence is Evidence.LOST:
            # A timeout that we set, or a call that a server cancels as it stops, is no answer.
            return self.repeatable and (outcome.code in self.retry.on or outcome.code in _NO_ANSWER)
        return outcome.code in self.retry.on
