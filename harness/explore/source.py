"""A scenario as Python that can be pasted into a suite: what one would have written, imports included.

Arguments that are their defaults are left out, positional ones come without a name, injections as `during` and `at`, targets
by their names. Executed, it gives a scenario equal to the one that it was made of.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Any

import faults
import harness
import stormproof
from faults import Injection, Named, Some
from faults.target import Every, Majority
from harness.scenario import Scenario

#: Characters of a line; a call that is longer is spread over lines, one argument on each.
WIDTH = 100


def suite(scenario: Scenario, *, about: str, seed: int, name: str = "BAD_DAY") -> str:
    """A whole suite file: what it is `about`, the imports, the scenario as `name`, and its test."""
    source = Source()
    text = source.of(scenario, len(name) + 3)
    return "\n".join([
        f'"""{about}"""', "", *source.imports(), "", f"{name} = {text}", "", "",
        f"def test_{name.lower()}(run):",
        f"    run({name}).check()  # found with seed {seed}", "",
    ])  # fmt: skip


class Source:
    """Writes values as Python and remembers what has to be imported for it."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # where each comes from
        self._modules: set[str] = set()  # of those whose names are taken

    def imports(self) -> list[str]:
        """The lines that import what has been written, in order."""
        by_module: dict[str, list[str]] = {}
        for name, module in sorted(self._names.items()):
            by_module.setdefault(module, []).append(name)
        lines = [_imported(module, names) for module, names in sorted(by_module.items())]
        return [*(f"import {module}" for module in sorted(self._modules)), *lines]

    def of(self, value: Any, column: int = 0, depth: int = 0) -> str:
        """`value` as an expression, whose first line begins at `column`, inside so many brackets."""
        if isinstance(value, enum.Enum):
            return f"{self._named(type(value))}.{value.name}"
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        if isinstance(value, list):
            return self._listed("[", "]", value, column, depth)
        if isinstance(value, tuple):
            closing = ",)" if len(value) == 1 else ")"
            return self._listed("(", closing, list(value), column, depth)
        if isinstance(value, frozenset | set):
            items = sorted(value, key=repr)
            return self._listed("frozenset({", "})", items, column, depth) if items else "frozenset()"
        if isinstance(value, Injection):
            return self._injection(value, column, depth)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._target(value) or self._value(value, column, depth)
        return repr(value)

    def _value(self, value: Any, column: int, depth: int) -> str:
        """A dataclass by its constructor."""
        arguments: list[tuple[str, Any]] = []
        skipped = False
        for field in dataclasses.fields(value):
            given = getattr(value, field.name)
            if not field.init:
                continue
            if _is_default(field, given):
                skipped = True
                continue
            as_list = isinstance(value, Scenario) and isinstance(given, tuple)
            named = field.kw_only or skipped
            arguments.append((f"{field.name}=" if named else "", list(given) if as_list else given))
        return self._call(self._named(type(value)), arguments, column, depth)

    def _injection(self, value: Injection, column: int, depth: int) -> str:
        on: list[tuple[str, Any]] = [] if value.on == faults.one else [("on=", value.on)]
        if value.period is not None:
            times = [("lasting=", value.lasting), ("start=", value.start), ("end=", value.end)]
            arguments = [("", value.period), ("", value.fault), *times, *on]
            return self._call(self._from("faults", "every_so_often"), arguments, column, depth)
        if value.end is None:
            arguments = [("", value.start), ("", value.fault), *on]
            return self._call(self._from("faults", "at"), arguments, column, depth)
        arguments = [("", value.start), ("", value.end), ("", value.fault), *on]
        return self._call(self._from("faults", "during"), arguments, column, depth)

    def _target(self, value: Any) -> str | None:
        """A target as it is written by hand; None for anything else."""
        if isinstance(value, Named):
            return f"{self._from('faults', 'named')}({', '.join(_text(name) for name in value.names)})"
        if isinstance(value, Some):
            return self._from("faults", "one") if value.count == 1 else f"{self._from('faults', 'some')}({value.count})"
        if isinstance(value, Every | Majority):
            return self._from("faults", str(value))
        return None

    def _call(self, name: str, arguments: list[tuple[str, Any]], column: int, depth: int) -> str:
        flat = f"{name}({', '.join(word + self.of(value) for word, value in arguments)})"
        if "\n" not in flat and column + len(flat) <= WIDTH:
            return flat
        indent = 4 * (depth + 1)
        lines = [f"{' ' * indent}{word}{self.of(v, indent + len(word), depth + 1)}," for word, v in arguments]
        return "\n".join([f"{name}(", *lines, f"{' ' * (indent - 4)})"])

    def _listed(self, opening: str, closing: str, values: list[Any], column: int, depth: int) -> str:
        flat = f"{opening}{', '.join(self.of(value) for value in values)}{closing}"
        if "\n" not in flat and column + len(flat) <= WIDTH:
            return flat
        indent = 4 * (depth + 1)
        lines = [f"{' ' * indent}{self.of(value, indent, depth + 1)}," for value in values]
        return "\n".join([opening, *lines, f"{' ' * (indent - 4)}{closing.lstrip(',')}"])

    def _named(self, cls: type) -> str:
        """The name of a class, imported from where people import it."""
        for module in (faults, harness, stormproof):
            if cls.__name__ in module.__all__ and getattr(module, cls.__name__) is cls:
                return self._from(module.__name__, cls.__name__)
        head, _, rest = cls.__qualname__.partition(".")
        name = self._from(cls.__module__, head)
        return f"{name}.{rest}" if rest else name

    def _from(self, module: str, name: str) -> str:
        if self._names.setdefault(name, module) == module:
            return name
        self._modules.add(module)
        return f"{module}.{name}"


def _imported(module: str, names: list[str]) -> str:
    flat = f"from {module} import {', '.join(names)}"
    if len(flat) <= WIDTH:
        return flat
    return "\n".join([f"from {module} import (", *(f"    {name}," for name in names), ")"])


def _is_default(field: dataclasses.Field[Any], given: Any) -> bool:
    if field.default is not dataclasses.MISSING:
        # 1 == True and 1 == 1.0, and are no less different for it.
        return type(given) is type(field.default) and bool(given == field.default)
    return field.default_factory is not dataclasses.MISSING and bool(given == field.default_factory())


def _text(value: str) -> str:
    """A text in double quotes, as the house writes it."""
    return '"' + value + '"' if value.isprintable() and '"' not in value and "\\" not in value else repr(value)
