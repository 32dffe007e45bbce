"""The tables of docs/report.md, made from the annotations of the model, so that they can say nothing else.

`python -m harness.report.schema` prints them.
"""

from __future__ import annotations

import inspect
from dataclasses import fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from harness.report.model import FaultReport, GuaranteeReport, Latency, Outcomes, Report, ScenarioReport, Told

#: Every object of report.json: its heading, and where it stands.
OBJECTS: dict[type, str] = {
    Report: "report.json",
    ScenarioReport: "scenarios[]",
    Outcomes: "scenarios[].outcomes",
    Latency: "scenarios[].latency",
    FaultReport: "scenarios[].faults[]",
    GuaranteeReport: "scenarios[].guarantees[]",
}
_PLAIN = {str: "text", int: "integer", float: "number", NoneType: "null"}


def schema_table() -> str:
    """One table for each object of report.json, in Markdown: every field with its type, unit and meaning."""
    return "\n\n".join(_section(kind, heading) for kind, heading in OBJECTS.items()) + "\n"


def _section(kind: type, heading: str) -> str:
    lines = [f"## `{heading}`", "", " ".join((inspect.getdoc(kind) or "").split()), ""]
    lines += ["| field | type | unit | meaning |", "|---|---|---|---|"]
    hints = get_type_hints(kind, include_extras=True)
    return "\n".join(lines + [_row(field.name, hints[field.name]) for field in fields(kind)])


def _row(name: str, hint: Any) -> str:
    if get_origin(hint) is not Annotated:
        raise TypeError(f"{name} must be Annotated with Told(...), which is what docs/report.md says of it")
    told: Told = hint.__metadata__[0]
    return f"| `{name.rstrip('_')}` | {_spelled(hint.__origin__)} | {told.unit} | {told.means} |"


def _spelled(hint: Any) -> str:
    """A type as JSON knows it."""
    arguments = get_args(hint)
    match get_origin(hint):
        case None:
            return f"object: `{OBJECTS[hint]}`" if hint in OBJECTS else _PLAIN[hint]
        case origin if origin is Literal:
            return ", ".join(f"`{word}`" for word in arguments)
        case origin if origin is UnionType:
            return " or ".join(_spelled(argument) for argument in arguments)
        case origin if origin is tuple:
            inner = arguments[0]
            return f"list of `{OBJECTS[inner]}`" if inner in OBJECTS else f"list of {_spelled(inner)}"
        case _:
            return f"object of {_spelled(arguments[1])}"


if __name__ == "__main__":
    print(schema_table(), end="")
