"""history/*.jsonl.gz: everything that happened in a run, one record a line, read back to an equal `History`.

The first line holds what there is once, with `"kind": "history"`; every other line is a server, an operation
(with its attempts), an execution, a fault or what a proxy carried, under the names of `harness.history`. The
same history always gives the same bytes.
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
    lines = b"\n".join(_lines(history)) + b"\n"
    # Without a time in its header the file tells two equal histories to be equal.
    return write_bytes(path, gzip.compress(lines, compresslevel=6, mtime=0))


def read(path: Path) -> History:
    """The history that `write` put at `path`; ValueError if it is none, or of a later version."""
    with gzip.open(path) as lines:
        head = msgspec.json.decode(lines.readline())
        if head.pop("kind", None) != "history":
            raise ValueError(f"{path} is not a history of stormproof: its first line must be of kind history")
        if head.pop("schema") > SCHEMA:
            raise ValueError(f"{path} was written by a later stormproof; this one reads up to schema {SCHEMA}")
        found: dict[str, list[Any]] = {name: [] for name in RECORDS}
        for line in lines:
            record = msgspec.json.decode(line)
            name, kind = _KINDS[record.pop("kind")]
            found[name].append(msgspec.convert(record, kind))
    empty = msgspec.convert({**head, "servers": [], "operations": []}, History)
    records: dict[str, Any] = {name: tuple(records) for name, records in found.items()}
    return replace(empty, **records)


_KINDS = {kind: (name, record) for name, (kind, record) in RECORDS.items()}


def _lines(history: History) -> Iterator[bytes]:
    head = {field.name: getattr(history, field.name) for field in fields(history) if field.name not in RECORDS}
    yield msgspec.json.encode({"kind": "history", "schema": SCHEMA} | head)
    for name, (kind, _) in RECORDS.items():
        for record in getattr(history, name):
            yield b'{"kind":"%s",' % kind.encode() + msgspec.json.encode(record)[1:]
