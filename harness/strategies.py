"""Hypothesis strategies for scenarios, so that `@given(scenarios())` looks for a day on which a promise breaks.

    @given(scenarios(client=MINE))
    def test_no_day_breaks_it(run, day): ...

Every draw is of a short list that begins with the simplest, and what can be computed is not drawn (a day is as long as
its faults need), so that shrinking is quick and ends at a day that people can read: one server before two, no fault
before one, whole half seconds. Only a day that nobody would judge is drawn in vain.
Needs Hypothesis: `pip install stormproof[explore]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from faults import (
    Blackhole,
    Drain,
    Errors,
    Fault,
    Hang,
    Injection,
    Kill,
    Latency,
    Overload,
    Pause,
    Refuse,
    Reset,
    Restart,
    at,
    during,
    named,
)
from harness.client import Client
from harness.explore.fair import BACK, JUDGED, fair
from harness.guarantees import Guarantee
from harness.scenario import Scenario, Servers
from harness.workload import Batch, Steady, Workload
from stormproof import Adaptive, Balancer, Hedge, LeastRequest, PeakEwma, Policy, RandomChoice, Retry, RoundRobin

#: Which guarantees a day is judged by: always these, or those that a function finds fair for it.
Judges = Sequence[Guarantee] | Callable[[Client, Servers, Workload, Sequence[Injection]], Sequence[Guarantee]]

#: Faults of servers and of the network, the plainest first. Those that hang find most, and so come more often.
FAULTS: tuple[Fault, ...] = (
    Errors(), Refuse(), Kill(), Blackhole(), Pause(), Reset(), Latency(0.3), Blackhole(towards="client"), Errors(0.5),
    Drain(), Latency(0.05, jitter=0.05), Overload(2, delay=0.1), Restart(), Hang(), Blackhole(), Hang(0.5),
)  # fmt: skip
#: Those that do not look where they go meet most of what goes wrong, and so come twice.
BALANCERS: tuple[Balancer, ...] = (
    LeastRequest(), RoundRobin(), RandomChoice(), PeakEwma(), Adaptive(), LeastRequest(choices=None),
    RoundRobin(), RandomChoice(),
)  # fmt: skip
#: Of the client's own process, while it works through a batch.
OF_THE_CLIENT: tuple[Fault, ...] = (Kill(), Pause())
#: Calls a second, items of a batch, items between two checkpoints.
RATE, ITEMS, EVERY = 100, 200, 10
#: Seconds of a quiet day: as many calls as it takes to see that five servers have even shares.
QUIET = 4.0
#: Seconds of the steps in which time is drawn, and so many of them at most until a fault begins and until it ends.
STEP, LATEST, LONGEST = 0.5, 6, 8


@cache
def policies() -> SearchStrategy[Policy]:
    """What a method may do: timeouts, retries, hedges, each in a few sizes."""
    return st.builds(
        Policy,
        timeout=st.sampled_from((1.0, 0.5)),
        attempt_timeout=st.sampled_from((None, 0.4, 0.2)),
        retry=st.sampled_from((Retry(), None, Retry(attempts=2))),
        idempotent=st.booleans(),
        hedge=st.sampled_from((None, None, None, Hedge(after=0.05))),
    )


@cache
def clients() -> SearchStrategy[Client]:
    """Our own channel with one of its balancers and a policy; one in six works through a batch, with checkpoints."""
    return st.builds(
        Client,
        balancer=st.sampled_from(BALANCERS),
        policy=policies(),
        checkpoint_every=st.sampled_from((None, None, None, None, None, EVERY)),
    )


@st.composite
def injections(draw: st.DrawFn, *, servers: int, of_the_client: bool = False) -> Injection:
    """One fault on one, two or all of so many servers, or on the client; it is always healed."""
    start = STEP * (1 + draw(st.integers(0, LATEST - 1)))
    if of_the_client and draw(st.booleans()):
        fault = draw(st.sampled_from(OF_THE_CLIENT))
        return during(start, start + STEP, fault, on=named("client"))
    fault = draw(st.sampled_from(FAULTS))
    first = draw(st.sampled_from((0, 0, *range(servers))))  # mostly the same one: it is all one which
    others = draw(st.sampled_from((0, 0, 0, 1, servers - 1)))
    on = named(*(f"server-{n}" for n in sorted({(first + step) % servers for step in range(others + 1)})))
    steps = draw(_mostly((5, 6, 7, 8), 1, LONGEST))  # who hangs is found out after some seconds only
    return at(start, fault, on=on) if isinstance(fault, Restart) else during(start, start + STEP * steps, fault, on=on)


@st.composite
def scenarios(
    draw: st.DrawFn,
    *,
    client: Client | SearchStrategy[Client] | None = None,
    guarantees: Judges = fair,
    servers: tuple[int, int] = (1, 5),
    faults: tuple[int, int] = (0, 3),
) -> Scenario:
    """A bad day: servers, a workload and faults that fit each other, and the guarantees that it is judged by.

    client      whose promises are looked at, or a strategy for such clients; None: any of ours (`clients`).
    guarantees  the same for every day; or a function of client, servers, workload and faults (the default:
                `harness.explore.fair`, what the client's own configuration promises on that day).
    servers, faults  the fewest and the most that a day may have.

    A client with `checkpoint_every` works through a batch on its days, and may be killed; others are called at a rate.
    """
    count = draw(_mostly((2, 3), *servers))
    who = client if isinstance(client, Client) else draw(clients() if client is None else client)
    batch = who.checkpoint_every is not None
    one = injections(servers=count, of_the_client=batch)
    # Mostly one fault: what it does is seen best when it acts alone.
    bad = [draw(one) for _ in range(draw(_mostly((0, 1, 1, 1, 2), *faults)))]
    work = draw(st.sampled_from((0.002, 0.02)))  # also of a batch, which has its own: what has fewer draws is simpler
    fleet = Servers(count, service_time=0.01 if batch else work)
    workload: Workload = Batch(items=ITEMS) if batch else Steady(rate=RATE, seconds=_long_enough(bad))
    judges = guarantees(who, fleet, workload, bad) if callable(guarantees) else guarantees
    assume(judges)
    return Scenario(servers=fleet, client=who, workload=workload, faults=bad, guarantees=judges)


def _mostly(likely: Sequence[int], fewest: int, most: int) -> SearchStrategy[int]:
    """A number from `fewest` to `most`, those that are `likely` more often."""
    return st.sampled_from(sorted(n for n in (*likely, *range(fewest, most + 1)) if fewest <= n <= most))


def _long_enough(faults: Sequence[Injection]) -> float:
    """Seconds that a day needs for its faults and for what is seen after them."""
    last = max((i.start + 1.0 if i.end is None else i.end for i in faults), default=None)
    return QUIET if last is None else last + BACK + JUDGED
