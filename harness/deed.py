"""One planned fault on one target, and what a nemesis saw of it: what both nemeses keep, with threads and in virtual time."""

from __future__ import annotations

from collections.abc import Sequence

from harness.history import Acted
from harness.scenario import Planned


class Deed:
    """Times are seconds since the start of the workload; None for what has not been seen."""

    def __init__(self, plan: Planned) -> None:
        self.plan = plan
        self.began: float | None = None
        self.healed: float | None = None
        self.touched: int | None = None
        self.problem = ""
        self.over = False

    def never_came(self) -> None:
        """The run was over before its time."""
        self.problem = f"the run was over before {self.plan.start:g} s, when it should have begun"

    def acted(self) -> Acted:
        """What the history tells of it."""
        return Acted(
            fault=str(self.plan.fault),
            on=self.plan.on,
            start=self.plan.start,
            end=self.plan.end,
            began=self.began,
            healed=self.healed,
            touched=self.touched,
            problem=self.problem,
        )

    def __str__(self) -> str:
        return f"{self.plan.fault} on {self.plan.on}"


def acting(deeds: Sequence[Deed]) -> tuple[str, ...]:
    """Those that act now, for people to read."""
    return tuple(str(deed) for deed in deeds if deed.began is not None and not deed.over)
