"""The member expected to answer soonest, of two drawn and one remembered; what is noise and what is news is learned.

Nobody says how fast an old latency fades or what difference counts. Every member has three averages of the logarithm of
its latency, with memories of 2, 8 and 64 answers, and the channel believes those that have lately foretold its answers
best (prediction with expert advice; Cesa-Bianchi and Lugosi 2006). What they missed by is the noise, which says

- which members are alike: those within two standard errors; of them the one with fewer calls in flight is picked,
- when a call in flight is late: after three standard deviations; then its age counts, so silence is noticed at once,
- what is odd: an answer three standard deviations off. One is noise and is cut to that; two running are a change, and
  believed at once, whether for better or worse. Hence a healed server has its share back in a moment, also under load.
  An idle one is asked again at once where its answer was odd, or quicker than chance explains well.

One that takes four times as long as another is asked single calls only, each after a rest, however busy the other is.

The one that would be next is remembered, and competes in the next pick (Mitzenmacher, Prabhakar and Shah, "Load
balancing with memory", 2002). That is much of the gain: of ten servers of which five are slow, two draws are both slow
ones in two of nine picks, however well the balancer knows them.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stormproof.core.balancers.base import Picker
from stormproof.core.breaker import FAILURES
from stormproof.core.check import complain, seconds
from stormproof.core.load import CHANGE, Load
from stormproof.core.outcome import Code, Outcome

if TYPE_CHECKING:
    from stormproof.core.eligible import Eligible
    from stormproof.core.pool import Flight, Member

#: How many answers each of the averages remembers.
DEPTHS = (2, 8, 64)
#: A failed attempt counts as an answer that took this many times the usual, so that to fail fast is not to be fast.
FAILURE = 8.0
#: What is learned of the channel as a whole is that of so many answers; it is looked at anew every so often.
LATELY, ROUND = 1000, 16
#: Seconds; the least that an answer takes, whatever the clock says.
_LEAST = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive:
    """Least expected latency, by averages whose memory is learned, times the calls in flight.

    Against PeakEwma, over 20 seeds each (benchmarks/balancers_sim.py), p99 unless said otherwise: half the servers three
    times slower, 214 ms against 247 (85 % load: 234, 263; with 20 clients: 313, 507); servers that turn slow and well
    again all the time, 204 against 232 (with 20 clients: 396, 418); all alike at 90 % load, 111 against 117; where an
    endpoint gets a call a second, 654 against 680. No better: one that turns slow or fails; heavy-tailed latencies and
    nobody bad. Worse: medians by up to 7 % at 85 % load with many clients, for the better tail.

    probe   seconds of idleness after which an endpoint is asked again, however slow it was (0.001 or more; default 1).
    """

    probe: float = 1.0

    def __post_init__(self) -> None:
        complain(self, seconds("probe", self.probe, low=0.001))

    def picker(self, rng: random.Random) -> Picker:
        return _AdaptivePicker(self.probe, rng)


class _Learned:
    """What the channel's answers say together: how large the noise is, and which memory foretells best."""

    __slots__ = ("alike", "close", "depth", "errors", "late", "noise", "seen", "usual")

    def __init__(self) -> None:
        self.seen = 0
        self.usual = 0.0  # mean logarithm of a good answer's seconds
        self.errors = [1.0] * len(DEPTHS)  # mean squares of what each memory missed by
        self.settle()

    def settle(self) -> None:
        """Draws the conclusions."""
        self.depth = min(range(len(DEPTHS)), key=self.errors.__getitem__)
        self.noise = math.sqrt(max(self.errors[self.depth], 1e-8))
        self.late = math.exp(-3.0 * self.noise)
        self.close = 2.0 * self.noise * math.sqrt(2.0 / DEPTHS[self.depth])
        self.alike = math.exp(self.close)


class AdaptiveLoad:
    """What one member's answers say, in the form that a pick wants it.

    speed   the believed seconds of an answer; 0 for an idle one never heard from, infinite for a busy one.
    oldest  when the oldest of its calls in flight began; infinite if there is none.
    due     when it is to be asked again; infinite while it is busy or was never heard from.
    """

    __slots__ = ("_answers", "_better", "_flights", "_learned", "_means", "_odd", "_probe", "due", "oldest", "speed")

    def __init__(self, learned: _Learned, probe: float) -> None:
        self._learned = learned
        self._probe = probe
        self._flights: dict[Flight, float] = {}  # in order of their start, so the first is the oldest
        self._means: list[float] = []  # none: never heard from
        self._answers = 0
        self._odd: float | None = None  # the last answer's logarithm, if it was odd
        self._better = False  # whether the last answer was quicker than chance explains well
        self.speed = 0.0
        self.oldest = math.inf
        self.due = math.inf

    def started(self, flight: Flight, now: float) -> None:
        if not self._flights:
            self.oldest = now
            if not self._means:
                self.speed = math.inf
        self._flights[flight] = now
        self.due = math.inf

    def finished(self, flight: Flight, outcome: Outcome, now: float) -> None:
        flights = self._flights
        del flights[flight]
        took = now - flight.started
        if outcome.code is not Code.CANCELLED:
            self._heard(took, outcome.code in FAILURES)
        elif self._means and took > self.speed:  # it would have taken even longer: so much is certain
            self._heard(took, False)
        if flights:
            self.oldest = next(iter(flights.values()))
        else:
            self.oldest = math.inf
            if not self._means:
                self.speed = 0.0
            else:  # what is odd wants a second opinion at once, and so does what may be the beginning of health
                self.due = now if self._better or self._odd is not None else now + self._probe

    def _heard(self, seconds: float, failed: bool) -> None:
        learned = self._learned
        took = math.log(seconds) if seconds > _LEAST else math.log(_LEAST)
        learned.seen += 1
        part = 1.0 / min(learned.seen, LATELY)
        if failed:
            took = max(took, learned.usual + math.log(FAILURE))
        else:
            learned.usual += (took - learned.usual) * part
        if self._means:
            self._compare(took, part)
        else:
            self._believe(took, 1)
        if learned.seen % ROUND == 0:
            learned.settle()

    def _compare(self, took: float, part: float) -> None:
        learned, means, answers = self._learned, self._means, self._answers
        expected, depth = means[learned.depth], DEPTHS[learned.depth]
        bound = 3.0 * learned.noise * math.sqrt(1.0 + 1.0 / (answers if answers < depth else depth))
        miss = took - expected
        self._better = miss < -learned.close
        if -bound <= miss <= bound:
            self._odd = None
        else:
            odd, self._odd = self._odd, took
            if odd is not None and (odd > expected) == (miss > 0):
                self._believe((odd + took) / 2.0, 2)
                return
            took = expected + math.copysign(bound, miss)
        self._answers = answers = answers + 1
        errors = learned.errors
        for place, depth in enumerate(DEPTHS):
            miss = took - means[place]
            errors[place] += (miss * miss - errors[place]) * part
            means[place] += miss / (answers if answers < depth else depth)
        self.speed = math.exp(means[learned.depth])

    def _believe(self, took: float, answers: int) -> None:
        """The past is forgotten."""
        self._means = [took] * len(DEPTHS)
        self._answers = answers
        self._odd = None
        self.speed = math.exp(took)


class _AdaptivePicker:
    __slots__ = ("_eligible", "_learned", "_probe", "_remembered", "_rng")

    def __init__(self, probe: float, rng: random.Random) -> None:
        self._probe = probe
        self._rng = rng
        self._learned = _Learned()
        self._eligible: Eligible | None = None  # whose member the following is
        self._remembered: Member | None = None

    def load(self) -> Load | None:
        return AdaptiveLoad(self._learned, self._probe)

    def pick(self, eligible: Eligible, now: float) -> Member:
        members = eligible.members
        if len(members) == 1:
            return members[0]
        best, other = eligible.draw_two(self._rng)
        one: Any = best.load
        two: Any = other.load
        if one.due <= now:
            return best
        if two.due <= now:
            return other
        third = self._remembered if self._eligible is eligible else None
        if self._sooner(other, two, best, one, now):
            best, other, one, two = other, best, two, one
        if third is not None and third is not best and third is not other:
            load: Any = third.load
            if self._sooner(third, load, best, one, now):
                best, other, one, two = third, best, load, one
            elif self._sooner(third, load, other, two, now):
                other, two = third, load
        self._eligible = eligible
        self._remembered = best if self._sooner(best, one, other, two, now, 1) else other
        return best

    def _sooner(
        self, one: Member, mine: AdaptiveLoad, other: Member, theirs: AdaptiveLoad, now: float, more: int = 0
    ) -> bool:
        """Whether `one`, with so many `more` calls, answers sooner than `other`.

        Of two that are alike: whether it has fewer calls in flight for its weight.
        """
        learned = self._learned
        calls = one.in_flight + more
        age, others_age = (now - mine.oldest) * learned.late, (now - theirs.oldest) * learned.late
        expected = age if age > mine.speed else mine.speed
        others = others_age if others_age > theirs.speed else theirs.speed
        weight, other_weight = one.endpoint.weight or 1.0, other.endpoint.weight or 1.0
        if expected <= others * learned.alike and others <= expected * learned.alike:
            return calls * other_weight < other.in_flight * weight
        if expected > others * CHANGE:
            return False
        if others > expected * CHANGE:
            return True
        return expected * (calls + 1) * other_weight < others * (other.in_flight + 1) * weight
