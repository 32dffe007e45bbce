"""Recovers: when the bad thing is over so is its effect, and who was healed works."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from faults.base import bounded, check
from harness.guarantees import evidence
from harness.guarantees.base import Finding, Promise, Verdict, Word, overall, unjudged
from harness.guarantees.evidence import Try
from harness.guarantees.statistics import SAME, at_most, doubt, excuse
from harness.history import Acted, History, Operation

#: Fewer calls after a fault do not tell whether things are well again.
CALLS = 50


@dataclass(frozen=True, slots=True)
class _Spell:
    """Faults that are judged together, and the calls that were due after them and before the next fault."""

    faults: tuple[Acted, ...]
    calls: tuple[Operation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovers(Promise):
    """From `within` seconds after a fault was healed, calls are ok again and the healed server is used again.

    At least the fraction `success` (0.99) of the calls due from then until the next fault begins (or the end)
    are ok, and each healed server gets at least `share` (0.5) of its fair share, by weight, of their
    attempts. A fault on the client, and one on a server of a higher priority number, is judged by success
    only. Faults that overlap, or that leave fewer than 50 calls until the next begins, are judged together
    with that one; so one that comes and goes is judged after its last time.
    Statistics: `at_most` for failures and for attempts that went elsewhere (exact binomial, 1e-6 each).
    Unknown: a fault that was never healed, or fewer than 50 calls after the last.
    """

    within: float
    success: float = 0.99
    share: float = 0.5

    def __post_init__(self) -> None:
        check(self, bounded("within", self.within, 0, way_out="seconds")
              + bounded("success", self.success, 0, 1, way_out="a fraction")
              + bounded("share", self.share, 0, 1, way_out="a fraction of the fair share"))  # fmt: skip

    def check(self, history: History) -> Verdict:
        goal = f"{self.success:g} ok, healed servers at {self.share:g} of their fair share"
        bound = f"{self.within:g} s after the healing: {goal}"
        spells = _spells(history, self.within)
        if not spells:
            return self.verdict(bound, unjudged("there was no fault to recover from"))
        tries = list(evidence.tries(history))
        return self.verdict(bound, *(self._judged(history, spell, tries) for spell in spells))

    def _judged(self, history: History, spell: _Spell, tries: Sequence[Try]) -> Finding:
        unhealed = [acted for acted in spell.faults if acted.healed is None]
        if unhealed:
            return unjudged(f"{evidence.fault_line(unhealed[0])} was never healed")
        last = max(spell.faults, key=_healed)
        if len(spell.calls) < CALLS:
            when = f"{self.within:g} s after {evidence.fault_line(last)}"
            return unjudged(f"{len(spell.calls)} calls from {when}, {CALLS} needed to judge")
        findings = [self._success(history, spell), *self._shares(history, spell, tries)]
        word = overall([finding.word for finding in findings])
        why = [line for finding in findings if finding.word == word for line in finding.why]
        # The second is of the server that got the least, or there is none.
        measured = ", ".join(finding.measured for finding in findings[:2])
        return Finding(
            word=word,
            measured=f"{measured}, over {len(spell.calls)} calls from {_healed(last) + self.within:.3f} s",
            why=(*why, f"after {evidence.fault_line(last)}") if word == "broken" else tuple(why),
        )

    def _success(self, history: History, spell: _Spell) -> Finding:
        bad = [call for call in spell.calls if call.result != "ok"]
        n = len(spell.calls)
        word = at_most(len(bad), n, 1 - self.success)
        why: list[str] = []
        if word == "broken":
            why = [
                f"not ok: {evidence.codes(Counter(call.code for call in bad))}",
                evidence.call_line("last", history, bad[-1]),
            ]
        elif word == "unknown":
            why = [doubt(len(bad), n, 1 - self.success, are="were not ok", promise=f"{self.success:g}")]
        return Finding(word=word, measured=f"{1 - len(bad) / n:.4f} were ok", why=tuple(why))

    def _shares(self, history: History, spell: _Spell, tries: Sequence[Try]) -> list[Finding]:
        """One finding for each healed server that is due calls at all, those with the least of them first."""
        calls = {call.id for call in spell.calls}
        got = Counter(t.server for t in tries if t.operation in calls)
        fair = {name: share for name, share in evidence.due_shares(history.servers).items() if share}
        healed = {acted.on for acted in spell.faults if acted.on in fair}
        order = sorted(healed, key=lambda name: (got[name] / fair[name], name))
        return [self._share(name, got[name], got.total(), fair[name]) for name in order]

    def _share(self, name: str, got: int, total: int, fair: float) -> Finding:
        if not total:
            return Finding(
                word="unknown", measured=f"{name} unseen", why=("nobody told of any attempt after the fault",)
            )
        elsewhere, allowed = total - got, 1 - self.share * fair
        word: Word = at_most(elsewhere, total, allowed)
        part = f"{name} got {got / total / fair:.2f} of its fair share"
        why: list[str] = []
        if word == "broken":
            why = [f"{part}: {got} of {total} attempts, {fair * total:.0f} would be fair"]
        elif word == "unknown":
            why = [self._short(name, got, total, fair)]
        return Finding(word=word, measured=part, why=tuple(why))

    def _short(self, name: str, got: int, total: int, fair: float) -> str:
        """Why the attempts on one server do not tell whether it is back."""
        allowed, least = 1 - self.share * fair, self.share * fair * total
        if got >= least - SAME * total:
            return doubt(total - got, total, allowed, of="attempts", promise=f"{name} its share")
        had = f"{name} got {got} of {total} attempts, {least:.6g} needed ({self.share:g} of its fair share)"
        return f"{had}; {excuse(total - got, total, allowed)}"


def _spells(history: History, within: float) -> list[_Spell]:
    """The faults in the order in which they began, joined where too little time to judge lies between two."""
    begun = sorted((f for f in history.faults if f.began is not None), key=_began)
    spells: list[_Spell] = []
    joined: list[Acted] = []
    for place, acted in enumerate(begun):
        joined.append(acted)
        last = place + 1 == len(begun)
        until = math.inf if last else _began(begun[place + 1])
        opens = max(map(_healed, joined)) + within
        calls = evidence.due_between(history, opens, until) if opens < until else ()
        if last or len(calls) >= CALLS:
            spells.append(_Spell(tuple(joined), calls))
            joined = []
    return spells


def _began(acted: Acted) -> float:
    return math.inf if acted.began is None else acted.began


def _healed(acted: Acted) -> float:
    return math.inf if acted.healed is None else acted.healed
