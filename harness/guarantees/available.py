"""Available: calls are answered, and rightly. A wrong answer counts as none."""

from __future__ import annotations

from collections import Counter
from dataclasses import KW_ONLY, dataclass

from faults.base import bounded, check
from harness.guarantees import evidence
from harness.guarantees.base import Finding, Promise, Verdict
from harness.guarantees.statistics import at_most, doubt
from harness.history import History


@dataclass(frozen=True, slots=True)
class Available(Promise):
    """At least the fraction `at_least` (0 to 1) of the calls are ok.

    Calls due in the first `grace` seconds (default 0) of a fault, from when it was seen to act, do not count;
    unknown if that leaves out every call that was due while a fault acted.
    A call that failed, whose end nobody knows or whose answer was wrong is not ok.
    Statistics: `at_most` of 1 - at_least (exact binomial, 1e-6); 20 calls, and 1 / (1 - at_least), are needed
    to hold.
    """

    at_least: float
    _: KW_ONLY
    grace: float = 0.0

    def __post_init__(self) -> None:
        check(self, bounded("at_least", self.at_least, 0, 1, way_out="a fraction")
              + bounded("grace", self.grace, 0, way_out="seconds"))  # fmt: skip

    def check(self, history: History) -> Verdict:
        calls, bad, first = 0, Counter[str](), None
        for call in evidence.counted(history, self.grace):
            calls += 1
            if call.result != "ok":
                bad[call.code] += 1
                first = first or call
        word = at_most(bad.total(), calls, 1 - self.at_least)
        why: list[str] = []
        if word == "broken" and first is not None:
            why = [f"not ok: {evidence.codes(bad)}", *evidence.call_lines("first", history, first)]
        elif word == "unknown":
            promise = f"{self.at_least:g}"
            why = [doubt(bad.total(), calls, 1 - self.at_least, are="were not ok", promise=promise)]
        good = calls - bad.total()
        share = f" ({good / calls:.4f})" if calls else ""
        measured = f"{good} of {calls} calls were ok{share}"
        finding = Finding(word=word, measured=measured, why=tuple(why))
        return self.verdict(f"at least {self.at_least:g}", finding, *evidence.forgiven(history, self.grace))
