"""AvoidsFaulty: soon after a server turns bad, calls go elsewhere (no black holes)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from faults.base import bounded, check
from harness.guarantees import evidence
from harness.guarantees.base import Finding, Promise, Verdict, unjudged
from harness.guarantees.evidence import Try
from harness.guarantees.statistics import at_most, doubt
from harness.history import Acted, History


@dataclass(frozen=True, slots=True, kw_only=True)
class AvoidsFaulty(Promise):
    """From `within` seconds after a fault began until it is healed, few attempts go to faulty servers.

    At most the fraction `share` (0.05) of all attempts that begin in that time may go to servers on which a
    fault has acted for `within` seconds; other faults that act at the same time count with it. Attempts that
    never left the client count too: who picks a dead server has not avoided it. Times when every server is
    faulty do not count.
    Statistics: `at_most` of `share` for each fault (exact binomial, 1e-6 each); 20 attempts, and 1 / share,
    are needed to hold. Unknown: no fault on a server, or none that lasted longer than `within`, or on all of
    them.
    """

    within: float
    share: float = 0.05

    def __post_init__(self) -> None:
        check(self, bounded("within", self.within, 0, way_out="seconds")
              + bounded("share", self.share, 0, 1, way_out="a fraction of the attempts"))  # fmt: skip

    def check(self, history: History) -> Verdict:
        bound = f"at most {self.share:g} of the attempts from {self.within:g} s on"
        faults_on: dict[str, list[Acted]] = {server.name: [] for server in history.servers}
        spans: dict[tuple[float, float | None], Acted] = {}
        for acted in history.faults:
            if acted.on in faults_on and acted.began is not None:
                faults_on[acted.on].append(acted)
                # One claim for all servers that are hit at once: of a simulated fleet, that may be thousands.
                spans.setdefault((acted.began, acted.healed), acted)
        if not spans:
            return self.verdict(bound, unjudged("no fault acted on a server"))
        attempts = list(evidence.tries(history))
        return self.verdict(bound, *(self._judged(acted, faults_on, attempts) for acted in spans.values()))

    def _judged(self, acted: Acted, faults_on: Mapping[str, Sequence[Acted]], attempts: Sequence[Try]) -> Finding:
        begun = [t for t in attempts if self._settled(acted, t.at)]
        free = begun
        if all(faults_on.values()):
            free = [t for t in begun if not all(_faulty(faults, t.at) for faults in faults_on.values())]
        if not free:
            return unjudged(self._reason(acted, every=bool(begun)))
        to = Counter(t.server for t in free if any(self._settled(f, t.at) for f in faults_on.get(t.server, ())))
        n, bad = len(free), to.total()
        word = at_most(bad, n, self.share)
        parts = [f"{name} got {count / n:.3f}" for name, count in to.most_common(3)]
        together = f" ({bad / n:.3f} together)" if len(to) > 1 else ""
        measured = f"{', '.join(parts) or 'faulty servers got none'} of {n} attempts{together}"
        why: list[str] = []
        if word == "broken":
            first, last = min(t.at for t in free), max(t.at for t in free)
            why = [f"{measured} from {first:.3f} to {last:.3f} s", f"active: {evidence.fault_line(acted)}"]
        elif word == "unknown":
            promise = f"at most {self.share:g}"
            why = [doubt(bad, n, self.share, of="attempts", are="went to faulty servers", promise=promise)]
        return Finding(word=word, measured=measured, why=tuple(why))

    def _settled(self, acted: Acted, time: float) -> bool:
        """Whether a fault has acted for so long at `time` that the client should know."""
        return acted.active(time) and time >= (math.inf if acted.began is None else acted.began) + self.within

    def _reason(self, acted: Acted, *, every: bool) -> str:
        line = evidence.fault_line(acted)
        if every:
            return f"every server was faulty whenever an attempt began under {line}"
        return f"no attempt began later than {self.within:g} s into {line}"


def _faulty(faults: Sequence[Acted], time: float) -> bool:
    return any(acted.active(time) for acted in faults)
