"""A run's result: its verdict in a word, its message for people, and how to see it again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from faults import Latency, Named, during, one
from harness import Available, Client, Fast, NoRetryStorm, Scenario, Servers, Steady, WithinDeadline
from harness.guarantees.base import Verdict
from harness.history import Acted, Attempt, Execution, History, Operation, Server
from harness.runner import Broken, Result, Told, replay_command, report_on, run
from harness.scenario import Plan

SLOW = Scenario(
    servers=Servers(2),
    client=Client(),
    workload=Steady(rate=10, seconds=1),
    faults=[during(0.2, 0.8, Latency(0.3), on=one)],
    guarantees=[Available(0.9), Fast(p99=0.05, grace=1.0), NoRetryStorm(attempts_per_call=1.2)],
)
NAME = "test_slow_server.py::test_callers_stay_fast[LeastRequest]"
AGAIN = replay_command("local", 8123, f"suites/{NAME}")

AVAILABLE = Verdict(guarantee="Available(0.9)", verdict="held", measured="1.0 of 2003 calls", bound="0.9")
SLOWNESS = Verdict(
    guarantee="Fast(p99=0.050, grace=1.0)", verdict="broken", measured="p99 was 0.212 s over 2003 calls", bound="0.050 s",
    why=(
        "worst: call 841 began at 13.104 s, took 0.497 s, 2 attempts, server-4",
        "active: Latency(0.3, jitter=0.05) on server-4 from 5.0 to 15.0 s",
    ),
)  # fmt: skip
TOO_FEW = Verdict(
    guarantee="NoRetryStorm(attempts_per_call=1.2)", verdict="unknown", measured="not judged", bound="1.2",
    why=("7 calls are too few: 50 are needed",),
)  # fmt: skip
QUIET = Verdict(guarantee="NoRetryStorm(attempts_per_call=1.2)", verdict="held", measured="1.0", bound="1.2")


def history(**parts) -> History:
    return History(
        scenario=NAME, fleet="local", proxy="toxiproxy 2.12.0", seed=8123, seconds=1.0,
        servers=(Server(name="server-0"), Server(name="server-1")), **{"operations": (), **parts},
    )  # fmt: skip


def result(*verdicts: Verdict, of: Scenario = SLOW) -> Result:
    started = datetime(2026, 1, 31, 12, tzinfo=UTC)
    return Result(name=NAME, scenario=of, history=history(), verdicts=verdicts, again=AGAIN, started=started)


def test_a_broken_result_says_what_when_where_and_how_to_see_it_again():
    """Only what is not held; what was measured, the worst call, the faults that acted, and one command."""
    found = result(AVAILABLE, SLOWNESS, QUIET)
    with pytest.raises(Broken) as raised:
        found.check()
    assert str(raised.value) == "\n".join([
        "test_slow_server.py::test_callers_stay_fast[LeastRequest]: 1 of 3 guarantees broken"
        " (local, seed 8123, toxiproxy 2.12.0)",
        "  Fast(p99=0.050, grace=1.0)  broken: p99 was 0.212 s over 2003 calls",
        "      worst: call 841 began at 13.104 s, took 0.497 s, 2 attempts, server-4",
        "      active: Latency(0.3, jitter=0.05) on server-4 from 5.0 to 15.0 s",
        "  again: stormproof replay --fleet=local --seed=8123"
        " 'suites/test_slow_server.py::test_callers_stay_fast[LeastRequest]'",
    ])  # fmt: skip
    assert (found.verdict, found.broken, found.unknown) == ("broken", ["Fast"], [])


def test_an_unknown_result_says_why_it_could_not_be_judged():
    """It fails a check as well, in the same form: what proves nothing is not a success."""
    found = result(
        AVAILABLE, TOO_FEW, of=replace(SLOW, guarantees=[Available(0.9), NoRetryStorm(attempts_per_call=1.2)])
    )
    with pytest.raises(AssertionError) as raised:
        found.check()
    assert str(raised.value) == "\n".join([
        "test_slow_server.py::test_callers_stay_fast[LeastRequest]: 1 of 2 guarantees unknown"
        " (local, seed 8123, toxiproxy 2.12.0)",
        "  NoRetryStorm(attempts_per_call=1.2)  unknown",
        "      7 calls are too few: 50 are needed",
        "  again: stormproof replay --fleet=local --seed=8123"
        " 'suites/test_slow_server.py::test_callers_stay_fast[LeastRequest]'",
    ])  # fmt: skip
    assert (found.verdict, found.broken, found.unknown) == ("unknown", [], ["NoRetryStorm"])


def test_broken_counts_more_than_unknown():
    """The first line counts what is broken; what could not be judged is told as well."""
    found = result(AVAILABLE, SLOWNESS, TOO_FEW)
    lines = found.message().splitlines()
    assert lines[0].endswith(": 1 of 3 guarantees broken (local, seed 8123, toxiproxy 2.12.0)")
    assert [line for line in lines if line.startswith("  ") and line[2] != " "] == [
        "  Fast(p99=0.050, grace=1.0)  broken: p99 was 0.212 s over 2003 calls",
        "  NoRetryStorm(attempts_per_call=1.2)  unknown",
        f"  again: {AGAIN}",
    ]
    assert (found.verdict, found.broken, found.unknown) == ("broken", ["Fast"], ["NoRetryStorm"])


def test_a_result_that_held_checks_in_silence():
    """Nothing is raised and nothing is said."""
    found = result(AVAILABLE, replace(SLOWNESS, verdict="held"), QUIET)
    assert found.check() is None
    assert (found.verdict, found.broken, found.unknown) == ("held", [], [])


def test_a_test_is_named_so_that_a_shell_takes_it_whole():
    """The command can be copied into a terminal as it is."""
    assert replay_command("local", 7, "suites/test_a.py::test_b") == (
        "stormproof replay --fleet=local --seed=7 suites/test_a.py::test_b"
    )
    assert replay_command("sim", 7, "test_a.py::test_b[it's $HOME]") == (
        """stormproof replay --fleet=sim --seed=7 'test_a.py::test_b[it'"'"'s $HOME]'"""
    )


class Recorded:
    """A fleet that answers with a history made before, and notes the plan."""

    name, proxy = "recorded", "none"

    def __init__(self, history: History):
        self.history = history
        self.plans: list[Plan] = []

    def run(self, scenario, plan, *, name, watch):
        self.plans.append(plan)
        return replace(self.history, scenario=name, seed=plan.seed)


def ok(number: int, server: str) -> Operation:
    due = number / 10
    attempt = Attempt(number=1, server=server, started=due, ended=due + 0.01, code="OK")
    return Operation(id=number, due=due, invoked=due, ended=due + 0.01, result="ok", code="OK", attempts=(attempt,))


def recorded(server: str) -> Recorded:
    """Ten good calls to server-1, while `server` was slow from 0.2 to 0.75 s."""
    operations = tuple(ok(number, "server-1") for number in range(10))
    executions = tuple(
        Execution(server="server-1", operation=o.id, sent=1, received=o.due, executed=o.due, ended=o.ended)
        for o in operations
    )
    acted = Acted(fault="Latency(0.3)", on=server, start=0.2, end=0.8, began=0.2, healed=0.75)
    return Recorded(history(operations=operations, executions=executions, faults=(acted,)))


def test_a_run_draws_its_plan_from_the_seed_and_is_judged():
    """The same seed is the same plan; calls that met a fault are counted, and each guarantee has its verdict."""
    fleet = recorded("server-1")
    found = run(SLOW, fleet, seed=5, name=NAME, again=AGAIN)
    run(SLOW, fleet, seed=5, name=NAME)
    assert fleet.plans[0] == fleet.plans[1] == Plan.draw(SLOW, 5)
    assert (found.history.scenario, found.history.seed, found.again) == (NAME, 5, AGAIN)
    assert found.history.faults[0].touched == 6
    assert [verdict.guarantee for verdict in found.verdicts] == [str(guarantee) for guarantee in SLOW.guarantees]


def test_a_fault_that_touched_nothing_makes_everything_unknown():
    """What nobody met proves nothing, however good the calls were."""
    found = run(SLOW, recorded("server-0"), seed=5, name=NAME)
    assert found.verdict == "unknown"
    assert {verdict.why for verdict in found.verdicts} == {("Latency(0.3) on server-0 at 0.2 s touched no traffic",)}


class Busy(Recorded):
    """On a machine that is too busy during the first `spoiled` runs: there every call begins 0.3 s after it was due."""

    def __init__(self, history: History, spoiled: int):
        super().__init__(history)
        self.spoiled = spoiled

    def run(self, scenario, plan, *, name, watch):
        found = super().run(scenario, plan, name=name, watch=watch)
        if len(self.plans) > self.spoiled:
            return found
        return replace(found, operations=tuple(replace(o, due=o.due - 0.3) for o in found.operations))


TOO_LATE = (
    "the harness could not keep the rate: 10 of 10 calls began more than 0.1 s late, the worst by 0.300 s, though the client "
    "had workers free; use a lower rate or more cores"
)


@pytest.mark.parametrize(("spoiled", "verdict"), [(0, "broken"), (2, "broken"), (3, "unknown")])
def test_a_run_that_the_machine_spoiled_is_made_again_and_that_is_told(spoiled, verdict):
    """At most three runs of the same plan. A run that is broken is never made again."""
    fleet = Busy(recorded("server-1").history, spoiled)
    found = run(replace(SLOW, guarantees=[WithinDeadline(0.005)]), fleet, seed=5, name=NAME, again=AGAIN)
    assert (len(fleet.plans), len(set(fleet.plans)), found.verdict) == (min(spoiled, 2) + 1, 1, verdict)
    assert found.spoiled == (TOO_LATE,) * min(spoiled, 2)
    assert found.message().count("made again: the harness could not keep the rate") == len(found.spoiled)
    told = Told.of(found, "", found.verdicts)
    report = report_on([told], fleet="local", proxy="", seed=5, started=datetime(2026, 1, 31, 11, tzinfo=UTC))
    assert report.scenarios[0].spoiled == found.spoiled


def test_a_run_that_proves_nothing_for_another_reason_is_not_made_again():
    """Here the fault touched nothing as well: it would not be any better."""
    fleet = Busy(recorded("server-0").history, 3)
    found = run(SLOW, fleet, seed=5, name=NAME)
    assert (len(fleet.plans), found.verdict, found.spoiled) == (1, "unknown", ())


def test_a_target_that_the_fleet_does_not_have_is_refused_before_anything_runs():
    """The message names it, and what there is."""
    fleet = recorded("server-1")
    elsewhere = [during(0.2, 0.8, Latency(0.3), on=Named(("server-7",)))]
    with pytest.raises(ValueError, match="no server is named server-7; there are server-0, server-1, and client"):
        run(replace(SLOW, faults=elsewhere), fleet, seed=5, name=NAME)
    assert fleet.plans == []


def test_the_report_tells_results_as_their_tests_saw_them():
    """A verdict that a test expected may be told as held; started and name are those of the run."""
    expected = replace(SLOWNESS, verdict="held", why=("broken, as this test expects",))
    told = Told.of(result(AVAILABLE, SLOWNESS, QUIET), "One server is slow.", (AVAILABLE, expected, QUIET))
    report = report_on(
        [told], fleet="local", proxy="toxiproxy 2.12.0", seed=8123, started=datetime(2026, 1, 31, 11, tzinfo=UTC)
    )
    (scenario,) = report.scenarios
    assert (report.verdict, report.fleet, report.proxy, report.seed) == ("held", "local", "toxiproxy 2.12.0", 8123)
    assert (report.started, scenario.started) == ("2026-01-31T11:00:00+00:00", "2026-01-31T12:00:00+00:00")
    assert (scenario.name, scenario.doc, scenario.verdict, scenario.again) == (
        NAME,
        "One server is slow.",
        "held",
        AGAIN,
    )
    assert scenario.guarantees[1].why == ("broken, as this test expects",)
