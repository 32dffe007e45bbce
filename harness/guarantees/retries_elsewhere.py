"""RetriesElsewhere: a further attempt goes to a server on which the call has not failed yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from faults.base import bounded, check
from harness.guarantees import evidence
from harness.guarantees.base import Finding, Promise, Verdict, unjudged
from harness.guarantees.evidence import Try
from harness.guarantees.statistics import at_most, doubt
from harness.history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class RetriesElsewhere(Promise):
    """Of the further attempts of all calls, hardly any goes where the same call has been tried before.

    At most the fraction `share` (0.01) may, of those that had a choice: some server of the lowest priority number was
    untried by the call, and no fault had acted on it for `grace` seconds (2.0, the time that a healed server may take to
    be used again). Retries and the copies of a hedge count alike.
    Statistics: `at_most` of `share` (exact binomial, 1e-6); 20 further attempts, and 1 / share, are needed to hold.
    Where the client told of no attempts, the journals count, which know only of those that arrived.
    """

    share: float = 0.01
    grace: float = 2.0

    def __post_init__(self) -> None:
        check(self, bounded("share", self.share, 0, 1, way_out="a fraction of the further attempts")
              + bounded("grace", self.grace, 0, way_out="seconds"))  # fmt: skip

    def check(self, history: History) -> Verdict:
        bound = f"at most {self.share:g} of the further attempts where the call was tried before"
        judged = list(self._judged(history))
        if not judged:
            return self.verdict(bound, unjudged("no call was tried again while an untried server was well"))
        back = [again for again, returned in judged if returned]
        word = at_most(len(back), len(judged), self.share)
        why: list[str] = []
        if word == "broken":
            call = next(o for o in history.operations if o.id == back[0].operation)
            why = [
                f"first: call {call.id} went to {back[0].server} again at {back[0].at:.3f} s",
                *evidence.call_lines("its call", history, call),
            ]
        elif word == "unknown":
            promise = f"at most {self.share:g}"
            why = [doubt(len(back), len(judged), self.share, of="further attempts", are="went back", promise=promise)]
        measured = f"{len(back)} of {len(judged)} further attempts went where their call was tried before"
        return self.verdict(bound, Finding(word=word, measured=measured, why=tuple(why)))

    def _judged(self, history: History) -> Iterator[tuple[Try, bool]]:
        """Each further attempt that had a choice, and whether it went back."""
        choices = [name for name, share in evidence.due_shares(history.servers).items() if share]
        by_call: dict[int, list[Try]] = {}
        for each in evidence.tries(history):
            by_call.setdefault(each.operation, []).append(each)
        for made in by_call.values():
            for place, each in enumerate(made[1:], start=1):
                tried = {before.server for before in made[:place]}
                if any(name not in tried and self._well(history, name, each.at) for name in choices):
                    yield each, each.server in tried

    def _well(self, history: History, name: str, at: float) -> bool:
        return not any(f.on == name and evidence.overlaps(f, at - self.grace, at) for f in history.faults)
