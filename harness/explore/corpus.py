"""What was found, kept: a folder with one JSON file for each bad day, so that the next search meets it first.

An entry says by which version and schema it was written: what a day means is decided by both, so one of another is told
and left alone, never run as something else. A file that cannot be read, or no longer says what was written, is named. The
name of a file ends with a checksum of its day, so the same day found twice is one entry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.explore.found import Found
from harness.guarantees.base import Verdict
from harness.scenario import Scenario
from harness.values import from_json, to_json

#: Raised when the same entry would mean another run.
SCHEMA = 1


def fingerprint() -> str:
    """What decides, beside the entry itself, which run it stands for."""
    return f"stormproof {metadata.version('stormproof')}, schema {SCHEMA}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One bad day of a corpus, and in which file it is kept."""

    file: Path
    scenario: Scenario
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """`folder` need not be there before something is found."""

    folder: Path

    def read(self) -> tuple[list[Entry], list[str]]:
        """The entries that can be run, by their names, and what is to be said of the others."""
        entries: list[Entry] = []
        told: list[str] = []
        for file in sorted(self.folder.glob("*.json")):
            try:
                entries.append(_entry(file))
            except _Skip as skip:
                told.append(f"{file}: {skip}")
        return entries, told

    def prepare(self) -> None:
        """Makes the folder. OSError if nothing can be kept there, which is better known before the search."""
        self.folder.mkdir(parents=True, exist_ok=True)
        trial = self.folder / ".part"
        trial.touch()
        trial.unlink()

    def keep(self, found: Found) -> Path:
        """Writes `found` down; returns where. The same day has the same place."""
        scenario = to_json(found.scenario)
        entry = {
            "schema": SCHEMA,
            "stormproof": metadata.version("stormproof"),
            "seed": found.seed,
            "guarantee": found.verdict.guarantee,
            "message": _message(found.verdict),
            "scenario": scenario,
        }
        file = self.folder / f"{found.kind.lower()}-{_checksum(scenario, found.seed)}.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        whole = file.with_suffix(".part")
        whole.write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")
        whole.replace(file)  # nobody sees half an entry
        return file


class _Skip(Exception):
    """Why a file is not run."""


def _entry(file: Path) -> Entry:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _Skip(f"cannot be read ({error}); delete it, or bring back the file that was written") from None
    if not isinstance(data, dict) or "schema" not in data or "stormproof" not in data:
        raise _Skip("is no bad day of stormproof explore; keep other files elsewhere")
    written = f"stormproof {data['stormproof']}, schema {data['schema']}"
    if written != fingerprint():
        raise _Skip(f"was found by {written}, and this is {fingerprint()}: not run, it might be another day now")
    try:
        scenario, seed = data["scenario"], data["seed"]
        if not file.stem.endswith(_checksum(scenario, seed)):
            raise _Skip("is not what was written (its checksum differs); delete it, or paste the day into a suite")
        value = from_json(scenario)
    except (KeyError, TypeError, ValueError) as error:
        raise _Skip(f"tells of no scenario ({type(error).__name__}: {error}); delete it") from None
    if not isinstance(value, Scenario) or len(value.guarantees) != 1 or not isinstance(seed, int):
        raise _Skip("tells of no scenario with one guarantee and a seed; delete it")
    return Entry(file=file, scenario=value, seed=seed)


def _checksum(scenario: Any, seed: Any) -> str:
    text = json.dumps([scenario, seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _message(verdict: Verdict) -> str:
    return "\n".join([verdict.measured, *verdict.why])


__all__: Sequence[str] = ["SCHEMA", "Corpus", "Entry", "fingerprint"]
