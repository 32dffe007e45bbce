"""WeightedShare: every server gets calls in proportion to its weight."""

from __future__ import annotations

from dataclasses import dataclass

from faults.base import bounded, check
from harness.guarantees import evidence, shares
from harness.guarantees.base import Promise, Verdict
from harness.history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedShare(Promise):
    """Every server gets the share of the first attempts that its weight is of all weights; none, if it is 0.

    Only servers of the lowest priority number count, and calls due while no fault acted nor had been healed
    for less than `grace` seconds (2.0, the time that a healed server may take to have its share back).
    `within` is the fraction (0 to 1) of its due by which a share may differ; with 0 (the default) by no more
    than chance explains.
    Statistics: with 0 chi-square, 50 calls expected on each server (else unknown); otherwise Clopper-Pearson
    for each server, 1e-6 split over them. Either errs at 1e-6. A server without any call is found as soon as
    chance (1e-6) does not explain it: of five servers, after 69 calls. Where the client told of no attempts,
    the journals count.
    """

    within: float = 0.0
    grace: float = 2.0

    def __post_init__(self) -> None:
        check(self, bounded("within", self.within, 0, 1, way_out="a fraction of the due share")
              + bounded("grace", self.grace, 0, way_out="seconds"))  # fmt: skip

    def check(self, history: History) -> Verdict:
        bound = "a share by weight for each" + (f", within {self.within:g} of it" if self.within else "")
        due = evidence.due_shares(history.servers)
        return self.verdict(bound, shares.judged(history, due, self.within, self.grace))
