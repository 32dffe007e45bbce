"""What the command line asks for."""

from __future__ import annotations

import pytest

from faults import Kill, during, named
from harness import Available, Client, EvenShare, Fast, NoStrays, Servers, Steady, WithinDeadline
from harness.explore import asked
from harness.explore.fair import fair
from stormproof import Policy

CLIENT = Client(policy=Policy(timeout=0.5))
DAY = (CLIENT, Servers(3), Steady(rate=100, seconds=10), ())
BAD = (*DAY[:3], (during(1.0, 2.0, Kill(), on=named("server-0")),))


class Mine(Client):
    """Ours, but for its channel."""

    def channel(self, endpoints, *, seed, observer):
        raise NotImplementedError("no channel is made in virtual time")


UNKNOWN = Mine()


def test_nothing_asked_is_all_that_is_fair():
    """Promise: without --guarantee, the client's own promises."""
    assert asked.judges(()) is fair


def test_a_name_alone_is_asked_as_and_when_it_is_fair():
    """Promise: with the bounds of the client, and on no day on which it would be unfair."""
    judges = asked.judges(("WithinDeadline", "EvenShare"))
    assert judges(*DAY) == (WithinDeadline(0.5), EvenShare())
    assert judges(*BAD) == (WithinDeadline(0.5),)


def test_bounds_are_taken_as_they_are_given_on_every_day():
    """Promise: written as in a suite; beside a name both are asked."""
    judges = asked.judges(("Fast(p99=0.05, grace=1)", " Available(0.9) ", "NoStrays"))
    assert judges(*BAD) == (Fast(p99=0.05, grace=1), Available(0.9), NoStrays())
    assert asked.judges(("EvenShare()",))(*BAD) == (EvenShare(),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "Fast",
            r"--guarantee=Fast: what it asks depends on you; give its bounds, as in --guarantee='Fast\(p99=0.5\)'",
        ),
        ("Quick(1)", "--guarantee=Quick.1. is no guarantee: there are Available, Fast, "),
        ("Fast(", "is no guarantee: it must be written as in Python"),
        ("Fast(p99=-1)", "p99 must be a number, 0 or more; got -1"),
        ("Fast(p98=1)", "unexpected keyword argument 'p98'"),
        ("Available(__import__('os').getcwd())", "malformed node"),
        ("7", "is no guarantee: there are"),
    ],
)
def test_what_is_no_guarantee_is_refused_with_the_way_out(text, says):
    """Promise: the message says what can be given; nothing in it is executed."""
    with pytest.raises(asked.Misasked, match=says):
        asked.judges((text,))


def test_a_client_is_found_by_its_name_and_so_is_that_of_a_scenario():
    """Promise: MODULE:NAME, as in suites."""
    assert asked.client(f"{__name__}:CLIENT") == CLIENT
    from suites.test_slow_server import SLOW_SERVER

    assert asked.client("suites.test_slow_server:SLOW_SERVER") == SLOW_SERVER.client


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("CLIENT", "must be MODULE:NAME"),
        ("no_such_module:CLIENT", "is not there: No module named 'no_such_module'"),
        (f"{__name__}:NOBODY", "is not there: module .* has no attribute 'NOBODY'"),
        (f"{__name__}:DAY", "must be a Client or a Scenario; got"),
        (f"{__name__}:UNKNOWN", r"the sim fleet has no model of the client Mine\("),
    ],
)
def test_who_cannot_be_explored_is_told_before_the_search(name, says):
    """Promise: a client that is not there, or of which there is no model, is refused with the reason."""
    with pytest.raises(asked.Misasked, match=says):
        asked.client(name)
