"""AvoidsFaulty."""

from __future__ import annotations

from dataclasses import replace

from histories import SLOW, call, changed, fault, history, journal, steady

from harness.guarantees import AvoidsFaulty


def avoiding(probe=0, since=5.5):
    """Nothing goes to server-4 from `since` until 15 s, but for every `probe`-th call."""

    def elsewhere(o):
        return call(o.id, "server-4" if probe and o.id % probe == 0 else f"server-{o.id % 4}")

    return changed(steady(2000), lambda o: since <= o.due < 15, elsewhere)


def test_a_server_that_is_only_probed_keeps_it():
    """One call in fifty goes to see whether it is well again."""
    verdict = AvoidsFaulty(within=1.0).check(history(avoiding(50), faults=[fault()]))
    assert (verdict.verdict, verdict.measured) == ("held", "server-4 got 0.020 of 900 attempts")
    assert verdict.bound == "at most 0.05 of the attempts from 1 s on"


def test_round_robin_into_a_faulty_server_breaks_it():
    """One call in five: the server and its share are named."""
    verdict = AvoidsFaulty(within=1.0).check(history(steady(2000), faults=[fault()]))
    assert (verdict.verdict, verdict.measured) == ("broken", "server-4 got 0.200 of 900 attempts")
    assert verdict.why == (
        "server-4 got 0.200 of 900 attempts from 6.000 to 14.990 s",
        f"active: {SLOW} on server-4 from 5.0 to 15.0 s",
    )


def test_who_notices_too_late_breaks_it():
    """Away from it from 7 s on: within=2.0 allows that, within=0.5 does not."""
    late = history(avoiding(since=7.0), faults=[fault()])
    assert AvoidsFaulty(within=2.0).check(late).measured == "faulty servers got none of 800 attempts"
    assert AvoidsFaulty(within=2.0).check(late).verdict == "held"
    assert AvoidsFaulty(within=0.5, share=0.01).check(late).verdict == "broken"


def test_attempts_that_never_left_the_client_count():
    """Who picks a dead server has not avoided it, though the connection was refused."""

    def refused(o):
        return replace(o, attempts=tuple(replace(a, sent=0) for a in o.attempts))

    calls = changed(steady(2000), lambda o: o.id % 5 == 4, refused)
    assert AvoidsFaulty(within=1.0).check(history(calls, faults=[fault()])).verdict == "broken"


def test_faults_that_act_together_count_together():
    """Two servers at a twentieth each: one is within 0.055, both together are not."""

    def elsewhere(o):
        name = {0: "server-3", 1: "server-4"}.get(o.id % 20)
        return call(o.id, name or f"server-{o.id % 3}")

    calls = changed(steady(2000), lambda o: 5 <= o.due < 15, elsewhere)
    one = [fault(on="server-4")]
    both = [fault(on="server-4"), fault(4.99, 15.02, on="server-3")]
    assert AvoidsFaulty(within=1.0, share=0.055).check(history(calls, faults=one)).verdict == "held"
    verdict = AvoidsFaulty(within=1.0, share=0.055).check(history(calls, faults=both))
    assert verdict.verdict == "broken"
    assert verdict.measured == "server-3 got 0.050, server-4 got 0.050 of 900 attempts (0.100 together)"


def test_journals_tell_where_the_client_does_not():
    """Somebody else's client, seen from the servers."""
    silent = [replace(o, attempts=()) for o in steady(2000)]
    wrong = history(silent, faults=[fault()], executions=journal(steady(2000)))
    right = history(silent, faults=[fault()], executions=journal(avoiding()))
    assert [AvoidsFaulty(within=1.0).check(h).verdict for h in (wrong, right)] == ["broken", "held"]


def test_nowhere_to_go_nothing_to_avoid_and_too_little_time_do_not_tell():
    """All faulty; only the client hit; over before `within`; 19 attempts."""
    everywhere = [fault(on=f"server-{n}") for n in range(5)]
    reasons = {
        "every": history(steady(2000), faults=everywhere),
        "none": history(steady(2000), faults=[fault(on="client")]),
        "brief": history(steady(2000), faults=[fault(5.0, 5.9)]),
        "few": history(steady(2000), faults=[fault(5.0, 6.19)]),
    }
    found = {name: AvoidsFaulty(within=1.0).check(h) for name, h in reasons.items()}
    assert {verdict.verdict for verdict in found.values()} == {"unknown"}
    assert {name: verdict.why for name, verdict in found.items()} == {
        "every": (f"every server was faulty whenever an attempt began under {SLOW} on server-0 from 5.0 to 15.0 s",),
        "none": ("no fault acted on a server",),
        "brief": (f"no attempt began later than 1 s into {SLOW} on server-4 from 5.0 to 5.9 s",),
        "few": (
            "3 of 19 attempts went to faulty servers, 0.95 allowed; "
            "chance alone explains that with p = 0.07 (broken is below 1e-06)",
        ),
    }
