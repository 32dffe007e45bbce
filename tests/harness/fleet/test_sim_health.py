"""Health checks in virtual time: who is asked when, and what the answers change in where calls go.

Two servers, a call every 50 ms, questions at most 200 ms apart with 200 ms for an answer, two silences make one unhealthy:
so a silent server is left within 0.2 + 2 * 0.2 = 0.6 s.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from faults import Blackhole, Kill, Latency, Pause, Restart, StaleHealth, at, during, named
from harness import Available, Client, Scenario, Servers, Steady
from harness.fleet.sim.fleet import SimFleet
from harness.fleet.sim.server import Server
from harness.runner import run
from stormproof import Failover, HealthCheck, Policy, Retry, RoundRobin

ASKED = HealthCheck(interval=0.2, timeout=0.2, failures=2)
FOUND = 0.6
SICK, WELL = "server-0", "server-1"


def day(*faults, health=ASKED, timeout=10.0, seconds=6.0, seed=1):
    """The history of a day in virtual time with health checks (None: without)."""
    scenario = Scenario(
        servers=Servers(2),
        client=Client(
            balancer=RoundRobin(),
            policy=Policy(timeout=timeout, idempotent=True, retry=Retry(attempts=3)),
            failover=Failover(health=health),
        ),
        workload=Steady(rate=20, seconds=seconds),
        faults=faults,
        guarantees=[Available(0.9)],
    )
    result = run(scenario, SimFleet(), seed=seed, name="a day")
    assert result.history.problems == ()
    return result.history


def tried(history, start, end):
    """How many attempts each server got from `start` until `end`."""
    return Counter(attempt.server for _, attempt in history.attempts() if start <= attempt.started < end)


def test_on_a_quiet_day_both_serve():
    """Promise: questions are no calls: nobody's journal tells of them, and everybody has its share."""
    history = day()
    assert tried(history, 0.0, 6.0) == {SICK: 60, WELL: 60}
    assert len(history.executions) == 120


@pytest.mark.parametrize("fault", [Pause(), Blackhole()], ids=str)
@pytest.mark.parametrize("seed", range(1, 6))
def test_a_silent_server_is_left_before_a_call_has_failed_on_it(fault, seed):
    """Promise: its calls hang for 10 s, so nothing else could tell; within 0.6 s it is left, and back when it answers again."""
    history = day(during(1.0, 4.0, fault, on=named(SICK)), seed=seed)
    assert tried(history, 1.0 + FOUND, 4.0) == {WELL: 48}
    assert tried(history, 5.5, 6.0)[SICK] >= 4
    unasked = day(during(1.0, 4.0, fault, on=named(SICK)), health=None, seed=seed)
    assert tried(unasked, 1.0 + FOUND, 4.0)[SICK] == 24


def test_no_caller_pays_for_finding_out_that_a_server_is_still_dead():
    """Promise: an ejected server that is asked gets no trial before it says that it serves; without questions it gets some."""
    dead = during(1.0, 5.0, Kill(), on=named(SICK))
    assert tried(day(dead), 1.0 + FOUND, 5.0) == {WELL: 68}
    assert tried(day(dead, health=None), 1.0 + FOUND, 5.0)[SICK] >= 2


def test_a_server_that_was_restarted_is_called_again():
    """Promise: its word and then a trial bring it back: gone for 0.7 s, it has its half again within 1.5 s of its start."""
    history = day(at(1.0, Restart(downtime=0.5), on=named(SICK)))
    assert tried(history, 3.5, 6.0) == {SICK: 25, WELL: 25}


def test_a_server_is_taken_at_its_word():
    """Promise: one that says it does not serve, though it does, is left at once, and is back with its next good word."""
    history = day(during(1.0, 4.0, StaleHealth(), on=named(SICK)))
    assert tried(history, 1.2, 4.0) == {WELL: 56}
    assert tried(history, 4.2, 6.0) == {SICK: 18, WELL: 18}
    assert 15 <= history.faults[0].touched <= 30  # a question each 0.1 to 0.2 s


def test_questions_go_through_what_is_between():
    """Promise: answers that take 300 ms come too late for a question, though calls have 10 s: the server is left."""
    slow = during(1.0, 4.0, Latency(0.3), on=named(SICK))
    assert tried(day(slow), 1.0 + FOUND, 4.0) == {WELL: 48}
    assert tried(day(slow, health=replace(ASKED, timeout=0.4)), 1.0 + FOUND, 4.0) == {SICK: 24, WELL: 24}


def test_if_nobody_says_that_it_serves_all_are_used(monkeypatch):
    """Promise: asked about a service that is not there all say no (NOT_FOUND), and the channel goes on calling all of them."""
    heard = []
    asked = Server.asked

    def listens(server, question):
        asked(server, question)
        heard.append((question.service, question.answer.code.name))

    monkeypatch.setattr(Server, "asked", listens)
    history = day(health=replace(ASKED, service="hello.Goodbye"))
    assert set(heard) == {("hello.Goodbye", "NOT_FOUND")}
    assert tried(history, 0.0, 6.0) == {SICK: 60, WELL: 60}
    heard.clear()
    day(health=replace(ASKED, service="hello.Hello"))
    assert set(heard) == {("hello.Hello", "OK")}
    # Each of two servers is asked after 0.1 to 0.2 s, for 6 s: 80 times in the mean, from 60 to 120.
    assert 60 <= len(heard) <= 120


def test_a_seed_repeats_a_day_with_questions():
    """Promise: they draw from the run's seed, and from nothing else."""
    faults = (during(1.0, 3.0, Pause(), on=named(SICK)), during(2.0, 4.0, Latency(0.1, jitter=0.1), on=named(WELL)))
    assert day(*faults, seed=3) == day(*faults, seed=3)
