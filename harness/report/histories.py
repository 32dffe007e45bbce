"""history/*.jsonl.gz: everything that happened in a run, one record a line, read back to an equal `History`.

The first line holds what there is once, with `"kind": "history"`; every other line is a server, an operation
(with its attempts), an execution, a fault or what a proxy carried, under the names of `harness.history`. The
same history always gives the same bytes. Neither writing nor reading one holds all of a long one in memory.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec

from harness.history import Acted, Carried, Execution, History, Operation, Server
from harness.report.files import write_bytes
from harness.spill import BLOCK, Kept, Spilled, compressed, line

#: Grows when a reader of old files would misread new ones.
SCHEMA = 1
#: Each field of a history that holds records: the kind on their lines, and their type.
RECORDS: dict[str, tuple[str, type]] = {
    "servers": ("server", Server),
    "operations": ("operation", Operation),
    "executions": ("execution", Execution),
    "faults": ("fault", Acted),
    "carried": ("carried", Carried),
}


def write(history: History, path: Path) -> Path:
    """Writes `history` to `path`."""
    return write_bytes(path, _members(history))


def read(path: Path) -> History:
    """The history that `write` put at `path`; ValueError if it is none, or of a later version."""
    with gzip.open(path) as lines:
        head = msgspec.json.decode(lines.readline())
        if head.pop("kind", None) != "history":
            raise ValueError(f"{path} is not a history of stormproof: its first line must be of kind history")
        if head.pop("schema") > SCHEMA:
            raise ValueError(f"{path} was written by a later stormproof; this one reads up to schema {SCHEMA}")
        found: dict[str, Any] = {name: Kept(kind, record) for name, (kind, record) in RECORDS.items()}
        for line in lines:
            name = _NAMES[_kind(line).kind]
            found[name].add(line)
    empty = msgspec.convert({**head, "servers": [], "operations": []}, History)
    return replace(empty, **{name: kept.records() for name, kept in found.items()})


class _Kind(msgspec.Struct):
    kind: str


_kind = msgspec.json.Decoder(_Kind).decode
_NAMES = {kind: name for name, (kind, _) in RECORDS.items()}


def _members(history: History) -> Iterator[bytes]:
    """The file in parts: gzip members of so many lines; what lies on the disk already is in that form."""
    lines = [msgspec.json.encode({"kind": "history", "schema": SCHEMA} | _head(history))]
    for name, (kind, _) in RECORDS.items():
        records = getattr(history, name)
        if isinstance(records, Spilled):
            if lines:
                yield compressed(lines)
            yield from records.blocks()
            lines = []
            continue
        for record in records:
            lines.append(line(kind, record))
            if len(lines) == BLOCK:
                yield compressed(lines)
                lines = []
    if lines:
        yield compressed(lines)


def _head(history: History) -> dict[str, Any]:
    return {field.name: getattr(history, field.name) for field in fields(history) if field.name not in RECORDS}
