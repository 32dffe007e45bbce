"""Answer streams in virtual time, as timetables: what of each was heard, from whom, and when it ended.

A message takes 0.5 ms (HOP), a connection 2 ms before its first one (CONNECT), and the work for each message 10 ms.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from faults import Blackhole, Drain, Kill, Pause, Reset, WrongAnswer, at, during, named
from harness import GREETINGS, Available, Client, Scenario, Servers, Streams, Uncut
from harness.client import GENERATION
from harness.fleet.sim.fleet import SimFleet
from harness.history import reconcile
from harness.scenario import Plan
from stormproof import Backoff, Policy, Retry, RoundRobin

AGAIN = Policy(timeout=10.0, retry=Retry(attempts=3, backoff=Backoff(base=0.0)), checkpoint=GREETINGS)


def day(*faults, due=(0.0,), messages=3, servers=2, policy=AGAIN, durable=None, patience=5.0):
    """The history of one run in virtual time, of streams due at these times."""
    scenario = Scenario(
        servers=Servers(servers, service_time=0.010),
        client=Client(balancer=RoundRobin(), policy=policy, checkpoint_every=durable),
        workload=Streams(rate=1, seconds=10, messages=messages),
        faults=faults,
        guarantees=[Available(1.0)],
        patience=patience,
    )
    plan = replace(Plan.draw(scenario, 1), arrivals=due)
    history = SimFleet().run(scenario, plan, name="a day", watch=lambda _: None)
    assert history.problems == ()
    assert reconcile(history) == ()
    return history


def told(history):
    """Each stream as "item: first-last attempt server, ...: result code at its end"; a repeat has a star."""
    return [
        f"{o.item}: "
        + ", ".join(
            f"{p.first}-{p.last}{'*' * p.repeat} {p.attempt} {o.attempts[p.attempt - 1].server}" for p in o.heard
        )
        + f": {o.result} {o.code} {'-' if o.ended is None else f'{o.ended:.4f}'}"
        for o in history.operations
    ]


def sent(history):
    """What each server says that it sent of a stream, as "server item messages code"."""
    return [f"{e.server} {e.item} {e.messages} {e.code}" for e in history.executions]


def test_a_stream_takes_its_work_for_each_message():
    """Promise: three messages of 10 ms, heard one by one; the stream is done with the last, and its latency counts to there."""
    history = day(due=(0.0, 1.0), servers=1)
    assert told(history) == ["0: 1-3 1 server-0: ok OK 0.0335", "1: 1-3 1 server-0: ok OK 1.0310"]
    assert sent(history) == ["server-0 0 3 OK", "server-0 1 3 OK"]
    assert [round(e.executed, 4) for e in history.executions] == [0.033, 1.0305]


def test_a_stream_that_broke_goes_on_elsewhere_after_the_last_message_heard():
    """Promise: the server is killed after its fourth message; the other one is asked for the rest, and only for that."""
    history = day(at(0.045, Kill()), messages=10)
    [name] = {e.server for e in history.executions if e.code is None}
    assert told(history) == [
        f"0: 1-4 1 {name}, 5-10 2 {'server-1' if name == 'server-0' else 'server-0'}: ok OK 0.1090"
    ]
    assert sorted(line[9:] for line in sent(history)) == ["0 4 None", "0 6 OK"]


def test_a_stream_without_a_checkpoint_ends_with_its_error():
    """Promise: once a message was heard no other attempt follows; what was heard is its beginning."""
    history = day(at(0.045, Kill()), messages=10, policy=replace(AGAIN, checkpoint=None), servers=1)
    assert told(history) == ["0: 1-4 1 server-0: info UNAVAILABLE 0.0455"]


def test_a_silent_stream_is_left_after_the_longest_silence():
    """Promise: `attempt_timeout` is the silence between two messages; a stream of any length may last."""
    quiet = replace(AGAIN, attempt_timeout=0.2)
    whole = day(messages=100, servers=1, policy=quiet)
    assert told(whole) == ["0: 1-100 1 server-0: ok OK 1.0035"]
    history = day(during(0.034, 9.0, Blackhole()), messages=10, policy=quiet)
    [operation] = history.operations
    assert [(a.code, round(a.ended, 4)) for a in operation.attempts] == [("DEADLINE_EXCEEDED", 0.2335), ("OK", 0.307)]
    assert [(p.first, p.last) for p in operation.heard] == [(1, 3), (4, 10)]


def test_a_stream_keeps_its_deadline():
    """Promise: `timeout` is for the whole stream, its continuations included, and its server hears of it."""
    history = day(messages=100, policy=replace(AGAIN, timeout=0.5), servers=1)
    assert told(history) == ["0: 1-49 1 server-0: info DEADLINE_EXCEEDED 0.5000"]
    assert sent(history) == ["server-0 0 49 CANCELLED"]


def test_a_message_for_somebody_else_is_not_ok():
    """Promise: as in the real client the stream is broken off there, and its server hears of it."""
    history = day(at(0.0, WrongAnswer()), messages=10, servers=1)
    assert told(history) == ["0: : info WRONG_ANSWER 0.0135"]
    assert sent(history) == ["server-0 0 1 CANCELLED"]
    assert [a.code for a in history.operations[0].attempts] == ["CANCELLED"]


def test_a_drained_server_ends_the_streams_that_it_can():
    """Promise: what fits into the grace comes to its end there; a longer stream goes on elsewhere."""
    history = day(at(0.1, Drain(grace=0.1), on=named("server-0", "server-1")), servers=3, messages=15, due=(0.0,) * 3)
    assert [line.count("server") for line in told(history)] == [1, 1, 1]
    history = day(at(0.1, Drain(grace=0.1), on=named("server-0", "server-1")), servers=3, messages=30, due=(0.0,) * 3)
    assert sorted(line.count("server") for line in told(history)) == [1, 2, 2]
    assert {o.result for o in history.operations} == {"ok"}


def test_a_killed_client_goes_on_with_its_streams():
    """Promise: killed after message 14, with 10 on its disk, it hears 11 on again; those that it may have had are marked."""
    history = day(during(0.145, 0.245, Kill(), on=named("client")), messages=30, servers=1, durable=10, due=(0.0, 5.0))
    assert history.client_starts == 2
    assert told(history) == [
        "0: 1-14 1 server-0: info UNKNOWN -",
        "0: 11-20* 1 server-0, 21-30 1 server-0: ok OK 0.6485",  # it needs 0.2 s to start
        "1: 1-30 1 server-0: ok OK 5.3010",
    ]
    assert [o.id for o in history.operations] == [0, GENERATION, GENERATION + 1]
    assert history.operations[1].due == pytest.approx(0.445)


def test_a_stream_that_was_read_to_its_end_is_not_asked_for_again():
    """Promise: a client that is started again reads only what it has not read."""
    history = day(during(0.5, 0.6, Kill(), on=named("client")), servers=1, durable=10, due=(0.0, 0.49, 3.0))
    assert [o.item for o in history.operations] == [0, 1, 1, 2]


def test_without_a_durable_checkpoint_a_killed_client_begins_again():
    """Promise: every message comes again, unmarked, and that is found."""
    history = day(during(0.145, 0.245, Kill(), on=named("client")), messages=30, servers=1)
    assert [(p.first, p.last, p.repeat) for o in history.operations for p in o.heard] == [
        (1, 14, False),
        (1, 30, False),
    ]
    assert Uncut(every=10).check(history).why[0] == (
        "first: message 1 came again, not marked as a repeat; heard 1 to 30 from server-0"
    )


def test_streams_that_are_under_way_after_the_patience_end_as_cancelled():
    """Promise: as calls do; what a killed client had begun is none of its successor's."""
    history = day(during(0.1, 0.2, Kill(), on=named("client")), messages=500, servers=1, durable=10, patience=1.0)
    assert told(history) == [
        "0: 1-9 1 server-0: info UNKNOWN -",
        "0: 1-10* 1 server-0, 11-99 1 server-0: info CANCELLED 1.4000",
    ]


def test_a_client_with_streams_cannot_be_paused():
    """Promise: what is due meanwhile would begin late, so nothing could be claimed; that is said before anything is run."""
    with pytest.raises(AssertionError, match=r"Pause\(\) on the client needs a Batch: Streams would begin late"):
        day(during(0.1, 0.2, Pause(), on=named("client")))


def test_every_message_counts_attempts_anew():
    """Promise: with three attempts a stream outlives any number of breaks, as long as a message comes between them."""
    torn = [during(t / 10, t / 10 + 0.015, Reset(), on=named(f"server-{t % 2}")) for t in range(1, 7)]
    history = day(*torn, messages=80)
    [operation] = history.operations
    assert operation.result == "ok"
    assert len(operation.heard) == len(operation.attempts) >= 6
    assert [piece.first for piece in operation.heard[1:]] == [piece.last + 1 for piece in operation.heard[:-1]]
