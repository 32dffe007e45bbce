"""One run as a picture over time: the faults, the latency of each call, and the attempts at each server.

They stand one below the other on one axis. It is inline SVG without scripts; colours and fonts come from the
page's style sheet by class. An unsuccessful call is drawn in a form of its own, not only in its own colour.
Numbers are rounded to tenths of a pixel and equal forms share one path, so that a picture has some 30 KB.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from harness.history import History, Operation
from harness.report import series
from harness.report.series import Lane, Rate, Span
from harness.report.text import duration, number

#: All in pixels of the picture's own 900 wide space.
WIDTH, LEFT, RIGHT = 900, 92, 64
LANE, DOTS, AXIS, ROW = 19, 230, 46, 26
#: The strip above the dots where calls stand that never ended.
NEVER = 28
#: A row shows the rate in no more steps than this.
STEPS = 100
#: Faults on one server or of one name that are apart by less than this part of the time are drawn as one.
GAP = 250
#: How many calls say what they were when pointed at.
TOLD = 24
#: How a call's result is told.
WORDS = {"ok": "ok", "fail": "failed", "info": "unknown"}
#: The forms of the calls' marks, a dot, a triangle and a cross, and where each begins, seen from its middle.
MARKS = {"ok": (0, 0, "h0"), "info": (0, -4, "l4 7h-8z"), "fail": (-3, -3, "l6 6m0-6l-6 6")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Where a time and a latency stand: `seconds` to the right, `low` to `high` upwards, logarithmic."""

    seconds: float
    low: float
    high: float
    top: float

    def x(self, time: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, time / self.seconds))

    def y(self, latency: float | None) -> float:
        if latency is None:
            return self.top - NEVER / 2
        share = math.log(min(max(latency, self.low), self.high) / self.low) / math.log(self.high / self.low)
        return self.top + DOTS * (1 - share)


def draw(history: History) -> Markup:
    """The picture of `history`, with what it does not show said below; empty if no call was made."""
    if not history.operations:
        return Markup("")
    selection = series.select(history.operations)
    until = series.length(history)
    lanes = series.lanes(history.faults, until, until / GAP)
    frame = _frame(selection.calls, until, LANE * min(len(lanes), series.LANES))
    names = series.rows(history)
    rates = series.rates(history, names, series.nice(until / STEPS, up=True), until)
    below = frame.top + DOTS + AXIS
    parts = [
        *_bands(lanes[: series.LANES], frame),
        *_grid(frame, any(call.latency is None for call in selection.calls)),
        *_dots(selection.calls, frame),
        *_rows(history, rates, frame, below),
    ]
    height = below + ROW * len(rates) + 6
    label = f"Latency of {len(history.operations):,} calls over {until:.1f} seconds, and attempts at each server"
    picture = f'<svg viewBox="0 0 {WIDTH} {_n(height)}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    left_out = [selection.says, *_left_out(lanes, rates, history)]
    says = "".join(f"<p>{escape(line)}.</p>" for line in left_out if line)
    return Markup(picture + says)


def _left_out(lanes: Sequence[Lane], rates: Sequence[Rate], history: History) -> Iterator[str]:
    if len(lanes) > series.LANES:
        yield f"{len(lanes) - series.LANES} more faults are not drawn; the table has all of them"
    if len(rates) < len(history.servers):
        yield f"{len(rates)} of {len(history.servers):,} servers have a row, those that were hit first"


def _frame(calls: Sequence[Operation], until: float, lanes: float) -> Frame:
    ended = [call.latency for call in calls if call.latency is not None]
    positive = [latency for latency in ended if latency > 0] or [0.001]
    low = series.nice(max(min(positive), 1e-6), up=False)
    high = series.nice(max(*positive, low * 5), up=True)
    never = NEVER if len(ended) < len(calls) else 0
    return Frame(seconds=until, low=low, high=high, top=8 + lanes + never)


def _bands(lanes: Sequence[Lane], frame: Frame) -> Iterator[str]:
    """Each fault as a named bar, and as a shade behind the calls."""
    for index, lane in enumerate(lanes):
        top = 2 + LANE * index
        yield f'<path class="shade" d="{_boxes(lane.spans, frame, top, frame.top + DOTS - top)}"/>'
        yield f'<path class="fault" d="{_boxes(lane.spans, frame, top, LANE - 3)}"/>'
        where = lane.on[0] if len(lane.on) == 1 else f"{len(lane.on)} servers"
        yield _label(f"{lane.fault} on {where}", frame.x(lane.spans[0][0]) + 5, top + 12)


def _label(text: str, left: float, y: float) -> str:
    """A text that begins at `left`, or, if it would not end within the picture, that ends with it."""
    shown = text if len(text) <= 90 else text[:89] + "…"
    if left + 6.3 * len(shown) > WIDTH - RIGHT:
        return f'<text class="name end" x="{WIDTH - RIGHT - 4}" y="{_n(y)}">{escape(shown)}</text>'
    return f'<text class="name" x="{_n(left)}" y="{_n(y)}">{escape(shown)}</text>'


def _boxes(spans: Iterable[Span], frame: Frame, top: float, height: float) -> str:
    """Rectangles over `spans`, each at least two pixels wide, so that a short fault is seen."""
    boxes = []
    for began, healed in spans:
        left = min(frame.x(began), WIDTH - RIGHT - 2)
        width = max(2.0, frame.x(healed) - left)
        boxes.append(f"M{_n(left)} {_n(top)}h{_n(width)}v{_n(height)}h-{_n(width)}z")
    return "".join(boxes)


def _grid(frame: Frame, never: bool) -> Iterator[str]:
    bottom = frame.top + DOTS
    for latency in series.between(frame.low, frame.high):
        y = _n(frame.y(latency))
        yield f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>'
        yield f'<text class="end" x="{LEFT - 8}" y="{y}" dy="4">{duration(latency)}</text>'
    if never:
        yield f'<text class="end" x="{LEFT - 8}" y="{_n(frame.y(None))}" dy="4">never ended</text>'
    apart = series.nice(frame.seconds / 10, up=True)
    for index in range(int(frame.seconds / apart + 1e-9) + 1):
        x = _n(frame.x(index * apart))
        yield f'<path class="grid" d="M{x} {_n(bottom)}v5"/>'
        yield f'<text class="mid" x="{x}" y="{_n(bottom + 17)}">{number(index * apart)} s</text>'


def _dots(calls: Sequence[Operation], frame: Frame) -> Iterator[str]:
    """The calls: one path for each result, the worst on top; then what some say when pointed at."""
    for result, (right, down, form) in MARKS.items():
        middles = [_at(call, frame) for call in calls if call.result == result]
        if middles:
            path = "".join(f"M{_n(x + right)} {_n(y + down)}{form}" for x, y in middles)
            yield f'<path class="{result}" d="{path}"/>'
    for call in series.worst(calls, TOLD):
        x, y = _at(call, frame)
        says = escape(tell(call))
        yield f'<circle class="told" cx="{_n(x)}" cy="{_n(y)}" r="6"><title>{says}</title></circle>'


def _at(call: Operation, frame: Frame) -> tuple[float, float]:
    return frame.x(call.due), frame.y(call.latency)


def tell(call: Operation) -> str:
    """One call in one line: when it was due, how long it took, how it ended, and where it was tried."""
    tries = ", ".join(f"{attempt.server} ({attempt.code or 'no answer'})" for attempt in call.attempts[:4])
    more = f", and {len(call.attempts) - 4} more" if len(call.attempts) > 4 else ""
    took = "never ended" if call.latency is None else f"took {duration(call.latency)}"
    tried = f"tried on {tries}{more}" if tries else "no attempt told of"
    ended = "ok" if call.result == "ok" else f"{WORDS[call.result]} ({call.code})"
    heard = "" if call.messages is None else f", heard {call.heard_messages} of {call.messages} messages"
    return f"call {call.id}, due at {call.due:.3f} s, {took}, {ended}{heard}; {tried}"


def _rows(history: History, rates: Sequence[Rate], frame: Frame, top: float) -> Iterator[str]:
    """Each server's attempts a second, all to one scale, on a shade where a fault acted on it."""
    most = max((max(rate.all) for rate in rates), default=0.0)
    yield (
        f'<text class="mid" x="{(LEFT + WIDTH - RIGHT) // 2}" y="{_n(top - 4)}">'
        f"attempts per second at each server (a full row is {number(most)}/s), and how many in all</text>"
    )
    for index, rate in enumerate(rates):
        y = top + ROW * index
        acted = [fault for fault in history.faults if fault.on == rate.server]
        boxes = _boxes(series.joined(acted, frame.seconds, frame.seconds / GAP), frame, y, ROW - 2)
        floor = y + ROW - 2
        yield f'<path class="fault" d="{boxes}"/>' if boxes else ""
        yield f'<path class="rate" d="{_steps(rate.all, rate.step, most, frame, floor)}"/>'
        if any(rate.failed):
            yield f'<path class="failed" d="{_steps(rate.failed, rate.step, most, frame, floor)}"/>'
        yield f'<path class="grid" d="M{LEFT} {_n(floor)}H{WIDTH - RIGHT}"/>'
        yield f'<text class="end" x="{LEFT - 8}" y="{_n(floor - 7)}">{escape(_short(rate.server))}</text>'
        yield f'<text x="{WIDTH - RIGHT + 8}" y="{_n(floor - 7)}">{rate.attempts:,}</text>'


def _steps(values: Sequence[float], step: float, most: float, frame: Frame, floor: float) -> str:
    """A flight of stairs over `values`, standing on `floor`; steps of equal height are one."""
    path = [f"M{LEFT} {_n(floor)}"]
    last = 0.0
    for index, value in enumerate(values):
        if value != last:
            path.append(f"H{_n(frame.x(step * index))}V{_n(floor - (ROW - 5) * value / most)}")
            last = value
    return "".join(path) + f"H{WIDTH - RIGHT}V{_n(floor)}z"


def _short(name: str) -> str:
    return name if len(name) <= 13 else f"{name[:5]}…{name[-7:]}"


def _n(value: float) -> str:
    """A coordinate to a tenth of a pixel, in as few characters as it takes."""
    return f"{value:.1f}".removesuffix(".0")
