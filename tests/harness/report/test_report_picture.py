"""The picture of a run: what is in it, what may be left out of it, and how large it gets."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from harness.history import Acted, Attempt, History, Operation, Server
from harness.report import picture, series, text


def crowd(count: int, *, bad: int = 0) -> History:
    """`count` calls of 10 ms in a minute on sixty servers; the first `bad` failed, call 777 took 9 s."""
    operations = tuple(
        Operation(
            id=n,
            due=60 * n / count,
            invoked=60 * n / count,
            ended=60 * n / count + (9.0 if n == 777 else 0.010),
            result="fail" if n < bad else "ok",
            code="UNAVAILABLE" if n < bad else "OK",
            attempts=(Attempt(number=1, server=f"server-{n % 60}", started=60 * n / count, code="OK"),),
        )
        for n in range(count)
    )
    servers = tuple(Server(name=f"server-{n}") for n in range(60))
    return History(scenario="x", fleet="sim", proxy="", seed=1, seconds=60.0, servers=servers, operations=operations)


def drawn(history: History) -> ElementTree.Element:
    """The picture itself, without the sentences below it; that it parses says that all in it is escaped."""
    svg = str(picture.draw(history))
    return ElementTree.fromstring(text.clean(svg[: svg.index("</svg>") + 6]))


def marks(svg: ElementTree.Element, result: str) -> int:
    path = svg.find(f"path[@class='{result}']")
    return 0 if path is None else path.get("d", "").count("M")


def test_each_call_is_a_mark_of_its_result(stormy):
    """Two ok, one failed, one unknown; the one that never ended stands on a line of its own."""
    svg = drawn(stormy)
    assert [marks(svg, result) for result in ("ok", "fail", "info")] == [2, 1, 1]
    assert "never ended" in [label.text for label in svg.iter("text")]


def test_a_fault_is_named_and_shaded_where_it_acted(stormy):
    """From 5.003 to 15.011 s of 20: at these places on an axis from 92 to 836, and on its row."""
    svg = drawn(stormy)
    assert "Down() on a" in [label.text for label in svg.iter("text")]
    boxes = [path.get("d") for path in svg.iter("path") if path.get("class") in ("fault", "shade")]
    assert len(boxes) == 3
    assert all(re.match(r"M278\.1 [\d.]+h372\.3v", box) for box in boxes)


def test_a_fault_that_never_acted_is_not_drawn(evil):
    """It is in the table, with the reason."""
    assert [path for path in drawn(evil).iter("path") if path.get("class") == "fault"] == []


def test_a_crowd_is_thinned_but_the_failed_and_the_slowest_stay():
    """1500 of 20,000 are drawn: all that failed and the slow one; the picture says what is missing."""
    history = crowd(20_000, bad=40)
    chosen = series.select(history.operations)
    assert len(chosen.calls) == 1500
    assert {call.id for call in chosen.calls} >= {*range(40), 777}
    assert (
        "<p>drawn are 40 of 40 calls that did not end ok and 1,460 of 19,960 calls that ended ok: the 150 "
        "slowest of each kind, and an even choice of the others.</p>"
        "<p>10 of 60 servers have a row, those that were hit first.</p>"
    ) in picture.draw(history)
    assert series.select(crowd(2000).operations).says.startswith("drawn are 1,500 of 2,000 calls that ended ok:")


def test_a_picture_stays_small_whatever_happened():
    """20,000 failed calls and 6000 faults on 60 servers still make less than 60 KB."""
    faults = tuple(
        Acted(fault=f"Fault({n})", on=f"server-{s}", start=0, end=1, began=t, healed=t + 0.3)
        for n in range(10)
        for s in range(60)
        for t in range(0, 60, 6)
    )
    assert len(picture.draw(replace(crowd(20_000, bad=20_000), faults=faults))) < 60_000


def test_the_rows_show_what_each_server_was_asked(stormy):
    """Five attempts on a, two on b, counted by fifths of a second."""
    rates = series.rates(stormy, ["a", "b"], 0.2, 20.0)
    assert [rate.attempts for rate in rates] == [5, 2]
    assert rates[0].all[30] == pytest.approx(5.0)  # one attempt within [6.0, 6.2)
    assert rates[0].failed[35] == pytest.approx(10.0)  # two failed ones within [7.0, 7.2)


def test_nothing_is_drawn_of_nothing(calm):
    """A run without calls has no picture; one whose calls took no time at all has."""
    assert picture.draw(replace(calm, operations=())) == ""
    instant = tuple(replace(call, ended=call.due) for call in calm.operations)
    assert marks(drawn(replace(calm, operations=instant)), "ok") == 10
    assert marks(drawn(replace(calm, operations=instant[:1], seconds=0.0)), "ok") == 1


@pytest.mark.parametrize(
    ("value", "below", "above"),
    [(0.3, 0.2, 0.5), (0.1, 0.1, 0.1), (1.0, 1, 1), (7, 5, 10), (0.00099, 0.0005, 0.001)],
)
def test_axes_end_on_round_numbers(value, below, above):
    """1, 2 or 5 times a power of ten; what is one already stays."""
    assert series.nice(value, up=False) == pytest.approx(below)
    assert series.nice(value, up=True) == pytest.approx(above)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "never"),
        (0.0, "0 µs"),
        (0.00032, "320 µs"),
        (0.0124, "12.4 ms"),
        (1.5, "1.5 s"),
        (1234.5, "1,234 s"),
    ],
)
def test_times_are_told_in_their_own_unit(seconds, said):
    """Three digits and a unit; report.json keeps the seconds."""
    assert text.duration(seconds) == said


def test_a_share_that_is_not_the_whole_is_never_a_hundred_percent():
    """One failure in a million is 99.99 %."""
    assert text.percent(999_999, 1_000_000) == "99.99 %"
    assert text.percent(5, 5) == "100 %"
    assert text.percent(0, 0) == "-"
