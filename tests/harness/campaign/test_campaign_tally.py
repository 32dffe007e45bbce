"""What a campaign comes to, from rows to rates: pure, so written out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from harness.campaign.part import ITSELF, Bad, Found, Part, Row
from harness.campaign.tally import Tally, rate

PART = Part(campaign="c", identity="i", suites=("s",), first=1, count=10, folder=".")


def bad(seed, verdict="broken"):
    return Bad(seed=seed, verdict=verdict, measured="0.2", why=(), again=f"again {seed}")


def row(held, broken=(), unknown=(), test="test_a", guarantee="Fast(p90=0.050)"):
    return Row(
        test=test, guarantee=guarantee, held=held, broken=len(broken), unknown=len(unknown),
        bad=(*map(bad, broken), *(bad(seed, "unknown") for seed in unknown)),
    )  # fmt: skip


def tally(*parts):
    found = Tally()
    for rows in parts:
        found.add(PART, Found(where="here", runs=10, rows=tuple(rows)))
    return found


def test_parts_add_up_and_bad_seeds_stand_in_their_order():
    """Promise: whichever part comes back first, the row is the same."""
    one, other = [row(8, broken=[12, 17])], [row(9, broken=[3])]
    for parts in ((one, other), (other, one)):
        found = tally(*parts)
        assert found.rows == (row(17, broken=[3, 12, 17]),)
        assert (found.seeds, found.runs, found.verdict) == (20, 20, "broken")
        assert found.counts == {"held": 17, "broken": 3, "unknown": 0}


@pytest.mark.parametrize(
    ("held", "broken", "unknown", "low", "high"),
    [
        (1000, 0, 0, 0.0, 1 - 5e-7 ** (1 / 1000)),  # 0.0144: exact where nothing was broken
        (0, 20, 0, 5e-7 ** (1 / 20), 1.0),
        (0, 1, 19, 1 - (1 - 5e-7) ** (1 / 20), 1.0),  # one is broken for sure, and all of them may be
    ],
)
def test_the_rate_of_broken_runs_has_exact_bounds(held, broken, unknown, low, high):
    """Promise: Clopper and Pearson's at 1e-6, whatever the runs were that nobody could judge."""
    found = rate(row(held, broken=range(broken), unknown=[999] * unknown))
    assert found == pytest.approx((broken / (held + broken + unknown), low, high), rel=1e-6)


def test_at_its_bounds_a_rate_explains_the_count_only_just():
    """Promise: 3 of 100 or more, at the lower bound, and 3 of 100 or fewer, at the upper one, have probability 5e-7 each."""
    _, low, high = rate(row(97, broken=range(3)))

    def probability(counts, p):
        return sum(math.comb(100, k) * p**k * (1 - p) ** (100 - k) for k in counts)

    assert probability(range(3, 101), low) == pytest.approx(5e-7, rel=1e-6)
    assert probability(range(4), high) == pytest.approx(5e-7, rel=1e-6)


def test_nothing_is_said_of_what_could_not_be_judged():
    """Promise: without a run that held or broke there is no rate, and the verdict is unknown."""
    found = tally([row(0, unknown=[1, 2])])
    assert rate(found.rows[0]) is None
    assert found.verdict == "unknown"


def test_a_seed_that_nobody_could_run_is_never_lost_in_silence():
    """Promise: all that ran held, and yet the verdict is unknown, with the seeds and the reason."""
    found = tally([row(10)])
    assert found.verdict == "held"
    found.lose(PART, "the process ended with SIGKILL")
    assert found.verdict == "unknown"
    assert found.lost == ["seeds 1 to 10 could not be run: the process ended with SIGKILL"]


def test_what_a_test_asserts_by_hand_is_a_row_only_where_it_failed():
    """Promise: its rate counts the runs in which it passed, too."""
    assert tally([row(10, guarantee=ITSELF)]).rows == ()
    [found] = tally([row(9, broken=[4], guarantee=ITSELF)], [row(10, guarantee=ITSELF)]).rows
    assert rate(found)[0] == 1 / 20


def test_a_campaign_without_a_result_holds_nothing():
    """Promise: an empty campaign is unknown."""
    assert Tally().verdict == "unknown"


def test_a_part_that_died_is_done_again_seed_by_seed():
    """Promise: a deadly seed takes no others with it, and each try of it alone is counted."""
    again = PART.again()
    assert [(part.first, part.count, part.tries) for part in again] == [(seed, 1, 0) for seed in range(1, 11)]
    assert again[6].again() == [replace(again[6], tries=1)]
    assert (again[6].seeds, PART.seeds) == ("seed 7", "seeds 1 to 10")
