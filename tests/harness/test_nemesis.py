"""The nemesis applies each fault on time, tells what was seen of it, and always heals it."""

from __future__ import annotations

import threading
import time

import pytest

from faults import Errors, Fault, Kill, Latency, Pause, Restart
from harness.fleet.errors import FleetError
from harness.nemesis import Nemesis
from harness.scenario import Planned

#: Seconds by which a thread may be late on a busy machine.
LATE = 0.5


class Victims:
    """Notes what is done to it, and when; a fault in `fails` is refused with that message."""

    def __init__(self, *, began=0.0, healed=0.0, counts=3, **fails: str):
        self.began, self.healed, self.counts, self.fails = began, healed, counts, fails
        self.deeds: list[tuple[str, str, str]] = []
        self.moments: list[float] = []
        self.changed = threading.Condition()

    def apply(self, fault, on):
        self.note("apply", fault, on)
        return self.began or time.monotonic()

    def heal(self, fault, on):
        self.note("heal", fault, on)
        return self.healed or time.monotonic()

    def touched(self, fault, on):
        if "touched" in self.fails:
            raise FleetError(self.fails["touched"])
        return self.counts

    def note(self, deed, fault, on):
        with self.changed:
            self.deeds.append((deed, str(fault), on))
            self.moments.append(time.monotonic())
            self.changed.notify_all()
        if deed in self.fails:
            raise FleetError(self.fails[deed])

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.deeds) >= count, 5.0), f"only {self.deeds} after 5 s"


def planned(fault: Fault, start: float, end: float | None, on: str = "server-0") -> Planned:
    return Planned(fault=fault, on=on, start=start, end=end)


def begun(victims: Victims, *plan: Planned) -> tuple[Nemesis, float]:
    """A nemesis at work, and its origin."""
    origin = time.monotonic()
    nemesis = Nemesis(plan, victims, origin)
    nemesis.start()
    return nemesis, origin


def test_faults_are_applied_and_healed_in_order_and_on_time():
    """A timetable of two overlapping faults is carried out as it stands there, nothing of it early, nothing late."""
    victims = Victims()
    nemesis, origin = begun(
        victims, planned(Kill(), 0.2, 0.6, "server-1"), planned(Latency(0.3), 0.4, 0.8), planned(Pause(), 1.0, 1.2)
    )
    victims.wait_for(6)
    assert victims.deeds == [
        ("apply", "Kill()", "server-1"),
        ("apply", "Latency(0.3)", "server-0"),
        ("heal", "Kill()", "server-1"),
        ("heal", "Latency(0.3)", "server-0"),
        ("apply", "Pause()", "server-0"),
        ("heal", "Pause()", "server-0"),
    ]
    due = [0.2, 0.4, 0.6, 0.8, 1.0, 1.2]
    assert all(at <= seen - origin < at + LATE for at, seen in zip(due, victims.moments, strict=True)), victims.moments
    assert [acted.problem for acted in nemesis.stop()] == ["", "", ""]


def test_it_tells_what_was_seen_and_not_what_was_meant():
    """`began` and `healed` are the moments that the victim reported, `touched` is its own count."""
    origin = time.monotonic()
    victims = Victims(began=origin + 7.5, healed=origin + 9.25, counts=12)
    nemesis = Nemesis([planned(Latency(0.3), 0.0, 0.01)], victims, origin)
    nemesis.start()
    victims.wait_for(2)
    (acted,) = nemesis.stop()
    assert (acted.fault, acted.on, acted.start, acted.end) == ("Latency(0.3)", "server-0", 0.0, 0.01)
    assert (acted.began, acted.healed) == (pytest.approx(7.5), pytest.approx(9.25))
    assert (acted.touched, acted.problem) == (12, "")


def test_a_fault_without_an_end_lasts_until_the_run_is_over():
    """It is healed then, and told as having acted until the end: `healed` is None."""
    victims = Victims()
    nemesis, _ = begun(victims, planned(Latency(0.3), 0.0, None))
    victims.wait_for(1)
    assert victims.deeds == [("apply", "Latency(0.3)", "server-0")]
    (acted,) = nemesis.stop()
    assert victims.deeds[1:] == [("heal", "Latency(0.3)", "server-0")]
    assert acted.began is not None
    assert (acted.healed, acted.problem) == (None, "")


def test_a_run_that_ends_early_heals_at_once():
    """Stopped in the middle, it heals without waiting for the fault's own end; a second stop only tells it again."""
    victims = Victims()
    nemesis, origin = begun(victims, planned(Kill(), 0.0, 3600.0))
    victims.wait_for(1)
    told = nemesis.stop()
    assert time.monotonic() - origin < 5.0
    assert [deed for deed, _, _ in victims.deeds] == ["apply", "heal"]
    assert told[0].healed is None
    assert nemesis.stop() == told
    assert len(victims.deeds) == 2


def test_a_fault_that_should_begin_after_the_end_is_a_problem():
    """It is neither applied nor healed, and the reason is told: the run proves nothing of it."""
    victims = Victims()
    nemesis, _ = begun(victims, planned(Kill(), 3600.0, 3601.0))
    (acted,) = nemesis.stop()
    assert victims.deeds == []
    assert (acted.began, acted.healed) == (None, None)
    assert acted.problem == "the run was over before 3600 s, when it should have begun"


def test_a_fault_that_cannot_be_applied_is_healed_all_the_same():
    """Half of it may act. What is told is why it could not be applied."""
    victims = Victims(apply="no such toxic", heal="nor this")
    nemesis, _ = begun(victims, planned(Latency(0.3), 0.0, 3600.0))
    victims.wait_for(2)
    (acted,) = nemesis.stop()
    assert [deed for deed, _, _ in victims.deeds] == ["apply", "heal"]
    assert (acted.began, acted.problem) == (None, "no such toxic")


def test_a_fault_that_cannot_be_healed_is_a_problem():
    """It acted, nobody saw it end, and the reason is told."""
    nemesis, _ = begun(victims := Victims(heal="the port is taken"), planned(Kill(), 0.0, 0.01))
    victims.wait_for(2)
    (acted,) = nemesis.stop()
    assert acted.began is not None
    assert (acted.healed, acted.problem) == (None, "it could not be healed: the port is taken")


def test_a_target_that_cannot_say_what_touched_it_is_healed():
    """A paused server does not answer when it is asked for its count: the traffic is counted instead."""
    nemesis, _ = begun(victims := Victims(touched="server-0 took no order"), planned(Errors(), 0.0, 0.01))
    victims.wait_for(2)
    (acted,) = nemesis.stop()
    assert [deed for deed, _, _ in victims.deeds] == ["apply", "heal"]
    assert acted.healed is not None
    assert (acted.touched, acted.problem) == (None, "")


def test_a_restart_is_over_when_it_has_been_applied():
    """It has no end to wait for: the moment at which it was seen to be healed is told, even without an end in the plan."""
    nemesis, _ = begun(victims := Victims(), planned(Restart(), 0.0, None))
    victims.wait_for(2)
    (acted,) = nemesis.stop()
    assert acted.began is not None
    assert acted.healed is not None
    assert acted.began <= acted.healed < LATE


def test_a_slow_fault_keeps_no_other_waiting():
    """While one victim takes its time (a graceful restart), the others are hit on time."""

    class Slow(Victims):
        release = threading.Event()

        def apply(self, fault, on):
            if isinstance(fault, Restart):
                assert self.release.wait(5.0)
            return super().apply(fault, on)

    victims = Slow()
    nemesis, _ = begun(victims, planned(Restart(), 0.0, None), planned(Kill(), 0.01, 0.02, "server-1"))
    victims.wait_for(2)
    assert victims.deeds == [("apply", "Kill()", "server-1"), ("heal", "Kill()", "server-1")]
    victims.release.set()
    assert [acted.problem for acted in nemesis.stop()] == ["", ""]


def test_it_says_which_faults_act_now():
    """For the live progress: from the moment a fault is seen to act until it is healed."""
    victims = Victims()
    nemesis, _ = begun(victims, planned(Latency(0.3), 0.0, None), planned(Kill(), 3600.0, None, "server-1"))
    deadline = time.monotonic() + 5.0
    while not nemesis.active():
        assert time.monotonic() < deadline, "the fault never acted"
        time.sleep(0.005)
    assert nemesis.active() == ("Latency(0.3) on server-0",)
    nemesis.stop()
    assert nemesis.active() == ()


def test_a_nemesis_that_was_never_started_can_be_stopped():
    """Nothing was done, so nothing is healed."""
    nemesis = Nemesis([planned(Kill(), 0.0, 1.0)], victims := Victims(), time.monotonic())
    (acted,) = nemesis.stop()
    assert (victims.deeds, acted.began, acted.problem) == ([], None, "")
