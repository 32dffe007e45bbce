"""All guarantees of a scenario on one history, and when none of them may say anything.

A run that lost its history, could not inject a fault, whose fault touched no traffic, or whose harness could not
keep the workload's rate proves nothing: every verdict is unknown, with the reason. So is the verdict of a check
that raises.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.guarantees.base import LINES, Guarantee, Verdict
from harness.guarantees.punctual import late_starts
from harness.history import Acted, History, reconcile


def check_all(history: History, guarantees: Iterable[Guarantee]) -> tuple[Verdict, ...]:
    """One verdict for each guarantee, in their order. Nothing is raised for what a check does.

    `touched` of the faults must have been set (`history.touching`).
    """
    doubts = distrust(history)
    return tuple(_unknown(g, doubts) if doubts else _checked(g, history) for g in guarantees)


def distrust(history: History) -> tuple[str, ...]:
    """Why nothing may be claimed from this history; empty when something may."""
    return (*_mistakes(history), *late_starts(history.operations))


def spoiled(history: History) -> str:
    """Why the harness alone spoiled this run, so that another one may say more; empty if it did not."""
    late = late_starts(history.operations)
    return late[0] if late and not _mistakes(history) else ""


def _mistakes(history: History) -> list[str]:
    doubts = [*history.problems, *reconcile(history)]
    for acted in history.faults:
        if acted.problem or acted.began is None:
            doubts.append(f"{_named(acted)} could not be applied: {acted.problem or 'it was never seen to act'}")
        # One that comes back (a flapping server) need not meet traffic every time, but it must once.
        elif not any(other.touched for other in history.faults if (other.fault, other.on) == (acted.fault, acted.on)):
            doubts.append(f"{_named(acted)} touched no traffic")
    return doubts


def _named(acted: Acted) -> str:
    return f"{acted.fault} on {acted.on} at {acted.start:.1f} s"


def _checked(guarantee: Guarantee, history: History) -> Verdict:
    try:
        return guarantee.check(history)
    except Exception as error:
        return _unknown(guarantee, (f"the check itself failed: {type(error).__name__}: {error}",))


def _unknown(guarantee: Guarantee, why: tuple[str, ...]) -> Verdict:
    return Verdict(guarantee=str(guarantee), verdict="unknown", measured="not judged", bound="", why=why[:LINES])
