"""What a saboteur is: a client with one planted defect, a bad day on which it shows, and the guarantee that must find it.

On the same day the same client without the defect, its clean twin, keeps every guarantee of the day. A guarantee that
finds the one and passes the other says something; one that finds nothing, or blames everybody, does not.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeVar

from faults.base import check
from harness.client import AnyClient, Client
from harness.guarantees.base import Promise
from harness.saboteurs.published import PUBLISHED
from harness.scenario import Scenario

Kind = TypeVar("Kind", bound=Client)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saboteur:
    """One planted defect.

    name      as `stormproof selftest --only=` has it: words with hyphens.
    defect    what is wrong with the client, in one sentence.
    day       the scenario, with the clean twin; it holds every guarantee of it.
    client    the clean twin's client with the defect.
    found_by  the guarantee of the day that must be broken.
    published numbers in published.py for which it stands: what others did wrong, and published.
    """

    name: str
    defect: str
    day: Scenario
    client: AnyClient
    found_by: type[Promise]
    published: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        problems = []
        if not any(isinstance(guarantee, self.found_by) for guarantee in self.day.guarantees):
            problems.append(f"found_by must be a guarantee of its day; got {self.found_by.__name__}")
        if self.client == self.day.client:
            problems.append(f"client must differ from the clean twin; got {self.client!r}")
        unknown = [number for number in self.published if number not in PUBLISHED]
        if unknown:
            problems.append(f"published must be numbers of PUBLISHED; got {unknown}")
        check(self, problems)

    @property
    def sabotaged(self) -> Scenario:
        """The day with the defect."""
        return replace(self.day, client=self.client)


def planted(kind: type[Kind], client: AnyClient) -> Kind:
    """`client` as a `kind`, a `Client` that decides with a part that has a defect."""
    assert isinstance(client, Client)
    return kind(**{part.name: getattr(client, part.name) for part in fields(Client)})


def lacking(client: AnyClient, **changes: object) -> Client:
    """`client` with another configuration: many a published mistake is no more than that."""
    assert isinstance(client, Client)
    return replace(client, **changes)  # type: ignore[arg-type] # Client checks them itself
