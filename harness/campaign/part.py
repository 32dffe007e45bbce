"""What travels between a campaign and whoever does its work, as JSON: a part of the seeds, and what was found in them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from harness.guarantees.base import Word

#: The row of what a test asserts by hand, beside the guarantees of its scenarios.
ITSELF = "the test itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Run the tests of `suites` on `count` seeds from `first` on.

    campaign   whose part it is; a campaign that is stopped begins no part any more.
    identity   of the stormproof that it is meant for (see process.identity).
    only       pytest's -k; empty for all tests.
    folder     where to start pytest: absolute, or below the root of the `files`.
    files      text by path, to be put into a folder of its own first; None: the suites are there already.
    tries      how often it, and nothing else, has been begun before.
    """

    campaign: str
    identity: str
    suites: tuple[str, ...]
    first: int
    count: int
    folder: str
    only: str = ""
    files: dict[str, str] | None = None
    tries: int = 0

    @property
    def seeds(self) -> str:
        """For people: "seed 7", or "seeds 7 to 12"."""
        return f"seed {self.first}" if self.count == 1 else f"seeds {self.first} to {self.first + self.count - 1}"

    def again(self) -> list[Part]:
        """The same work for another try, seed by seed, so that one that is deadly takes no others with it."""
        tries = self.tries + (self.count == 1)
        return [replace(self, first=seed, count=1, tries=tries) for seed in range(self.first, self.first + self.count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """One run in which a guarantee did not hold: what was found, and how to see it again."""

    seed: int
    verdict: Word
    measured: str
    why: tuple[str, ...]
    again: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One guarantee in all runs of one test's scenario: how often each verdict, and each run that was not held."""

    test: str
    guarantee: str
    held: int
    broken: int
    unknown: int
    bad: tuple[Bad, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of a part. One that has a `refused` or a `died` found nothing.

    where     who did it, for people.
    seconds   that its tests took.
    runs      scenarios that were run.
    left_out  why tests were skipped, by their names.
    errors    why tests could not be collected.
    refused   why it was not begun, and would not be anywhere like here.
    died      how the process ended that should have done it.
    """

    where: str
    seconds: float = 0.0
    runs: int = 0
    rows: tuple[Row, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    refused: str = ""
    died: str = ""
