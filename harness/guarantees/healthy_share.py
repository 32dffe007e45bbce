"""HealthyShare: whatever happens elsewhere, servers without a fault share the calls, and none is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from faults.base import bounded, check
from harness.guarantees import evidence, shares
from harness.guarantees.base import ALPHA, Finding, Promise, Verdict, unjudged
from harness.guarantees.statistics import EXPECTED
from harness.history import History

#: The servers without a fault, and how many attempts each of them got.
_Slice = tuple[tuple[str, ...], Counter[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthyShare(Promise):
    """Servers without a fault share the attempts that they get by their weights, at all times.

    Only servers of the lowest priority number count, and at any time only those on which no fault acts nor has been
    healed for less than `grace` seconds (2.0). `within` (0.5) is the fraction of its due by which a share may differ. It is
    judged over all the time in which the same servers were well, and in each slice of `every` seconds (0.5): so it finds
    both who takes the calls of a dead neighbour alone, and who is well and left out for a moment.
    Statistics: Clopper-Pearson for each server, 1e-6 split over them and the slices. A slice can only break it; to hold,
    50 attempts must be due to each server over all.
    """

    within: float = 0.5
    every: float = 0.5
    grace: float = 2.0

    def __post_init__(self) -> None:
        check(self, bounded("within", self.within, 0.01, 1, way_out="a fraction of the due share")
              + bounded("every", self.every, 0.01, way_out="seconds")
              + bounded("grace", self.grace, 0, way_out="seconds"))  # fmt: skip

    def check(self, history: History) -> Verdict:
        bound = f"a share by weight for each without a fault, within {self.within:g} of it"
        due = {name: share for name, share in evidence.due_shares(history.servers).items() if share}
        slices = dict(self._slices(history, tuple(due)))
        spells: dict[tuple[str, ...], Counter[str]] = {}
        for well, counts in slices.values():
            spells.setdefault(well, Counter()).update(counts)
        findings = [self._spell(_among(due, well), counts) for well, counts in spells.items()]
        alpha = ALPHA / max(1, len(slices))
        for start, (well, counts) in slices.items():
            findings.extend(self._slice(start, _among(due, well), counts, alpha))
        judged = [finding for finding in findings if finding is not None]
        if not judged:
            return self.verdict(bound, unjudged(f"at no time were {EXPECTED:.0f} attempts due to each of two servers"))
        return self.verdict(bound, *judged)

    def _slices(self, history: History, names: tuple[str, ...]) -> Iterator[tuple[float, _Slice]]:
        """The slices of the run with two well servers at least, by their beginnings."""
        counts: dict[int, Counter[str]] = {}
        for each in evidence.tries(history):
            counts.setdefault(int(each.at // self.every), Counter())[each.server] += 1
        for place, count in sorted(counts.items()):
            start, end = place * self.every, (place + 1) * self.every
            bad = {f.on for f in history.faults if evidence.overlaps(f, start - self.grace, end)}
            well = tuple(name for name in names if name not in bad)
            if len(well) > 1:
                yield start, (well, Counter({name: count[name] for name in well}))

    def _spell(self, due: Mapping[str, float], counts: Mapping[str, int]) -> Finding | None:
        """What all the time tells in which the same servers were well; nothing, if that is too little."""
        total = sum(counts.values())
        if total * min(due.values()) < EXPECTED:
            return None
        return shares.found(counts, due, self.within, "while no fault acted on them")

    def _slice(self, start: float, due: Mapping[str, float], counts: Mapping[str, int], alpha: float) -> list[Finding]:
        """What breaks it in one slice."""
        if not sum(counts.values()):
            return []
        finding = shares.found(counts, due, self.within, f"from {start:.3f} to {start + self.every:.3f} s", alpha)
        return [finding] if finding.word == "broken" else []


def _among(due: Mapping[str, float], well: tuple[str, ...]) -> dict[str, float]:
    """The shares of those that are well, of what all of them get."""
    total = sum(due[name] for name in well)
    return {name: due[name] / total for name in well}
