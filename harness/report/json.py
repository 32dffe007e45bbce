"""report.json: the whole report for programs. All of docs/report.md is always there, in that order."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import msgspec

from harness.report.files import write_bytes
from harness.report.model import Report


def write(report: Report, folder: Path) -> Path:
    """Writes `report` to report.json in `folder`."""
    content = msgspec.json.format(msgspec.json.encode(plain(report)), indent=2)
    return write_bytes(folder / "report.json", content + b"\n")


def plain(value: object) -> object:
    """`value` out of what JSON knows; a field's name loses the underscore that Python needs."""
    if is_dataclass(value):
        return {field.name.rstrip("_"): plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value
