"""Hands out the seeds of a campaign in parts, and takes care of those that do not come back.

The first seed goes ahead alone: a mistake in the suites is told at once, and how long a seed takes says how many make a
part. A part that dies is done again seed by seed; a seed that dies twice by itself is lost, which the result says.
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.campaign.part import Found, Part
from harness.campaign.process import identity, perform
from harness.campaign.tally import Tally
from harness.campaign.workers import NoWorkersError, Workers

#: Seconds of work that a part should be: long against the start of a process (1 s), short enough to see it go on.
LONG = 10.0
#: How often a seed is tried by itself.
TRIES = 2
#: Seconds between two looks at the workers.
LOOK = 0.5
#: What may change how pytest runs a suite, in its folder or above.
SETTINGS = ("conftest.py", "pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """The tests of `suites` (paths, from the current folder) whose names match `only`, on `seeds` seeds from `first` on."""

    suites: tuple[str, ...]
    seeds: int
    first: int = 1
    only: str = ""


class SuitesError(Exception):
    """The suites cannot be run at all, on any seed. The message says why."""


#: Is told of everything that is new: what is found so far, and a line for people if there is one.
Watch = Callable[[Tally, str], None]


class Run:
    """One campaign under way. `tally` is what was found so far, `stopped` why not all seeds were run (or empty)."""

    def __init__(self, campaign: Campaign, workers: Workers, watch: Watch) -> None:
        self.campaign = campaign
        self.tally = Tally()
        self.stopped = ""
        self._workers = workers
        self._watch = watch
        self._under_way: dict[Future[Found], Part] = {}
        here = Path.cwd()
        files, folder = bundle(campaign.suites, here) if workers.travels else (None, str(here))
        self._part = Part(
            campaign=secrets.token_hex(6), identity=identity(), suites=campaign.suites, first=campaign.first, count=1,
            folder=folder, only=campaign.only, files=files,
        )  # fmt: skip

    def carry_out(self) -> None:
        """Runs all seeds. SuitesError if the first one shows that there is nothing to run. Ctrl-C ends it early."""
        try:
            self._hand_out([self._part])
            seconds = self._go_on(first=True)
            self._hand_out(self._rest(seconds))
            self._go_on()
        except KeyboardInterrupt:
            self.stopped = "stopped by a signal; what was found so far is kept"
        except NoWorkersError as error:
            self.stopped = str(error)
        finally:
            self._end()

    def _rest(self, seconds: float) -> list[Part]:
        """All seeds but the first, in parts."""
        first, rest = self.campaign.first + 1, self.campaign.seeds - 1
        share = -(-rest // self._workers.slots)
        size = max(1, min(share, round(LONG / max(seconds, 0.001))))
        last = first + rest
        return [replace(self._part, first=seed, count=min(size, last - seed)) for seed in range(first, last, size)]

    def _hand_out(self, parts: Iterable[Part]) -> None:
        for part in parts:
            self._under_way[self._workers.executor.submit(perform, part)] = part

    def _go_on(self, *, first: bool = False) -> float:
        """Until nothing is under way. The seconds that the last part took."""
        seconds = 0.0
        while self._under_way:
            done, _ = wait(self._under_way, timeout=LOOK, return_when=FIRST_COMPLETED)
            for line in self._workers.look():
                self._watch(self.tally, line)
            for future in done:
                part, found = self._under_way.pop(future), _result(future)
                seconds = found.seconds
                self._take(part, found, first)
            self._watch(self.tally, "")
        return seconds

    def _take(self, part: Part, found: Found, first: bool) -> None:
        if first and (found.refused or found.errors):
            raise SuitesError("\n".join((found.refused, *found.errors)).strip())
        why = found.refused or found.died or "; ".join(found.errors)
        if not why:
            self.tally.add(part, found)
        elif part.count > 1 or part.tries + 1 < TRIES:
            self._watch(self.tally, f"{part.seeds}, {found.where}: {why}; done again")
            self._hand_out(part.again())
        elif first:
            raise SuitesError(f"{part.seeds}, {found.where}: {why}")
        else:
            self._watch(self.tally, f"{part.seeds}, {found.where}: {why}; given up")
            self.tally.lose(part, why.splitlines()[0])

    def _end(self) -> None:
        if not self._under_way:
            return
        with _undisturbed():
            for future in self._under_way:
                future.cancel()
            self._workers.stop(self._part.campaign)
        self._under_way.clear()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not keep the first one from ending what runs."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _result(future: Future[Found]) -> Found:
    """What a part came to; that nobody brought it back is a death, too."""
    try:
        return future.result()
    except CancelledError:
        return Found(where="the cluster", died="the scheduler lost it")
    except Exception as error:  # of the cluster: its workers died under it, or cannot read what they were sent
        return Found(where="the cluster", died=f"{type(error).__name__}: {error}")


def bundle(suites: Sequence[str], here: Path) -> tuple[dict[str, str], str]:
    """The files of `suites` by their path below a common root, and where `here` is below it.

    These are the Python files in `suites` (of a file, those beside it), and pytest's settings in their folders and above,
    up to the root.
    """
    paths = [(here / suite).resolve() for suite in suites]
    folders = [path if path.is_dir() else path.parent for path in paths]
    root = Path(os.path.commonpath([here.resolve(), *folders]))
    found = {file for folder in folders for file in folder.rglob("*.py") if ".venv" not in file.parts}
    above = {folder for start in folders for folder in (start, *start.parents) if folder.is_relative_to(root)}
    found |= {folder / name for folder in above for name in SETTINGS if (folder / name).is_file()}
    files = {str(file.relative_to(root)): file.read_text(encoding="utf-8") for file in sorted(found)}
    return files, str(here.resolve().relative_to(root))
