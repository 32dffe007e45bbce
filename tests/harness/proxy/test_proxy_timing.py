"""Every toxic's timing on both servers at once: each within TOLERANCE of what it should be, and their chances the same.

A row that is out of it is played again, up to PLAYS times: the machine may be late, but not each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from lines import PLAYS, TOLERANCE, Played, Script, Step, all_of, ask, put, send
from scipy import stats

from harness.proxy.toxics import TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A script, what is measured of it, and what that should be, in seconds."""

    toxic: str
    name: str
    script: tuple[Step, ...]
    measured: Callable[[Played], float]
    expected: float
    seconds: float = 1.0


def arrival(line: Played) -> float:
    """When the far end's last byte was with the client."""
    return line.client.last


def client_end(line: Played) -> float:
    assert line.client.ended is not None
    return line.client.ended


def far_end(line: Played) -> float:
    assert line.far.ended is not None
    return line.far.ended


def reset(line: Played) -> float:
    """When the client got a RST."""
    assert line.client.reset
    return client_end(line)


def nothing(line: Played) -> float:
    """0 if nothing came, and the connection stayed."""
    assert (line.client.data, line.client.ended) == (b"", None)
    return 0.0


def edit(at: float, **attributes: int) -> Step:
    return Step(at=at, do="edit", name="t", body={"attributes": attributes})


REMOVE = Step(at=0.4, do="remove", name="t")
ROWS = [
    Row(toxic="noop", name="passes", script=(put(-1, "noop"), send(0.1, "far", 1)), measured=arrival, expected=0.1),
    Row(toxic="latency", name="200 ms", script=(put(-1, "latency", latency=200), send(0.1, "far", 1)),
        measured=arrival, expected=0.3),
    Row(toxic="latency", name="two add up",
        script=(put(-1, "latency", latency=200), put(-1, "latency", name="u", latency=100), send(0.1, "far", 1)),
        measured=arrival, expected=0.4),
    Row(toxic="latency", name="upstream", script=(put(-1, "latency", "upstream", latency=200), send(0.1, "client", 1)),
        measured=lambda line: line.far.last, expected=0.3),
    Row(toxic="latency", name="the other stream does not wait",
        script=(put(-1, "latency", "upstream", latency=200), send(0.1, "far", 1)), measured=arrival, expected=0.1),
    Row(toxic="latency", name="on an open connection", script=(put(0.1, "latency", latency=200), send(0.3, "far", 1)),
        measured=arrival, expected=0.5),
    Row(toxic="latency", name="edited", script=(put(-1, "latency", latency=900), edit(0.1, latency=200), send(0.2, "far", 1)),
        measured=arrival, expected=0.4),
    Row(toxic="latency", name="removed with a chunk in flight",
        script=(put(-1, "latency", latency=5000), send(0.1, "far", 1), REMOVE), measured=arrival, expected=0.4),
    Row(toxic="bandwidth", name="100 KB/s", script=(put(-1, "bandwidth", rate=100), send(0.1, "far", 40_000)),
        measured=arrival, expected=0.5),
    Row(toxic="bandwidth", name="100 KB/s in small chunks",
        script=(put(-1, "bandwidth", rate=100), *(send(0.1 + 0.01 * n, "far", 4000) for n in range(10))),
        measured=arrival, expected=0.5),
    Row(toxic="bandwidth", name="half of it", script=(put(-1, "bandwidth", rate=100), send(0.1, "far", 40_000)),
        measured=lambda line: line.client.when(20_000), expected=0.3),
    Row(toxic="bandwidth", name="0 lets nothing pass", script=(put(-1, "bandwidth", rate=0), send(0.1, "far", 1)),
        measured=nothing, expected=0.0),
    Row(toxic="bandwidth", name="0, removed", script=(put(-1, "bandwidth", rate=0), send(0.1, "far", 1000), REMOVE),
        measured=arrival, expected=0.4),
    Row(toxic="slow_close", name="the far end closes",
        script=(put(-1, "slow_close", delay=300), Step(at=0.1, do="close", at_end="far")), measured=client_end, expected=0.4),
    Row(toxic="slow_close", name="bytes are not late", script=(put(-1, "slow_close", delay=300), send(0.1, "far", 1)),
        measured=arrival, expected=0.1),
    Row(toxic="timeout", name="idle", script=(put(-1, "timeout", timeout=300),), measured=client_end, expected=0.3),
    Row(toxic="timeout", name="begins anew with each chunk",
        script=(put(-1, "timeout", timeout=300), send(0.2, "far", 1), send(0.4, "far", 1)), measured=client_end, expected=0.7),
    Row(toxic="timeout", name="begins anew with an edit",
        script=(put(-1, "timeout", timeout=300), edit(0.2, timeout=400)), measured=far_end, expected=0.6),
    Row(toxic="timeout", name="0 never ends", script=(put(-1, "timeout", timeout=0), send(0.1, "far", 1)),
        measured=nothing, expected=0.0),
    Row(toxic="timeout", name="removed", script=(put(-1, "timeout", timeout=0), send(0.1, "far", 1), REMOVE),
        measured=client_end, expected=0.4),
    Row(toxic="reset_peer", name="after the first bytes", script=(put(-1, "reset_peer", timeout=200), send(0.1, "far", 1)),
        measured=reset, expected=0.3),
    Row(toxic="reset_peer", name="0", script=(put(-1, "reset_peer", timeout=0), send(0.1, "far", 1)),
        measured=reset, expected=0.1),
    Row(toxic="reset_peer", name="upstream", script=(put(-1, "reset_peer", "upstream", timeout=200), send(0.1, "client", 1)),
        measured=reset, expected=0.3),
    Row(toxic="reset_peer", name="after the end",
        script=(put(-1, "reset_peer", timeout=200), Step(at=0.1, do="shut", at_end="far")), measured=reset, expected=0.3),
    Row(toxic="slicer", name="16 pieces, 40 ms apart",
        script=(put(-1, "slicer", average_size=1500, delay=40_000), send(0.1, "far", 16_000)), measured=arrival, expected=0.7),
    Row(toxic="slicer", name="half of them",
        script=(put(-1, "slicer", average_size=1500, delay=40_000), send(0.1, "far", 16_000)),
        measured=lambda line: line.client.when(8000), expected=0.38),
    Row(toxic="limit_data", name="cuts at once", script=(put(-1, "limit_data", bytes=10), send(0.1, "far", 25)),
        measured=client_end, expected=0.1),
    Row(toxic="limit_data", name="counts over an edit",
        script=(put(-1, "limit_data", bytes=10), send(0.1, "far", 8), edit(0.2, bytes=9), send(0.3, "far", 8)),
        measured=client_end, expected=0.3),
    Row(toxic="down", name="ends what is open", script=(Step(at=0.1, do="change", body={"enabled": False}),),
        measured=client_end, expected=0.1),
]  # fmt: skip


def off(row: Row, ours: Played, theirs: Played) -> str:
    """What is wrong with two plays of a row; "" if nothing."""
    if (ours.client.data, ours.far.data) != (theirs.client.data, theirs.far.data):
        return f"{ours} is not {theirs}"
    try:
        times = [row.measured(line) for line in (ours, theirs)]
    except (AssertionError, IndexError) as error:
        return f"{error!r}: {ours}, {theirs}"
    within = TOLERANCE + max(ours.late, theirs.late)
    if all(abs(time - row.expected) <= within for time in times):
        return ""
    return f"within {within:.3f} s: ours {times[0]:.3f} s, the real one {times[1]:.3f} s; expected {row.expected:g} s"


@pytest.fixture(scope="module")
def played(builtin, real):
    """All rows, played at once on both; those that were off are played again."""
    result: dict[str, str] = {}
    left = ROWS
    for _ in range(PLAYS):
        scripts = [Script(steps=row.script, seconds=row.seconds) for row in left]
        lines = zip(left, all_of((builtin.port, real.port), scripts), strict=True)
        result |= {row.name: off(row, *pair) for row, pair in lines}
        left = [row for row in left if result[row.name]]
    return result


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.toxic}: {row.name}")
def test_each_toxic_takes_its_time_on_both(played, row):
    """Both within TOLERANCE of what Toxiproxy's documentation makes of it, and with the same bytes."""
    assert played[row.name] == ""


def test_every_toxic_has_a_row():
    """`packet_loss` alone has none: the released Toxiproxy does not have it."""
    assert {row.toxic for row in ROWS} - {"down"} == set(TYPES) - {"packet_loss"}


LINES = 300


def test_as_many_connections_are_taken_by_a_toxicity_of_one_half(builtin, real):
    """300 connections each, toxicity 0.5: the two shares agree (Fisher's exact test, alpha 1e-6). Ours is seeded with 1."""
    script = Script(steps=(put(-1, "limit_data", toxicity=0.5, bytes=0), send(0.1, "far", 1)), seconds=2.0)
    sides = many((builtin.port, real.port), script, at_once=100)
    assert all((line.client.data == b"") == (line.client.ended is not None) for side in sides for line in side)
    taken = [sum(line.client.ended is not None for line in side) for side in sides]
    assert stats.fisher_exact([[taken[0], LINES - taken[0]], [taken[1], LINES - taken[1]]]).pvalue > 1e-6, taken
    assert 90 < taken[0] < 210  # 6.9 standard deviations: the toxic is neither on all nor on none


def test_jitter_is_spread_alike(builtin, real):
    """300 chunks each at 100 ms give or take 80: the delays are from one distribution (Kolmogorov-Smirnov, alpha 1e-6).

    A machine that is busy adds to them, and not to both alike: a difference counts when it shows each time.
    """
    script = Script(steps=(put(-1, "latency", latency=100, jitter=80), send(0.05, "far", 1)), seconds=0.6)
    for again in reversed(range(PLAYS)):
        delays = [
            [line.client.last - line.did[0] for line in lines] for lines in many((builtin.port, real.port), script)
        ]
        assert all(min(some) >= 0.02 for some in delays)
        assert all(max(some) - min(some) > 0.1 for some in delays)
        if stats.ks_2samp(*delays).pvalue > 1e-6:
            return
        assert again, [sorted(some)[:: LINES // 10] for some in delays]


def many(ports: tuple[int, int], script: Script, *, at_once: int = 50) -> list[list[Played]]:
    """`LINES` plays of the same script on each, so many pairs at a time: a crowd would be late by itself."""
    pairs = [pair for _ in range(LINES // at_once) for pair in all_of(ports, [script] * at_once)]
    return [list(side) for side in zip(*pairs, strict=True)]


def test_pieces_of_the_slicer_are_as_long(builtin, real):
    """Pieces of 100 bytes give or take 30, 5 ms apart: both cut 4,000 bytes into 31 to 62, and into about as many (25 %)."""
    script = Script(
        steps=(put(-1, "slicer", average_size=100, size_variation=30, delay=5000), send(0.1, "far", 4000)), seconds=1.0
    )
    pieces = [len(line.client.came) for line in all_of((builtin.port, real.port), [script])[0]]
    assert pieces[0] == pytest.approx(pieces[1], rel=0.25), pieces
    assert 31 <= pieces[0] <= 62


def test_an_api_that_is_asked_in_the_loop_answers(builtin):
    """What the lines are set up with is the API itself: a refused request is an error here, not a silence."""
    with pytest.raises(AssertionError, match="proxy not found"):
        asyncio.run(ask(builtin.port, "GET", "/proxies/nobody"))
