"""No budget: each failed attempt is retried while the policy allows it. It is how retry storms are made."""

from __future__ import annotations


class NoBudget:
    """Says yes."""

    def begun(self, now: float) -> None: ...
    def failed(self, now: float) -> None: ...
    def succeeded(self, now: float) -> None: ...

    def withdraw(self, now: float) -> bool:  # noqa: ARG002
        return True
