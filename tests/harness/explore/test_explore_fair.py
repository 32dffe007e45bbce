"""What may be asked of a client on a day: what its own configuration promises, and nothing that the day does not allow."""

from __future__ import annotations

import pytest

from faults import Blackhole, Errors, Hang, Kill, Latency, Pause, Restart, at, during, every_so_often, named
from harness import (
    AtMostOnce,
    AvoidsFaulty,
    Batch,
    Client,
    EvenShare,
    NoStrays,
    NothingLost,
    Recovers,
    Resumes,
    RetriesElsewhere,
    Servers,
    Steady,
    WithinBudget,
    WithinDeadline,
)
from harness.explore.fair import fair
from harness.guarantees import GUARANTEES
from stormproof import (
    Failover,
    HealthCheck,
    Hedge,
    PeakEwma,
    Policy,
    RandomChoice,
    Retry,
    RetryBudget,
    RoundRobin,
    SlowStart,
)

CALLS = Steady(rate=100, seconds=10)
ONE = named("server-0")


def names(client, *faults, servers=Servers(3), workload=CALLS):
    """The kinds of guarantee that are fair, in a set."""
    return {type(g).__name__ for g in fair(client, servers, workload, faults)}


def test_a_plain_client_on_a_quiet_day():
    """Promise: the bounds are those of its own policy and budget."""
    client = Client(policy=Policy(timeout=0.5, retry=Retry(attempts=4)), budget=RetryBudget(ratio=0.2))
    assert fair(client, Servers(3), CALLS, ()) == (
        WithinDeadline(0.5),
        AtMostOnce(),
        WithinBudget(attempts=4, ratio=0.2),
        RetriesElsewhere(),
        NoStrays(),
        NothingLost(),
        EvenShare(),
    )


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"policy": Policy(timeout=None)}, {"WithinDeadline"}),
        ({"policy": Policy(idempotent=True)}, {"AtMostOnce"}),
        ({"policy": Policy(hedge=Hedge(after=0.1))}, {"AtMostOnce"}),
        ({"policy": Policy(idempotency_key=True)}, {"AtMostOnce"}),
        ({"failover": None}, {"RetriesElsewhere"}),
        ({"failover": Failover(health=HealthCheck())}, {"RetriesElsewhere"}),
        ({"balancer": PeakEwma()}, {"EvenShare"}),
    ],
    ids=["no timeout", "idempotent", "hedged", "with keys", "no failover", "health checks", "by latency"],
)
def test_what_a_client_does_not_promise_is_not_asked(changes, gone):
    """Promise: each part of a configuration takes away what it gives up."""
    assert names(Client()) - names(Client(**changes)) == gone


def test_round_robin_owes_more_than_chance():
    """Promise: shares within a twentieth, where a random choice owes no more than chance explains."""
    assert EvenShare(within=0.05) in fair(Client(balancer=RoundRobin()), Servers(3), CALLS, ())
    assert EvenShare() in fair(Client(balancer=RandomChoice()), Servers(3), CALLS, ())
    assert "EvenShare" not in names(Client(), servers=Servers(2, weights=(1.0, 2.0)))


def test_copies_of_a_hedge_count_as_attempts():
    """Promise: three attempts and two copies: at most four that a server may see."""
    client = Client(policy=Policy(hedge=Hedge(after=0.1)))
    assert WithinBudget(attempts=4) in fair(client, Servers(3), CALLS, ())


@pytest.mark.parametrize(
    ("fault", "recovers"),
    [
        (during(1.0, 5.0, Kill(), on=ONE), True),
        (during(1.0, 5.5, Kill(), on=ONE), False),
        (at(1.0, Kill(), on=ONE), False),
        (at(3.0, Restart(), on=ONE), True),
        (at(4.0, Restart(downtime=1.0), on=ONE), False),
    ],
)
def test_recovery_is_asked_if_there_is_time_for_it(fault, recovers):
    """Promise: 3 s to come back and 2 s to be judged must be left of the day's 10."""
    assert (Recovers(within=3.0) in fair(Client(), Servers(3), CALLS, [fault])) is recovers


LONG = Client(policy=Policy(timeout=1.0, attempt_timeout=0.4))
DOWN = during(1.0, 5.0, Blackhole(), on=ONE)


@pytest.mark.parametrize(
    ("client", "faults", "servers", "rate", "asked"),
    [
        (LONG, [DOWN], 3, 100, True),
        (LONG, [DOWN, during(2.0, 5.0, Pause(), on=named("server-1"))], 3, 100, True),
        (LONG, [DOWN], 2, 100, True),
        (LONG, [DOWN], 1, 100, False),
        (LONG, [during(1.0, 5.0, Kill(), on=named("server-0", "server-1", "server-2"))], 4, 100, False),
        (LONG, [DOWN, during(1.0, 5.0, Latency(0.1), on=ONE)], 3, 100, False),
        (LONG, [during(1.0, 5.0, Hang(), on=ONE)], 3, 100, True),
        (LONG, [during(1.0, 5.0, Hang(0.5), on=ONE)], 3, 100, False),
        (LONG, [during(1.0, 5.0, Errors(0.5), on=ONE)], 3, 100, False),
        (LONG, [during(1.0, 5.0, Errors(code="ABORTED"), on=ONE)], 3, 100, False),
        (LONG, [during(1.0, 5.0, Kill())], 3, 100, False),
        (LONG, [every_so_often(1.0, Kill(), lasting=0.5, start=1.0, end=5.0, on=ONE)], 3, 100, False),
        (LONG, [DOWN], 3, 50, False),
        (Client(policy=Policy(timeout=1.0, hedge=Hedge(after=0.1))), [DOWN], 3, 100, False),
        (Client(failover=None), [DOWN], 3, 100, False),
        (Client(failover=Failover(slow_start=SlowStart(window=5))), [DOWN], 3, 100, False),
    ],
    ids=[
        "one of three", "two of three", "one of two", "all", "three of four", "one is slow, too", "it hangs",
        "half hang", "half of its calls",
        "an answer", "nobody knows who", "it comes and goes", "few calls", "hedged", "no failover", "slow start",
    ],
)  # fmt: skip
def test_who_fails_every_call_must_be_left_if_there_is_a_choice(client, faults, servers, rate, asked):
    """Promise: within the attempt's time and a second more, and only where the library's own rules say that it is ejected."""
    found = fair(client, Servers(servers), Steady(rate=rate, seconds=10), faults)
    assert [g for g in found if isinstance(g, AvoidsFaulty)] == ([AvoidsFaulty(within=1.4, share=0.1)] if asked else [])


def test_a_batch_must_resume_if_only_its_client_was_broken_off():
    """Promise: at most the distance of its checkpoints; a server that loses answers makes every item come again."""
    killed = during(1.0, 1.5, Kill(), on=named("client"))
    client, work = Client(checkpoint_every=7), Batch(items=100)
    assert Resumes(every=7) in fair(client, Servers(3), work, [killed])
    assert "Resumes" not in names(client, killed, DOWN, workload=work)
    assert "Resumes" not in names(client, workload=work)
    assert "Resumes" not in names(Client(), killed, workload=work)


def test_only_what_is_fair_by_construction_is_ever_asked():
    """Promise: how fast and how available is never asked, since no client promises that of a bad day; nor is what needs
    bounds of the day's own."""
    never = {
        "Available",
        "Fast",
        "NoRetryStorm",
        "WeightedShare",
        "HealthyShare",
        "SpreadsRetries",
        "StopsWork",
        "Uncut",
    }
    from harness.explore.asked import FAIR

    assert set(FAIR) == {kind.__name__ for kind in GUARANTEES} - never
    assert NothingLost() in fair(Client(), Servers(1), CALLS, [DOWN])
