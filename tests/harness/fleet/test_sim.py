"""The fleet of virtual time, as timetables: what a scenario of a few calls comes to, to the tenth of a millisecond.

A message takes 0.5 ms (HOP), a connection 2 ms before its first one (CONNECT), and the work 2 ms.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from faults import (
    Bandwidth,
    Blackhole,
    ColdStart,
    CpuHog,
    Drain,
    Errors,
    Fault,
    FileDescriptors,
    Hang,
    Kill,
    Latency,
    MemoryHog,
    Overload,
    PacketLoss,
    Pause,
    Refuse,
    Reset,
    Restart,
    Slice,
    SlowClose,
    Truncate,
    WrongAnswer,
    at,
    during,
    every,
    named,
)  # fmt: skip
from faults.network import NetworkFault, Toxic
from faults.server import CODES
from harness import Available, Batch, Client, Closed, GrpcClient, LogNormal, Poisson, Resumes, Scenario, Servers, Steady
from harness.fleet.base import open_fleet
from harness.fleet.misbehaviour import behaviour, seed_for
from harness.fleet.sim.fleet import SimFleet
from harness.fleet.sim.server import answered
from harness.history import reconcile
from harness.node.conduct import Conduct
from harness.report import histories
from harness.runner import run
from harness.scenario import Plan
from harness.service_time import Draws
from stormproof import (
    Backoff,
    Code,
    ConsistentHash,
    Hedge,
    LeastRequest,
    PeakEwma,
    Policy,
    Retry,
    RoundRobin,
)  # fmt: skip
from stormproof.subchannels import outcome_of

ROOT = Path(__file__).parents[3]
ONCE = Policy(timeout=1.0, retry=None)
AGAIN = Policy(timeout=1.0, idempotent=True, retry=Retry(attempts=3, backoff=Backoff(base=0.0)))
STEADY = Steady(rate=1, seconds=2)  # a call at 0 s, one at 1 s


def day(*faults, servers=Servers(1), policy=ONCE, workload=STEADY, seed=1, **changes):
    """The history of one run in virtual time."""
    scenario = Scenario(
        servers=servers,
        client=changes.pop("client", Client(balancer=changes.pop("balancer", RoundRobin()), policy=policy)),
        workload=workload,
        faults=faults,
        guarantees=[Available(1.0)],
        **changes,
    )
    return SimFleet().run(scenario, Plan.draw(scenario, seed), name="a day", watch=lambda _: None)


def attempts(history, since=0.0):
    """Each attempt as "call.number server from until code", of the calls due from `since` on."""
    return [
        f"{o.id}.{a.number} {a.server} {a.started:.4f} {a.ended:.4f} {a.code}"
        + (" never sent" if not a.sent else " lost" if a.lost else "")
        for o, a in history.attempts()
        if o.due >= since
    ]


def work(history):
    """Each request as "call server received executed ended code", by the servers' journals."""

    def time(moment):
        return "-" if moment is None else f"{moment:.4f}"

    return [
        f"{e.operation} {e.server} {time(e.received)} {time(e.executed)} {time(e.ended)} {e.code}"
        for e in history.executions
    ]


def results(history):
    return [(o.id, o.result, o.code) for o in history.operations]


def test_a_call_takes_its_way_its_work_and_its_way_back():
    """Promise: the first call connects, the second finds a connection; both ends tell of them."""
    history = day()
    assert attempts(history) == ["0.1 server-0 0.0000 0.0055 OK", "1.1 server-0 1.0000 1.0030 OK"]
    assert work(history) == ["0 server-0 0.0030 0.0050 0.0050 OK", "1 server-0 1.0005 1.0025 1.0025 OK"]
    assert [round(e.remaining, 4) for e in history.executions] == [0.9975, 1.0]
    assert results(history) == [(0, "ok", "OK"), (1, "ok", "OK")]
    assert (history.fleet, history.proxy, history.seconds, history.problems) == ("sim", "virtual", 2, ())


def test_calls_wait_for_a_worker_in_the_order_of_arrival():
    """Promise: one worker does one call at a time; the others wait, first come, first served."""
    history = day(servers=Servers(1, workers=1, service_time=0.1), workload=Steady(rate=50, seconds=0.1))
    assert [line.split()[3] for line in work(history)] == ["0.1030", "0.2030", "0.3030", "0.4030", "0.5030"]


def test_a_call_that_finds_the_queue_full_is_refused():
    """Promise: with one worker and one place to wait, the third call at once is refused by the server's own word."""
    history = day(servers=Servers(1, workers=1, queue=1, service_time=0.1), workload=Steady(rate=50, seconds=0.1))
    assert [(o.result, o.code) for o in history.operations] == [
        ("ok", "OK"),
        ("ok", "OK"),
        ("fail", "RESOURCE_EXHAUSTED"),
        ("fail", "RESOURCE_EXHAUSTED"),
        ("fail", "RESOURCE_EXHAUSTED"),
    ]
    assert work(history)[2] == "2 server-0 0.0405 - 0.0405 RESOURCE_EXHAUSTED"


def test_a_service_time_is_drawn_as_a_real_server_draws_it():
    """Promise: by the run's seed, the server and the attempt's id: what harness.service_time.Draws says."""
    times = LogNormal(0.01, sigma=1.0)
    history = day(servers=Servers(1, service_time=times), workload=Steady(rate=50, seconds=1))
    draws = Draws(times, seed_for("server-0", 1))
    assert [e.executed - e.received for e in history.executions] == pytest.approx(
        [draws.seconds(e.operation, 1) for e in history.executions]
    )


def test_a_call_ends_at_its_deadline_and_its_server_hears_of_it():
    """Promise: the caller has its error in time; what the server still did for it is cancelled, and journaled as that."""
    history = day(servers=Servers(1, service_time=3.0), workload=Steady(rate=1, seconds=1))
    assert attempts(history) == ["0.1 server-0 0.0000 1.0000 DEADLINE_EXCEEDED lost"]
    assert work(history) == ["0 server-0 0.0030 - 1.0005 CANCELLED"]
    assert results(history) == [(0, "info", "DEADLINE_EXCEEDED")]


def test_a_call_that_waits_for_a_worker_is_cancelled_in_the_queue():
    """Promise: a caller that gives up while its call waits leaves the queue; the work is never begun."""
    slow = Servers(1, workers=1, service_time=0.9)
    history = day(servers=slow, workload=Steady(rate=10, seconds=0.2), policy=replace(ONCE, timeout=0.5))
    assert work(history) == ["0 server-0 0.0030 - 0.5005 CANCELLED", "1 server-0 0.1005 - 0.6005 CANCELLED"]


def test_a_killed_server_loses_what_it_does_and_refuses_what_comes():
    """Promise: SIGKILL tears the connection under a call, whose journal stays open; later ones were never sent."""
    history = day(at(0.004, Kill()))
    assert attempts(history) == [
        "0.1 server-0 0.0000 0.0045 UNAVAILABLE lost",
        "1.1 server-0 1.0000 1.0025 UNAVAILABLE never sent",
    ]
    assert work(history) == ["0 server-0 0.0030 - - None"]
    assert results(history) == [(0, "info", "UNAVAILABLE"), (1, "fail", "UNAVAILABLE")]
    assert [(f.began, f.healed, f.touched) for f in history.faults] == [(0.004, None, 2)]


def test_what_was_never_sent_moves_on_for_free():
    """Promise: a refused connection costs a call a moment and no retry; while it is refused, a quarter of a millisecond."""
    two = Servers(2)
    history = day(at(0.5, Refuse(), on=named("server-0")), servers=two, policy=ONCE, workload=Steady(rate=2, seconds=2))
    assert attempts(history, since=1.0) == [
        "2.1 server-0 1.0000 1.0025 UNAVAILABLE never sent",
        "2.2 server-1 1.0025 1.0055 OK",
        "3.1 server-0 1.5000 1.5003 UNAVAILABLE never sent",  # the trial of the ejected one
        "3.2 server-1 1.5003 1.5032 OK",
    ]


def test_a_reset_tears_the_reply_after_the_work_was_done():
    """Promise: the work is done, the caller cannot know; only an idempotent method is asked again, elsewhere."""
    torn = during(0.5, 1.8, Reset(), on=named("server-0"))
    calls = Steady(rate=2, seconds=2)
    once = day(torn, servers=Servers(2), workload=calls, policy=replace(AGAIN, idempotent=False))
    assert attempts(once, since=1.0)[0] == "2.1 server-0 1.0000 1.0030 UNAVAILABLE lost"
    assert results(once)[2] == (2, "info", "UNAVAILABLE")
    assert "2 server-0 1.0005 1.0025 1.0025 OK" in work(once)
    again = day(torn, servers=Servers(2), workload=calls, policy=AGAIN)
    assert attempts(again, since=1.0)[:2] == [
        "2.1 server-0 1.0000 1.0030 UNAVAILABLE lost",
        "2.2 server-1 1.0030 1.0060 OK",
    ]


@pytest.mark.parametrize(
    ("fault", "ended"),
    [
        (Latency(0.3), 1.303),
        (Latency(0.3, towards="both"), 1.603),
        (Bandwidth(1000, towards="server"), 1.087),  # 84 bytes take 84 ms
        (Bandwidth(1000), 1.165),  # and 78 bytes of answer 78 ms
    ],
    ids=str,
)
def test_a_toxic_delays_a_call_by_what_it_says(fault, ended):
    """Promise: bytes go through the built-in proxy's own toxics, so latencies add up and thin links are thin."""
    history = day(during(0.5, 1.9, fault))
    assert history.operations[1].ended == pytest.approx(ended, abs=1e-6)
    assert history.faults[0].touched > 0


def test_nobody_is_told_of_a_black_hole_until_it_is_healed():
    """Promise: calls time out, a new connection is given up after a second, and healing closes what was touched."""
    history = day(during(0.5, 2.5, Blackhole()), workload=Steady(rate=1, seconds=4), policy=replace(ONCE, timeout=0.3))
    assert attempts(history) == [
        "0.1 server-0 0.0000 0.0055 OK",
        "1.1 server-0 1.0000 1.3000 DEADLINE_EXCEEDED lost",
        "2.1 server-0 2.0000 2.3000 DEADLINE_EXCEEDED lost",
        "3.1 server-0 3.0000 3.0055 OK",
    ]
    assert [line.split()[0] for line in work(history)] == ["0", "3"]


def test_a_paused_server_answers_when_it_goes_on():
    """Promise: its kernel takes connections and requests; the process finds them when it is continued, in their order."""
    slow = Servers(1, service_time=0.01)
    history = day(during(0.005, 0.5, Pause()), servers=slow, workload=Steady(rate=4, seconds=0.5))
    assert work(history) == ["0 server-0 0.0030 0.5000 0.5000 OK", "1 server-0 0.5000 0.5100 0.5100 OK"]
    assert attempts(history) == ["0.1 server-0 0.0000 0.5005 OK", "1.1 server-0 0.2500 0.5105 OK"]


def test_a_drained_server_finishes_its_calls_and_takes_no_more():
    """Promise: SIGTERM: what is under way is answered, new calls find nobody, and the process is gone when it is done."""
    slow = Servers(1, service_time=0.2)
    history = day(during(0.1, 0.5, Drain()), servers=slow, workload=Steady(rate=5, seconds=1))
    assert results(history) == [
        (0, "ok", "OK"),
        (1, "fail", "UNAVAILABLE"),
        (2, "fail", "UNAVAILABLE"),
        (3, "fail", "UNAVAILABLE"),
        (4, "ok", "OK"),
    ]
    assert [round(f.healed, 3) for f in history.faults] == [0.7]  # it needs 0.2 s to start


def test_a_restart_is_over_when_the_server_listens_again():
    """Promise: healed is when it was seen to be over: the downtime and the start of the process count."""
    history = day(at(0.5, Restart(downtime=0.3)), workload=Steady(rate=1, seconds=3))
    [restart] = history.faults
    assert (restart.began, round(restart.healed, 2)) == (0.5, 1.0)
    assert attempts(history, since=1.0)[0] == "1.1 server-0 1.0000 1.0055 OK"  # it asks just when the server is back


def test_a_cold_start_is_a_part_of_coming_back():
    """Promise: a server that was killed listens after the start of its process and what it needs beyond it."""
    history = day(during(0.5, 1.0, Kill()), servers=Servers(1, cold_start=0.5), workload=Steady(rate=1, seconds=3))
    assert [round(fault.healed, 3) for fault in history.faults] == [1.7]


def test_faults_of_one_kind_take_turns():
    """Promise: a kill in the middle of a restart waits until that is through, and keeps the server down."""
    history = day(
        at(0.5, Restart(downtime=0.3)),
        during(0.6, 1.5, Kill(), on=named("server-0")),
        workload=Steady(rate=4, seconds=2),
    )
    assert [(round(f.began, 2), round(f.healed, 2)) for f in history.faults] == [(0.5, 1.0), (1.0, 1.7)]


def test_the_same_calls_fail_as_in_a_real_server():
    """Promise: an error's draws are those of harness.node.conduct: seed for seed, call for call."""
    fault = Errors(0.5, code="INTERNAL")
    history = day(during(0.0, 1.9, fault, on=every), servers=Servers(1), workload=Steady(rate=50, seconds=2))
    real = Conduct("server-0")
    real.behave(behaviour([fault], seed_for("server-0", 1)), 0.0)
    told = [real.decide(o.id, 1, 0, 0.0).code is not None for o in history.operations if o.due < 1.89]
    assert [o.code == "INTERNAL" for o in history.operations if o.due < 1.89] == told
    assert history.faults[0].touched == sum(told)


def test_an_overloaded_server_refuses_what_is_too_much_for_it():
    """Promise: a call more than the limit is refused at once, by the server's own word: it was surely not done."""
    history = day(
        at(0.0, Overload(1, delay=0.05)), workload=Steady(rate=30, seconds=0.1), servers=Servers(1, service_time=0.01)
    )
    assert results(history) == [(0, "ok", "OK"), (1, "fail", "RESOURCE_EXHAUSTED"), (2, "ok", "OK")]
    assert attempts(history)[:2] == ["0.1 server-0 0.0000 0.0635 OK", "1.1 server-0 0.0333 0.0343 RESOURCE_EXHAUSTED"]


def test_a_hanging_call_holds_on_until_its_caller_goes():
    """Promise: it takes no worker, it is never answered, and the server is through with it at the deadline."""
    history = day(at(0.0, Hang()), policy=replace(ONCE, timeout=0.3), servers=Servers(1, workers=1))
    assert attempts(history)[0] == "0.1 server-0 0.0000 0.3000 DEADLINE_EXCEEDED lost"
    assert work(history)[0].split()[-1] == "CANCELLED"
    assert (history.faults[0].touched, results(history)[0][1]) == (len(history.operations), "info")


def test_a_wrong_answer_is_no_success():
    """Promise: status OK and the wrong greeting: nobody can know what was done, and the history says what came."""
    history = day(at(0.0, WrongAnswer()))
    assert {result[1:] for result in results(history)} == {("info", "WRONG_ANSWER")}
    assert history.operations[0].detail == "the answer was 'Hello, somebody else!'"


def test_a_cold_server_warms_up():
    """Promise: 0.2 s longer at first, half of that after half the time, nothing at its end."""
    history = day(at(0.0, ColdStart(0.2, lasting=2.0)), workload=Steady(rate=1, seconds=4))
    assert [round(o.ended - o.invoked, 2) for o in history.operations] == [0.21, 0.1, 0.0, 0.0]
    assert history.faults[0].touched == 2


def test_a_server_without_processor_time_works_in_slices():
    """Promise: of each tenth of a second it is stopped for four fifths; what comes meanwhile waits, and so does work."""
    history = day(during(0.5, 2.5, CpuHog(0.8)), workload=Steady(rate=50, seconds=3), servers=Servers(1))
    harmed = [o.ended - o.invoked for o in history.operations if 0.51 < o.due < 2.4]
    spared = [o.ended - o.invoked for o in history.operations if o.due < 0.49 or o.due > 2.61]
    assert max(spared) < 0.01
    assert 0.06 < max(harmed) <= 0.09
    assert 0.7 < sum(took > 0.01 for took in harmed) / len(harmed) < 0.9


def test_a_server_that_can_open_nothing_more_leaves_new_clients_waiting():
    """Promise: who is connected is served; who comes anew gets a connection and no word on it until it is healed."""
    alone = dict(workload=Steady(rate=2, seconds=3), servers=Servers(1), policy=replace(ONCE, timeout=0.3))
    connected = day(during(0.2, 2.8, FileDescriptors()), **alone)
    assert {result for _, result, _ in results(connected)} == {"ok"}
    anew = day(during(0.1, 0.2, Refuse()), during(0.15, 1.7, FileDescriptors()), **alone)
    assert [result for _, result, _ in results(anew)] == ["ok", "info", "info", "fail", "ok", "ok"]


@pytest.mark.parametrize(
    ("fault", "took"),
    [
        (Slice(10, delay=0.01, towards="client"), 0.07),  # 78 bytes in eight pieces
        (Slice(42, delay=0.05, towards="server"), 0.05),  # 84 bytes in two pieces
    ],
    ids=str,
)
def test_sliced_bytes_are_there_when_their_last_piece_is(fault, took):
    """Promise: a message of several pieces arrives with the last of them."""
    history = day(during(0.5, 1.9, fault))
    assert history.operations[1].ended - history.operations[1].invoked == pytest.approx(took + 0.003, abs=0.002)


def test_a_truncated_connection_tears_what_it_carries():
    """Promise: after so many bytes the reply is torn: the work was done, and the caller cannot know."""
    history = day(during(0.5, 1.9, Truncate(40)))
    assert attempts(history, since=1.0)[0].endswith("UNAVAILABLE lost")
    assert history.faults[0].touched == 1


def test_whose_end_is_heard_late_is_believed_to_be_there():
    """Promise: a killed server's end is heard 0.4 s late: until then calls go to it and get no answer."""
    alone = dict(workload=Steady(rate=10, seconds=2), policy=replace(ONCE, timeout=2.0), servers=Servers(1))
    late = day(during(0.1, 1.9, SlowClose(0.4)), during(0.51, 1.5, Kill()), **alone)
    assert [o.id for o in late.operations if any(attempt.lost for attempt in o.attempts)] == [6, 7, 8, 9]
    at_once = day(during(0.51, 1.5, Kill()), **alone)
    assert [o.id for o in at_once.operations if any(attempt.lost for attempt in o.attempts)] == []


@pytest.mark.parametrize("fault", [PacketLoss(0.5), MemoryHog(1000)], ids=str)
def test_what_there_is_no_model_of_says_so(fault):
    """Promise: such a run is unknown, with the fault and where to run it."""
    history = day(at(0.5, fault))
    assert history.problems == (f"the sim fleet has no model of the fault {fault}; run it with --fleet=local",)


@pytest.mark.parametrize(("faults", "says"), [
    ([during(0.1, 0.9, Errors(1.0, code="INTERNAL")), during(0.5, 0.9, Errors(0.5))], "one error at a time"),
    ([at(0.1, Kill()), during(0.5, 0.9, Errors(0.5))], "server-0 took no order: it is down"),
    ([at(0.1, Pause()), during(0.5, 0.9, Errors(0.5))], "server-0 took no order: it is paused"),
    ([at(0.1, Kill()), during(0.5, 0.9, Pause())], "server-0 cannot be stopped: it has ended"),
])  # fmt: skip
def test_what_cannot_be_done_to_a_real_server_cannot_be_done_here(faults, says):
    """Promise: the fault is told with the reason, and no verdict stands on it."""
    history = day(*faults)
    assert says in history.faults[1].problem
    assert history.faults[1].began is None


def test_who_loses_a_hedge_is_cancelled():
    """Promise: the copy that answers first wins; the server of the other one hears that nobody waits."""
    hedged = Policy(timeout=1.0, hedge=Hedge(after=0.05))
    slow = during(0.5, 3.9, Latency(0.3, towards="server"), on=named("server-0"))
    history = day(slow, servers=Servers(2), policy=hedged, workload=Steady(rate=2, seconds=4))
    assert attempts(history, since=1.0)[:2] == [
        "2.1 server-0 1.0000 1.0530 CANCELLED lost",
        "2.2 server-1 1.0500 1.0530 OK",
    ]
    assert "2 server-0 1.3005 1.3025 1.3025 OK" in work(history)  # the cancellation was as late as the request
    assert reconcile(history) == ()


def test_no_more_calls_are_under_way_than_the_real_client_has_workers():
    """Promise: the 513th call waits for one of them, and its waiting is seen: it was due before it began."""
    history = day(servers=Servers(1, workers=600, service_time=0.9), workload=Steady(rate=1000, seconds=0.52))
    late = [o for o in history.operations if o.invoked > o.due]
    assert [o.id for o in late] == list(range(512, 520))
    assert late[0].invoked == history.operations[0].ended


def test_calls_that_are_under_way_after_the_patience_end_as_cancelled():
    """Promise: the channel is closed under them, as in the real client: nobody can know what became of them."""
    forever = replace(ONCE, timeout=None)
    history = day(
        servers=Servers(1, service_time=100), policy=forever, workload=Steady(rate=1, seconds=1), patience=2.0
    )
    assert attempts(history) == ["0.1 server-0 0.0000 2.0000 CANCELLED lost"]
    assert results(history) == [(0, "info", "CANCELLED")]
    assert work(history) == ["0 server-0 0.0030 - 2.0005 CANCELLED"]


def test_closed_callers_call_again_after_their_answer():
    """Promise: a caller thinks and then calls again; it is due when it begins, so never late."""
    history = day(workload=Closed(callers=2, seconds=0.1, think=0.01))
    assert [f"{o.invoked:.4f}" for o in history.operations[:6]] == [
        "0.0000",
        "0.0000",
        "0.0155",
        "0.0155",
        "0.0285",
        "0.0285",
    ]
    assert all(o.due == o.invoked for o in history.operations)


def test_a_killed_client_goes_on_at_its_checkpoint():
    """Promise: the batch is done to its end; at most `every` items come again, marked, numbered from the second start."""
    client = Client(balancer=RoundRobin(), policy=AGAIN, checkpoint_every=10)
    history = day(
        during(0.2, 0.4, Kill(), on=named("client")), servers=Servers(3, service_time=0.01), client=client,
        workload=Batch(items=40, seconds=30),
    )  # fmt: skip
    assert (history.client_starts, history.items) == (2, 40)
    second = [o for o in history.operations if o.id >= 1_000_000_000]
    [broken_off] = [o for o in history.operations if o.ended is None]
    assert (broken_off.result, broken_off.attempts[0].code, broken_off.attempts[0].lost) == ("info", None, True)
    assert second[0].item == 10
    assert [o.item for o in second if o.repeat] == list(range(10, 20))
    assert Resumes(every=10).check(history).verdict == "held"


def test_a_paused_client_finds_its_answers_when_it_goes_on():
    """Promise: SIGSTOP of the client: nothing is called and nothing is noted until it is continued."""
    history = day(during(0.1, 0.5, Pause(), on=named("client")), workload=Batch(items=100, seconds=5))
    times = [t for o in history.operations for t in (o.invoked, o.ended)]
    assert not [t for t in times if 0.1 < t < 0.5]
    assert len([o for o in history.operations if o.result == "ok"]) == 100


@dataclass(frozen=True, slots=True)
class Flood(Fault):
    """A fault that nobody has a model of."""


@dataclass(frozen=True, slots=True)
class Fog(NetworkFault):
    """A fault made of a toxic that our proxy does not have."""

    def toxics(self):
        return (Toxic(type="fog", stream="downstream", attributes={}),)


class OwnChannel(Client):
    """Decides as ours does, but on a channel that nobody knows."""

    def channel(self, endpoints, *, seed, observer):
        raise AssertionError("a simulated run opens no channel")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"client": GrpcClient()}, "no model of the client GrpcClient("),
        ({"servers": Servers(1, command=("./server", "{port}"))}, "no model of servers with a command of their own"),
        ({"faults": [at(0.5, Flood())]}, "no model of the fault Flood()"),
        ({"faults": [at(0.5, Kill(), on=named("client"))]}, "needs a Batch"),
        (
            {"faults": [at(0.5, Errors(0.5), on=named("client"))], "workload": Batch(items=9)},
            "cannot act on the client",
        ),
        ({"client": OwnChannel()}, "no model of the client OwnChannel("),
        ({"faults": [at(0.5, Fog())]}, "no model of the fault Fog()"),
    ],
)
def test_what_there_is_no_model_of_is_unknown_and_named(changes, says):
    """Promise: nothing is claimed of it; the verdict is unknown, and says which part is missing."""
    scenario = Scenario(servers=Servers(1), client=Client(), workload=STEADY, guarantees=[Available(1.0)])
    result = run(replace(scenario, **changes), SimFleet(), seed=1, name="a day")
    assert [verdict.verdict for verdict in result.verdicts] == ["unknown"]
    assert says in result.message()


@pytest.mark.parametrize("code", CODES)
def test_a_status_says_the_same_here_as_on_a_real_channel(code):
    """Promise: what an answer says about the work is what stormproof.subchannels reads from gRPC."""

    class Error:
        def code(self):
            return getattr(__import__("grpc").StatusCode, code)

        def details(self):
            return "server-0 is told to fail"

        def trailing_metadata(self):
            return ()

    assert answered(Code[code], "server-0 is told to fail") == outcome_of(Error())


BALANCERS = [RoundRobin(), LeastRequest(), PeakEwma(), ConsistentHash(header="stormproof-call")]


def bad_day(balancer):
    """Much at once, with a chance in every part of it."""
    return Scenario(
        servers=Servers(6, weights=(3, 1, 1, 2, 1, 1)),
        client=Client(balancer=balancer, policy=replace(AGAIN, attempt_timeout=0.2, retry=Retry(attempts=3))),
        workload=Poisson(rate=200, seconds=6),
        faults=[
            during(0.5, 3.0, Latency(0.05, jitter=0.05), on=every),
            during(1.0, 2.5, Errors(0.3)),
            during(1.5, 3.5, Kill()),
            during(2.0, 4.0, Blackhole()),
            at(2.5, Restart(downtime=0.2)),
            during(3.0, 4.5, Refuse()),
            during(3.5, 5.0, Reset(after=0.1)),
        ],
        guarantees=[Available(0.5)],
    )


def fingerprint(folder, seed=1):
    """Of the files with the histories of a bad day, one for each balancer."""
    digest = hashlib.sha256()
    for balancer in BALANCERS:
        history = run(bad_day(balancer), SimFleet(), seed=seed, name="a bad day").history
        digest.update(histories.write(history, folder / "history.jsonl.gz").read_bytes())
    return digest.hexdigest()


@pytest.mark.guarantee(109)
def test_a_seed_repeats_a_run_to_the_byte(tmp_path):
    """Promise: the same history, byte for byte, twice here and in a process with another hash seed; another seed differs."""
    first = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == first
    assert fingerprint(tmp_path, seed=2) != first
    program = "import sys, pathlib, test_sim; print(test_sim.fingerprint(pathlib.Path(sys.argv[1])))"
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}
        said = subprocess.run(
            [sys.executable, "-c", program, tmp_path], env=environment, capture_output=True, text=True, check=True
        )
        assert said.stdout.strip() == first


def test_the_three_tales_of_a_bad_day_fit_together():
    """Promise: whatever is broken, each operation ends once and nothing was executed that nobody asked for."""
    for balancer in BALANCERS:
        history = run(bad_day(balancer), SimFleet(), seed=3, name="a bad day").history
        assert history.problems == ()
        assert reconcile(history) == ()
        assert all(o.ended is not None for o in history.operations)
        assert all(f.began is not None and not f.problem for f in history.faults)


def test_ten_thousand_servers_are_one_more_fleet():
    """Promise: faults on many of ten thousand servers are carried out, and the others serve."""
    dead = [f"server-{number}" for number in range(100)]
    history = day(
        at(0.2, Kill(), on=named(*dead)), servers=Servers(10_000), policy=AGAIN,
        workload=Steady(rate=10_000, seconds=1), balancer=RoundRobin(),
    )  # fmt: skip
    assert [fault.began for fault in history.faults] == [0.2] * 100
    assert {operation.result for operation in history.operations} == {"ok"}
    assert {a.server for _, a in history.attempts() if a.code != "OK"} <= set(dead)


def test_it_is_a_fleet_by_its_name():
    """Promise: --fleet=sim."""
    assert isinstance(open_fleet("sim"), SimFleet)
