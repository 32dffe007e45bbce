"""The table of docs/numbers.md, in small: each of its rows still runs, and would tell if ours did not reach what it must."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import ejection, load_ramp, retry_storm, slow_server, table, tail
from benchmarks.others.no_budget import NoBudget
from benchmarks.others.peak_ewma import FinaglePeakEwma
from stormproof import Hedge, RetryBudget, RoundRobin

SMALL = table.Size(seeds=1, hurry=20)
#: What so little cannot tell: after 1.5 s of illness one question comes late; in an outage of 3 s what was saved is spent.
TOO_SHORT = {"slow", "queueing", "ramp", "storm"}


@pytest.mark.parametrize("name", table.ROWS)
def test_each_row_is_made_and_ours_reaches_it_where_so_little_can_tell(name):
    """A twentieth of each day, one seed: every side has its figures, and printing the row tells all of it."""
    row = table.ROWS[name](SMALL)
    if name not in TOO_SHORT:
        assert row.missed == ()
    lines = " ".join(table.text(row).split())
    for said in (row.what, row.setup, row.must, *row.ours, *row.others):
        assert " ".join(said.split()) in lines
    assert len(row.others) >= 1 <= len(row.ours)
    assert table.verdict(row).upper() in lines
    assert all(said in table.page([row], []) for said in (*row.ours, *row.others))


def test_a_row_repeats():
    """The same seeds, the same row."""
    tiny = table.Size(seeds=1, hurry=100)
    assert table.fan_out(tiny) == table.fan_out(tiny)


SABOTAGE = {
    "slow": (slow_server.OURS, "PeakEwma", RoundRobin(), "PeakEwma: success by "),
    "queueing": (slow_server.KINDS, "PeakEwma", (RoundRobin(), ("peak EWMA",)), "PeakEwma: p99 by "),
    "ramp": (load_ramp.SIDES, "PeakEwma", load_ramp.SIDES["weighted round robin"], "4 clients: PeakEwma p99.9 in "),
    "tail": (tail.SIDES, "ours", (None, RetryBudget()), "p99.9 by "),
    "storm": (retry_storm.BUDGETS, "ours", NoBudget, "amplified by "),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_a_row_tells_what_is_missed(name, monkeypatch):
    """With a worse rule in the place of ours the row says which bound is missed, and by how much."""
    rules, ours, worse, told = SABOTAGE[name]
    monkeypatch.setitem(rules, ours, worse)
    row = table.ROWS[name](SMALL)
    assert any(missed.startswith(told) for missed in row.missed)
    assert table.verdict(row).startswith("missed: ")


def test_wrong_ejections_are_told(monkeypatch):
    """Theirs in the place of ours: about one in twenty is wrong."""
    monkeypatch.setattr(ejection, "ours", ejection.theirs)
    assert any(missed.startswith("wrong ejections by ") for missed in table.eject(SMALL).missed)


def test_copies_over_the_cap_are_counted():
    """Without a cap a hundredfold jump brings a copy for nearly every call; those over 2 % are counted."""
    free = tail.tail(Hedge(after=0.010), RetryBudget.unlimited(), requests=60, jump_at=1.0)
    assert free.over > 0.5 * free.extra * 6000
    capped = tail.tail(Hedge(after=0.010), tail.CAPPED, requests=60, jump_at=1.0)
    assert capped.over == 0
    assert 0 < capped.extra <= tail.CAP


def test_the_published_figures_are_reproduced():
    """Of others, over the whole published day at half the load: 95.46 %, and under 3 % for the healed server (Buoyant 2016)."""
    day = replace(slow_server.Illness(), rate=500.0)
    assert slow_server.play(day, RoundRobin(), 0).success == pytest.approx(0.9546, abs=0.001)
    assert slow_server.play(day, FinaglePeakEwma(), 0).healed < 0.03
