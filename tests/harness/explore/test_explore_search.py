"""The search finds what is there, makes it small, and finds nothing where nothing is.

How quickly, and in the library's own code: benchmarks/planted_defects.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness import Available, Client, EvenShare, NoStrays, Steady
from harness.explore import search as searching
from harness.explore.found import CRASH
from harness.explore.search import Search, smaller
from harness.saboteurs import AlwaysFirst
from stormproof import LeastRequest, Policy

LONG = 300.0  # seconds: a search that takes so long has found nothing


def found_by(client, *guarantees, **more):
    """What a search for a day that breaks one of these comes to, and how far it went."""
    search = Search(client=client, judge=lambda *_: guarantees, seed=1, seconds=LONG, shrink=LONG, **more)
    return search.carry_out(), search.tally


def test_a_client_that_always_asks_the_first_is_found_on_the_smallest_day_there_is():
    """Promise: two servers and no fault; the day breaks that one guarantee, and is kept with it alone."""
    found, tally = found_by(Client(balancer=AlwaysFirst()), NoStrays(), EvenShare())
    assert (found.kind, found.scenario.servers.count, found.scenario.faults) == ("EvenShare", 2, ())
    assert found.scenario.guarantees == (EvenShare(),)
    assert found.scenario.workload == Steady(rate=100, seconds=4.0)
    assert found.verdict.verdict == "broken"
    assert (tally.found, tally.stopped) == (found, False)


def test_one_server_and_one_fault_are_left_of_an_outage():
    """Promise: of days with up to five servers and three faults, one of each is left, on one server."""
    found, _ = found_by(Client(policy=Policy(timeout=1.0)), Available(0.9))
    (fault,) = found.scenario.faults
    assert (found.scenario.servers.count, str(fault.on)) == (1, "server-0")


def test_the_same_seed_finds_the_same_day():
    """Promise: the search is a function of its seed, as long as it has time enough."""
    days = [found_by(Client(balancer=AlwaysFirst()), EvenShare())[0].scenario for _ in range(2)]
    assert days[0] == days[1]


def test_where_nothing_breaks_nothing_is_found():
    """Promise: 120 days of any of our clients, judged by all that is fair: the library as it is keeps its promises."""
    days = []

    def watch(tally):
        days.append(tally.found)
        if len(days) == 120:
            raise KeyboardInterrupt

    search = Search(seed=5, seconds=LONG)
    search.watch = watch
    assert search.carry_out() is None
    assert days == [None] * 120
    assert search.tally.stopped
    assert (search.tally.days, search.tally.calls > 10_000, search.tally.p99 > 0.1) == (120, True, True)


def test_it_ends_when_its_time_is_over():
    """Promise: seconds until something is found, no round of days longer."""
    search = Search(client=Client(), judge=lambda *_: [NoStrays()], seed=1, seconds=0.5)
    assert search.carry_out() is None
    assert search.tally.days >= 1


def test_what_was_found_when_the_time_for_shrinking_is_over_is_kept():
    """Promise: a day that could have become smaller is better than none."""
    search = Search(
        client=Client(balancer=AlwaysFirst()), judge=lambda *_: [EvenShare()], seed=1, seconds=LONG, shrink=0.0
    )
    found = search.carry_out()
    assert found is not None
    assert found.kind == "EvenShare"


@dataclass(frozen=True, slots=True)
class Raises:
    """A balancer that has a bug: it fails when it is asked for the hundredth time."""

    def picker(self, rng):
        return _Raising(LeastRequest().picker(rng))


class _Raising:
    def __init__(self, inner):
        self.inner, self.left = inner, 100

    def load(self):
        return None

    def pick(self, eligible, now):
        self.left -= 1
        if not self.left:
            raise RuntimeError("one pick too many")
        return self.inner.pick(eligible, now)


def test_a_run_that_raises_is_a_find():
    """Promise: a crash of the library's own code is told as what it is, with where it happened."""
    found, _ = found_by(Client(balancer=Raises()), NoStrays())
    assert (found.kind, found.title) == (CRASH, "the run itself crashed")
    assert found.verdict.measured == "RuntimeError: one pick too many"
    assert found.verdict.why[0].startswith("in pick, ")
    assert (found.scenario.servers.count, found.scenario.faults) == (1, ())


def test_a_day_is_run_once_however_often_hypothesis_asks(monkeypatch):
    """Promise: shrinking comes back to the same day by many ways; a run costs more than to remember it."""
    run = []
    met = searching.met
    monkeypatch.setattr(searching, "met", lambda day, *rest: run.append(day) or met(day, *rest))
    found_by(Client(balancer=AlwaysFirst()), EvenShare())
    assert len(run) == len({searching.encode(day) for day in run})


def test_smaller_spaces_come_smallest_first():
    """Promise: by servers and faults together, and of equal ones that with fewer faults."""
    assert smaller(2, 1) == [(1, 0), (2, 0), (1, 1)]
    assert smaller(3, 2)[:4] == [(1, 0), (2, 0), (1, 1), (3, 0)]
    assert (3, 2) not in smaller(3, 2)
