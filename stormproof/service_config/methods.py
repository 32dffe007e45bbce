"""What each method may do: `methodConfig` as policies."""

from __future__ import annotations

import re

from stormproof.core.breaker import FAILURES
from stormproof.core.outcome import Code
from stormproof.core.policy import Backoff, Hedge, Policy, Retry
from stormproof.service_config.fields import Fields

#: gRFC A6: "maxAttempts ... have, by default, a client-side maximum value of 5".
MOST_ATTEMPTS = 5
#: The shortest timeout that a Policy takes, in seconds.
SHORTEST = 0.001

WAITS = "waits are drawn from 0 to the full backoff, where gRPC draws from 0.8 to 1.2 of it: half as long on average"
STREAMS = "as the default of all methods it does not end answer streams, as gRPC's does; that of a service does"
LOST = (
    "an attempt that may have been executed is not repeated, where gRPC does repeat it: import with idempotent=True "
    "if doing the work twice is harmless"
)


def policies_of(root: Fields, idempotent: bool) -> tuple[Policy, dict[str, Policy]]:
    """The policy of methods without one of their own, and the others by name."""
    found: dict[str, Policy] = {}
    for method in root.objects("methodConfig"):
        names = [_name(name) for name in method.objects("name")]
        if not names:
            method.note("", "it has no name, and is skipped, as gRPC does")
        policy = _policy(method, idempotent)
        for index, name in enumerate(names):
            if name in found:
                method.bad(f"name[{index}]", "configured once", name or "the default for all methods a second time")
            found[name] = policy
        if "" in names and policy.timeout is not None:
            method.note("timeout", STREAMS)
    return found.pop("", Policy(timeout=None, retry=None)), found


def _name(name: Fields) -> str:
    """As `Channel` wants it: "/service/method", "/service/" for all of one, "" for the default."""
    service, method = name.text("service"), name.text("method")
    name.rest()
    for key, value in (("service", service), ("method", method)):
        if re.search(r"[/\s]", value):
            name.bad(key, "a name without slashes and spaces, such as 'shop.Cart'", value)
    if method and not service:
        name.bad("service", f"there, because 'method' is ({method!r})", service)
    return f"/{service}/{method}" if service else ""


def _policy(method: Fields, idempotent: bool) -> Policy:
    timeout = _timeout(method)
    if method.flag("waitForReady"):
        method.note("waitForReady", "not carried over; a call waits if it is made with wait_for_ready=True")
    for name, option in (("maxRequestMessageBytes", "send"), ("maxResponseMessageBytes", "receive")):
        if name in method.names:
            method.whole(name, 0)
            method.note(
                name, f"not carried over; the option grpc.max_{option}_message_length is for all methods at once"
            )
    retry, hedge = method.object("retryPolicy"), method.object("hedgingPolicy")
    method.rest()
    if retry is not None and hedge is not None:
        method.bad("hedgingPolicy", "left out where there is a retryPolicy (gRFC A6: only one of the two)", "both")
    return Policy(
        timeout=timeout,
        retry=None if retry is None else _retry(retry, idempotent),
        hedge=None if hedge is None else _hedge(hedge),
        idempotent=idempotent and retry is not None,
    )


def _timeout(method: Fields) -> float | None:
    told = method.seconds("timeout")
    if told == 0:
        method.note("timeout", "0 is no limit, as in gRPC's C core, on which gRPC for Python is built")
    elif told is not None and told < SHORTEST:
        method.note("timeout", f"{SHORTEST:g} s is used, the shortest there is here")
    return max(told, SHORTEST) if told else None


def _retry(told: Fields, idempotent: bool) -> Retry:
    attempts = _attempts(told)
    base, cap = told.seconds("initialBackoff", needed=True), told.seconds("maxBackoff", needed=True)
    growth = told.positive("backoffMultiplier")
    codes = told.codes("retryableStatusCodes", needed=True)
    told.rest()
    multiplier = min(max(growth, 1.0), 100.0)
    if multiplier != growth:
        told.note("backoffMultiplier", f"{multiplier:g} is used: it goes from 1 to 100 here")
    if Code.OK in codes:
        told.note("retryableStatusCodes", "without OK: a success is never repeated")
    told.note("", WAITS)
    if not idempotent:
        told.note("", LOST)
    backoff = Backoff(base=base or 0.0, multiplier=multiplier, cap=cap or 0.0)
    return Retry(attempts=attempts, backoff=backoff, on=codes - {Code.OK})


def _hedge(told: Fields) -> Hedge:
    attempts, after = _attempts(told), told.seconds("hedgingDelay") or 0.0
    codes = told.codes("nonFatalStatusCodes")
    told.rest()
    told.note("", "for unary methods only; the calls of the others are not hedged")
    if codes != FAILURES:
        known = ", ".join(code.name for code in sorted(FAILURES))
        told.note("nonFatalStatusCodes", f"not carried over; further copies go on after {known}")
    return Hedge(after=after, attempts=attempts)


def _attempts(told: Fields) -> int:
    attempts = told.whole("maxAttempts", 2)
    if attempts > MOST_ATTEMPTS:
        told.note("maxAttempts", f"{MOST_ATTEMPTS} is used, the most there is in gRPC too")
    return min(attempts, MOST_ATTEMPTS)
