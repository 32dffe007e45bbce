"""Is a defect found that somebody plants into the library's own code? `python benchmarks/planted_defects.py [NAME ...]`

Each of ten defects that a developer could slip in is planted into a copy of stormproof/, which the real command
`stormproof explore --minutes=1 --no-local` then imports. The table says which promise it was found by, after how many
seconds and on which day, how long it took to make the day small, and how many servers and faults are left of it.
Exit status: 0 if each was found within its minute on at most 3 servers with 2 faults, and nothing was found in the
library as it is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COMMAND = Path(sys.executable).parent / "stormproof"


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """In `file` of stormproof/, the text `right`, which stands there once, becomes `wrong`."""

    name: str
    what: str
    file: str
    right: str
    wrong: str

    def plant(self, folder: Path) -> None:
        """Puts the package stormproof with this defect into `folder`."""
        shutil.copytree(ROOT / "stormproof", folder / "stormproof", ignore=shutil.ignore_patterns("__pycache__"))
        path = folder / "stormproof" / self.file
        text = path.read_text(encoding="utf-8")
        assert text.count(self.right) == 1, f"{self.name}: {text.count(self.right)} places in {self.file} look like it"
        path.write_text(text.replace(self.right, self.wrong), encoding="utf-8")


DEFECTS = (
    Defect(
        name="deadline",
        what="each attempt has the time of the whole call",
        file="core/call.py",
        right="            left = self.deadline - now\n",
        wrong="            left = self.timeout or 0.0\n",
    ),
    Defect(
        name="budget",
        what="a retry does not spend what was earned",
        file="core/budget.py",
        right="            self._earned -= 1.0\n",
        wrong="",
    ),
    Defect(
        name="lost",
        what="lost work is repeated, idempotent or not",
        file="core/policy.py",
        right="return self.repeatable and (outcome.code in self.retry.on or outcome.code in _NO_ANSWER)",
        wrong="return outcome.code in self.retry.on or outcome.code in _NO_ANSWER",
    ),
    Defect(
        name="in flight",
        what="a failed attempt stays in flight for ever",
        file="core/pool.py",
        right="        member = flight.member\n        member.in_flight -= 1\n",
        wrong="        member = flight.member\n        member.in_flight -= outcome.code is _OK\n",
    ),
    Defect(
        name="readmission",
        what="no second trial after one that failed",
        file="core/pool.py",
        right="        elif state is State.OPEN:\n",
        wrong="        elif state is State.OPEN and member.breaker.times == 1:\n",
    ),
    Defect(
        name="round robin",
        what="every other turn is left out",
        file="core/balancers/round_robin.py",
        right="        turns.places[weight] = place + 1\n",
        wrong="        turns.places[weight] = place + 2\n",
    ),
    Defect(
        name="elsewhere",
        what="servers already tried are not avoided",
        file="core/pool.py",
        right="self._choices(eligible, tried) if tried else eligible",
        wrong="eligible",
    ),
    Defect(
        name="trials",
        what="until a trial has failed, every call is one",
        file="core/pool.py",
        right="                heapq.heappop(due)\n                member.breaker.trial()\n                return member\n",
        wrong="                return member\n",
    ),
    Defect(
        name="attempts",
        what="one attempt more than the policy allows",
        file="core/call.py",
        right="        if self._rounds >= policy.attempts or",
        wrong="        if self._rounds > policy.attempts or",
    ),
    Defect(
        name="hedge",
        what="copies that lost the race are not cancelled",
        file="core/call.py",
        right="        return [*(Cancel(attempt) for attempt in self._flights), finish]\n",
        wrong="        return [finish]\n",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunt:
    """What one run of the command came to: its exit status, all that it printed, and the day that it kept."""

    status: int
    output: str
    kept: dict[str, Any] | None

    @property
    def servers(self) -> int:
        return self.kept["scenario"]["servers"]["count"] if self.kept else 0

    @property
    def faults(self) -> int:
        return len(self.kept["scenario"]["faults"]) if self.kept else 0

    @property
    def guarantee(self) -> str:
        return self.kept["guarantee"] if self.kept else "none"

    @property
    def small(self) -> bool:
        """Whether a bad day was found, and it is as small as it should be."""
        return self.status == 1 and self.kept is not None and self.servers <= 3 and self.faults <= 2

    def said(self, words: str) -> str:
        """The number that its output has in this place."""
        found = re.search(words, self.output)
        return found[1].replace(",", "") if found else "-"


def hunt(defect: Defect | None, *options: str) -> Hunt:
    """Runs `stormproof explore` on the library with this defect, or on the library as it is."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = dict(os.environ)
        if defect is not None:
            defect.plant(folder)
            environment["PYTHONPATH"] = os.pathsep.join([name, *filter(None, [os.environ.get("PYTHONPATH")])])
        corpus = folder / "corpus"
        command = [str(COMMAND), "explore", "--minutes=1", "--no-local", f"--corpus={corpus}", *options]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        kept = [json.loads(file.read_text(encoding="utf-8")) for file in corpus.glob("*.json")]
        return Hunt(status=done.returncode, output=done.stdout + done.stderr, kept=kept[0] if kept else None)


def main(arguments: list[str]) -> int:
    names = [word for word in arguments if not word.startswith("-")]
    options = [word for word in arguments if word.startswith("-")]
    chosen = [defect for defect in DEFECTS if not names or defect.name in names]
    good = True
    print(
        f"{'defect':<46} {'found by':<42} {'s':>5} {'day':>5}   small: {'s':>5} {'days':>5} {'servers':>8} {'faults':>7}"
    )
    for defect in chosen:
        done = hunt(defect, *options)
        good &= done.small
        found, day = done.said(r"after (\d+\.\d) s, on day"), done.said(r"on day ([\d,]+) ")
        small, days = done.said(r"smallest after (\d+\.\d) s"), done.said(r"and ([\d,]+) days in all")
        print(
            f"{defect.what:<46} {done.guarantee:<42} {found:>5} {day:>5}          {small:>5} {days:>5} "
            f"{done.servers:>8} {done.faults:>7}",
            flush=True,
        )
        if not done.small:
            print(done.output)
    if not names:
        clean = hunt(None, *options)
        good &= clean.status == 0
        print(f"{'none':<46} {clean.guarantee}\n{clean.output}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
