"""What each toxic decides, as timetables: time is given by hand, and every expected action is written out."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.proxy.pipe import Pipe, Toxic
from harness.proxy.stage import Action, Deliver, End, Reset, Stage, Tally
from harness.proxy.toxics import (
    TYPES,
    Bandwidth,
    Latency,
    LimitData,
    PacketLoss,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    check_attributes,
)


def stage(kind: type[Stage], tally: Tally | None = None, **attributes: float) -> Stage:
    return kind(check_attributes(kind.type, attributes), random.Random(1), tally or Tally(), 0.0)


def toxic(serial: int, kind: str, toxicity: float = 1.0, **attributes: float) -> Toxic:
    return Toxic(
        name=f"t{serial}",
        type=kind,
        stream="upstream",
        toxicity=toxicity,
        attributes=check_attributes(kind, attributes),
        serial=serial,
    )


def play(what: Stage | Pipe, until: float) -> list[tuple[float, Action]]:
    """All that happens by itself until then: when, and what."""
    happened: list[tuple[float, Action]] = []
    while what.wake_at is not None and what.wake_at <= until:
        now = what.wake_at
        happened.extend((round(now, 6), action) for action in what.woke(now))
    return happened


def test_latency_delays_every_chunk_and_keeps_the_order():
    """Each chunk comes 0.1 s after it was sent; the end comes behind the last of them."""
    late = stage(Latency, latency=100)
    assert [*late.received(b"a", 0.0), *late.received(b"b", 0.05), *late.ended(0.06)] == []
    assert play(late, 1.0) == [(0.1, Deliver(b"a")), (0.15, Deliver(b"b")), (0.15, End())]
    assert late.held == 0


def test_jitter_never_lets_a_chunk_overtake_or_come_before_it_was_sent():
    """Jitter beyond the latency means no delay, not a negative one."""
    late = stage(Latency, latency=50, jitter=200)
    sent = [(number / 100, bytes([number])) for number in range(50)]
    came: list[tuple[float, Action]] = []
    for now, data in sent:
        came += play(late, now)
        came += [(now, action) for action in late.received(data, now)]
    came += play(late, 10.0)
    assert [action for _, action in came] == [Deliver(data) for _, data in sent]
    assert all(at >= now for (at, _), (now, _) in zip(came, sent, strict=True))
    assert any(at == now for (at, _), (now, _) in zip(came, sent, strict=True))


def test_a_removed_latency_gives_up_what_it_held():
    """Healing is at once: nothing waits for a delay that is no more."""
    late = stage(Latency, latency=60_000)
    late.received(b"a", 0.0)
    late.received(b"b", 1.0)
    assert list(late.removed(2.0)) == [Deliver(b"a"), Deliver(b"b")]


def test_an_edited_latency_holds_for_what_waits_already():
    """Waiting chunks are due by the new latency, counted from when they came."""
    late = stage(Latency, latency=60_000)
    late.received(b"a", 0.0)
    late.received(b"b", 1.0)
    late.changed({"latency": 500, "jitter": 0}, 1.2)
    assert play(late, 60.0) == [(0.5, Deliver(b"a")), (1.5, Deliver(b"b"))]


def test_bandwidth_lets_pass_what_the_rate_allows_in_tenths_of_a_second():
    """2 KB at 10 KB/s take 0.2 s, in two pieces; a later chunk waits for the line to be free."""
    line = stage(Bandwidth, rate=10)
    line.received(b"x" * 2000, 0.0)
    line.received(b"y" * 500, 0.1)
    assert play(line, 1.0) == [
        (0.1, Deliver(b"x" * 1000)),
        (0.2, Deliver(b"x" * 1000)),
        (0.25, Deliver(b"y" * 500)),
    ]


def test_bandwidth_zero_holds_everything_until_it_is_edited_or_removed():
    """Nothing passes at rate 0, and nothing is lost."""
    line = stage(Bandwidth, rate=0)
    line.received(b"abc", 0.0)
    assert line.wake_at is None
    line.changed({"rate": 1}, 5.0)
    assert play(line, 6.0) == [(5.003, Deliver(b"abc"))]
    line.received(b"def", 6.0)
    line.ended(6.0)
    assert list(line.removed(6.0)) == [Deliver(b"def"), End()]


def pieces(what: Stage | Pipe, data: bytes) -> list[tuple[float, bytes]]:
    """What becomes of a chunk that comes at 0, and when."""
    what.received(data, 0.0)
    return [(at, action.data) for at, action in play(what, 10.0) if isinstance(action, Deliver)]


def test_the_slicer_cuts_a_chunk_and_its_parts_in_two_until_they_are_short_enough():
    """Without variation 100 bytes become 8 pieces of 12 or 13, one delay apart: what is longer than 13 is cut again."""
    data = bytes(range(100))
    cut = pieces(stage(Slicer, average_size=13, delay=2000), data)
    assert b"".join(piece for _, piece in cut) == data
    assert [len(piece) for _, piece in cut] == [12, 13, 12, 13, 12, 13, 12, 13]
    assert [at for at, _ in cut] == pytest.approx([0.002 * number for number in range(8)])


def test_the_slicer_varies_what_it_cuts():
    """100 to 10 bytes, give or take 3: pieces of 4 to 13, not all as long, that join to what was sent."""
    data = bytes(range(100)) * 20
    lengths = [len(piece) for _, piece in pieces(stage(Slicer, average_size=10, size_variation=3), data)]
    assert sum(lengths) == 2000
    assert {min(lengths), max(lengths)} <= set(range(4, 14))
    assert len(set(lengths)) > 4


def test_packet_loss_drops_chunks_by_chance_and_more_after_a_loss():
    """Rate 0.2, correlation 0.5: after a chunk that passed 0.2 are lost, after a lost one 0.7.

    20,000 chunks (seed 1); exact binomial tests, alpha 1e-6 each.
    """
    tally = Tally()
    loss = stage(PacketLoss, tally, loss_rate=0.2, correlation=0.5)
    lost = [not loss.received(b"a", 0.0) for _ in range(20_000)]
    assert tally.count == sum(lost)
    for before, rate in ((False, 0.2), (True, 0.7)):
        then = [after for first, after in pairwise(lost) if first is before]
        assert stats.binomtest(sum(then), len(then), rate).pvalue > 1e-6


def test_packet_loss_of_all_and_of_none():
    """Rates are checked: fractions from 0 to 1."""
    assert list(stage(PacketLoss, loss_rate=1).received(b"a", 0.0)) == []
    assert list(stage(PacketLoss).received(b"a", 0.0)) == [Deliver(b"a")]
    with pytest.raises(ValueError, match="loss_rate must be a number from 0 to 1 .*; got 1.5"):
        check_attributes("packet_loss", {"loss_rate": 1.5})


def test_a_seed_repeats_jitter_slices_and_losses():
    """The same key gives the same delays and pieces again, another key others."""

    def drawn(key: str) -> list[object]:
        result: list[object] = []
        for kind, attributes in (
            ("latency", {"latency": 500, "jitter": 400}),
            ("slicer", {"average_size": 50, "size_variation": 20}),
            ("packet_loss", {"loss_rate": 0.5}),
        ):
            pipe = Pipe(key)
            pipe.put(toxic(1, kind, **attributes), 0.0)
            result += [pieces(pipe, bytes(1000)) for _ in range(10)]
        return result

    assert drawn("7/server-0/1/upstream") == drawn("7/server-0/1/upstream") != drawn("8/server-0/1/upstream")


def test_a_timeout_drops_all_and_ends_the_connection_after_silence():
    """It is an idle timeout: every chunk begins it anew. Removing it ends the connection as well."""
    hole = stage(Timeout, timeout=500)
    assert [*hole.received(b"a", 0.2), *hole.received(b"b", 0.6)] == []
    assert play(hole, 5.0) == [(1.1, End())]
    assert list(stage(Timeout, timeout=0).removed(1.0)) == [End()]


def test_a_timeout_of_zero_never_ends_the_connection_but_lets_its_end_pass():
    """That is the black hole."""
    hole = stage(Timeout, timeout=0)
    assert list(hole.received(b"a", 0.0)) == []
    assert hole.wake_at is None
    assert list(hole.ended(1.0)) == [End()]


def test_reset_peer_resets_after_the_first_bytes_or_else_when_idle():
    """With bytes or an end: `timeout` after them. Without: a second later, so that a reply has its chance to be torn."""
    assert list(stage(ResetPeer, timeout=0).received(b"a", 0.3)) == [Reset()]
    waiting = stage(ResetPeer, timeout=500)
    assert list(waiting.received(b"a", 0.3)) == []
    assert play(waiting, 9.0) == [(0.8, Reset())]
    assert play(stage(ResetPeer, timeout=500), 9.0) == [(1.5, Reset())]
    ending = stage(ResetPeer, timeout=500)
    assert list(ending.ended(0.2)) == []
    assert play(ending, 9.0) == [(0.7, Reset())]


def test_limit_data_passes_exactly_so_many_bytes():
    """10 of 25 bytes, then the end; with 0 none."""
    limit = stage(LimitData, bytes=10)
    assert list(limit.received(b"123456", 0.0)) == [Deliver(b"123456")]
    assert list(limit.received(b"7890abc", 0.1)) == [Deliver(b"7890"), End()]
    assert list(stage(LimitData, bytes=0).received(b"a", 0.0)) == [End()]


def test_slow_close_delays_the_end_only():
    """Bytes pass at once, the end comes late."""
    slow = stage(SlowClose, delay=700)
    assert list(slow.received(b"a", 0.0)) == [Deliver(b"a")]
    assert list(slow.ended(0.0)) == []
    assert play(slow, 1.0) == [(0.7, End())]


def test_two_latencies_add_up():
    """Toxics act one behind the other."""
    pipe = Pipe("seed/proxy/1")
    pipe.put(toxic(1, "latency", latency=200), 0.0)
    pipe.put(toxic(2, "latency", latency=100), 0.0)
    pipe.received(b"a", 0.0)
    assert play(pipe, 1.0) == [(0.3, Deliver(b"a"))]


def test_a_toxic_is_counted_as_often_as_it_acted():
    """Bytes that it let pass do not count; those it held, dropped or cut do."""
    tally = Tally()
    stage(Latency, tally, latency=0).received(b"a", 0.0)
    assert tally.count == 0
    stage(Latency, tally, latency=1).received(b"a", 0.0)
    stage(Timeout, tally, timeout=0).received(b"a", 0.0)
    stage(ResetPeer, tally, timeout=0).received(b"a", 0.0)
    stage(Bandwidth, tally, rate=1).received(b"a", 0.0)
    stage(LimitData, tally, bytes=0).received(b"a", 0.0)
    assert tally.count == 5


def test_a_seed_repeats_which_connections_a_toxic_takes():
    """The same seed takes the same ones, another seed others; and about as many as its toxicity says.

    2000 draws at 0.5: outside 890..1110 with a chance of less than 1e-6.
    """

    def taken(seed: int, toxicity: float) -> set[int]:
        pipes = {number: Pipe(f"{seed}/proxy/{number}/upstream") for number in range(2000)}
        for pipe in pipes.values():
            pipe.put(toxic(1, "timeout", toxicity), 0.0)
        return {number for number, pipe in pipes.items() if not pipe.empty}

    assert taken(1, 0.5) == taken(1, 0.5) != taken(2, 0.5)
    assert 890 <= len(taken(1, 0.5)) <= 1110
    assert taken(1, 0.0) == set()
    assert len(taken(1, 1.0)) == 2000


def test_editing_the_toxicity_draws_nothing_anew():
    """More toxicity adds connections to those it had; less gives some back, and what they held goes on."""
    pipes = [Pipe(f"1/proxy/{number}") for number in range(50)]
    takes: list[set[int]] = []
    for toxicity in (0.3, 0.6, 0.6):
        for pipe in pipes:
            pipe.put(toxic(1, "bandwidth", toxicity, rate=0), 0.0)
        takes.append({number for number, pipe in enumerate(pipes) if not pipe.empty})
    assert takes[0] < takes[1] == takes[2]
    for pipe in pipes:
        pipe.received(b"a", 0.0)
    freed = [list(pipe.put(toxic(1, "bandwidth", 0.0, rate=0), 1.0)) for pipe in pipes]
    assert [bool(actions) for actions in freed] == [number in takes[2] for number in range(50)]


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (
            "latency",
            {"latency": -1},
            "latency: latency must be a whole number from 0 to 86400000 (ms); got -1",
        ),
        ("latency", {"jitter": 2**63}, "jitter must be a whole number from 0 to 86400000 (ms)"),
        ("bandwidth", {"rate": -1}, "rate must be a whole number from 0 to 1000000000 (KB/s); got -1"),
        ("bandwidth", {"rate": 1.5}, "got 1.5"),
        ("bandwidth", {"rate": "100"}, "got '100'"),
        ("timeout", {"timeout": True}, "got True"),
        ("slicer", {}, "average_size must be a whole number from 1 to 2147483647 (bytes); got 0"),
        (
            "slicer",
            {"average_size": 5, "size_variation": 5},
            "size_variation must be less than average_size, 5; got 5",
        ),
    ],
)
def test_attributes_out_of_bounds_are_refused_by_name(kind, given, message):
    """The message names attribute, value and bound: with some of these the real Toxiproxy stops when data comes."""
    with pytest.raises(ValueError, match=re.escape(message)):
        check_attributes(kind, given)


HOLDING = st.sampled_from([
    ("latency", {"latency": 30, "jitter": 20}),
    ("bandwidth", {"rate": 1}),
    ("bandwidth", {"rate": 0}),
    ("slicer", {"average_size": 3, "size_variation": 2, "delay": 500}),
    ("slow_close", {"delay": 10}),
    ("noop", {}),
])  # fmt: skip
STEPS = st.lists(st.one_of(
    st.tuples(st.just("send"), st.binary(min_size=1, max_size=300)),
    st.tuples(st.just("wait"), st.floats(0, 0.5)),
    st.tuples(st.just("put"), st.tuples(st.integers(1, 4), HOLDING)),
    st.tuples(st.just("drop"), st.integers(1, 4)),
))  # fmt: skip


@settings(deadline=None)
@given(STEPS)
def test_whatever_toxics_come_and_go_no_byte_is_lost_repeated_or_overtaken(steps):
    """Toxics that only delay: what came out is always a beginning of what went in, and all of it once they are gone."""
    pipe, now, kinds = Pipe("1/proxy/1"), 0.0, {}
    sent, came = bytearray(), bytearray()

    def take(actions):
        came.extend(b"".join(action.data for action in actions if isinstance(action, Deliver)))
        assert sent.startswith(came)

    for what, value in steps:
        if what == "send":
            sent += value
            take(pipe.received(value, now))
        elif what == "wait":
            take([action for _, action in play(pipe, now + value)])
            now += value
        elif what == "put":
            kind, attributes = kinds.setdefault(value[0], value[1])
            take(pipe.put(toxic(value[0], kind, **attributes), now))
        else:
            take(pipe.drop(value, now))
            kinds.pop(value, None)
    for serial in (1, 2, 3, 4):
        take(pipe.drop(serial, now))
    assert came == sent
    assert pipe.held == 0
    assert pipe.empty


NAMES = sorted({field.name for kind in TYPES.values() for field in kind.fields})


@settings(deadline=None)
@given(
    st.sampled_from(sorted(TYPES)),
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2**31 - 1) | st.floats(0, 1)),
    st.lists(st.tuples(st.binary(max_size=50), st.floats(0, 100)), max_size=20),
)
def test_no_accepted_attribute_can_raise_when_bytes_come(kind, attributes, chunks):
    """What passed the check is safe with any data at any time."""
    try:
        checked = check_attributes(kind, attributes)
    except ValueError:
        return
    pipe, now = Pipe("1/proxy/1"), 0.0
    pipe.put(toxic(1, kind, **checked), now)
    for data, wait in chunks:
        now += wait
        for _ in range(50):  # a slicer may cut on and on; it must not raise
            pipe.woke(now)
        pipe.received(data, now)
    pipe.ended(now)
    pipe.drop(1, now)
