"""Values to JSON and back: configuration is made of dataclasses, and the JSON of each names its class.

`{"type": "RoundRobin"}` for the classes of the modules that a codec ships, `{"type": "my_module:MyBalancer"}` for
anybody else's. Lists come back as tuples, an enum's member as its name. Only dataclasses can be named, so a text cannot
make us call anything else; and unless a codec `imports`, only those whose module the program has imported already, so
that reading a text runs no code that was not there before.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import math
import sys
from collections.abc import Iterable
from typing import Any

import msgspec

_WAY_OUT = "values are dataclasses, numbers and texts (in place of a function, a frozen dataclass with __call__)"


class Codec:
    """Writes and reads the values of these modules (names in their `__all__` are short names), and of all others.

    modules  whose classes have short names; the later one wins.
    imports  whether reading imports the module of a class that nobody has imported yet. Only for trusted texts.
    """

    def __init__(self, *modules: str, imports: bool = False) -> None:
        self._modules = modules
        self._imports = imports

    def to_json(self, value: Any, path: str = "") -> Any:
        """`value` as what JSON can say: dicts, lists, texts, numbers, booleans and None. TypeError for anything else."""
        if (
            value is None
            or isinstance(value, bool | str)
            or (isinstance(value, int) and not isinstance(value, enum.Enum))
        ):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"type": "float", "value": str(value)}
        if isinstance(value, enum.Enum):
            return value.name
        if isinstance(value, list | tuple):
            return [self.to_json(item, f"{path}[{index}]") for index, item in enumerate(value)]
        if isinstance(value, frozenset | set):
            return sorted(self.to_json(item, path) for item in value)
        if isinstance(value, dict):
            return {str(key): self.to_json(item, _below(path, key)) for key, item in value.items()}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {name: self.to_json(getattr(value, name), _below(path, name)) for name in _fields(type(value))}
            return {"type": self._name(type(value)), **fields}
        raise TypeError(_at(path, f"{value!r} cannot be written as JSON: {_WAY_OUT}"))

    def from_json(self, data: Any) -> Any:
        """The value that `to_json` made `data` of. One ValueError names all that is wrong, and where."""
        problems: list[str] = []
        value = self._read(data, "", problems)
        if problems:
            raise ValueError("; ".join(problems))
        return value

    def encode(self, value: Any) -> bytes:
        """`value` as JSON text."""
        return msgspec.json.encode(self.to_json(value))

    def decode(self, text: bytes | str) -> Any:
        """The value that JSON text tells of. ValueError for a text that is no JSON, too."""
        return self.from_json(msgspec.json.decode(text))

    def _read(self, data: Any, path: str, problems: list[str]) -> Any:
        if isinstance(data, list):
            return tuple(self._read(item, f"{path}[{index}]", problems) for index, item in enumerate(data))
        if not isinstance(data, dict):
            return data
        sound = len(problems)
        fields = {key: self._read(item, _below(path, key), problems) for key, item in data.items() if key != "type"}
        if "type" not in data:
            return fields
        try:
            cls = float if data["type"] == "float" else self._class(data["type"])
            _check_fields(data["type"], cls, fields)
            return _build(data["type"], cls, fields) if len(problems) == sound else None
        except ValueError as error:
            problems.append(_at(path, str(error)))
            return None

    @functools.cached_property
    def _shipped(self) -> dict[str, type]:
        found: dict[str, type] = {}
        for name in self._modules:
            module = importlib.import_module(name)
            names: Iterable[str] = getattr(module, "__all__", None) or vars(module)
            found.update({n: getattr(module, n) for n in names if dataclasses.is_dataclass(getattr(module, n))})
        return {name: cls for name, cls in found.items() if isinstance(cls, type)}

    def _name(self, cls: type) -> str:
        if self._shipped.get(cls.__name__) is cls:
            return cls.__name__
        if "<locals>" in cls.__qualname__:
            raise TypeError(f"{cls.__qualname__} cannot be written as JSON: move the class to the top of its module")
        return f"{cls.__module__}:{cls.__qualname__}"

    def _class(self, name: Any) -> type:
        shipped = self._shipped.get(name) if isinstance(name, str) else None
        if shipped is not None:
            return shipped
        module, _, path = str(name).partition(":")
        try:
            found: Any = importlib.import_module(module) if self._imports else sys.modules[module]
            for part in path.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError, KeyError, ValueError) as error:
            way_out = "of an importable module" if self._imports else "of a module that the program has imported"
            raise ValueError(
                f"no class is named {name!r}: use a name that stormproof ships, or 'module:Class' {way_out}"
            ) from error
        if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
            raise ValueError(f"{name!r} must be a dataclass; got {found!r}")
        return found


def _fields(cls: type, needed: bool = False) -> list[str]:
    """The arguments of a class, or those of them that have no default."""
    if cls is float:
        return ["value"]
    free = dataclasses.MISSING
    arguments = [field for field in dataclasses.fields(cls) if field.init]
    return [f.name for f in arguments if not needed or (f.default is free and f.default_factory is free)]


def _check_fields(name: str, cls: type, given: dict[str, Any]) -> None:
    known = _fields(cls)
    unknown = [field for field in given if field not in known]
    if unknown:
        raise ValueError(f"{name} cannot be made of {', '.join(unknown)}: it has {', '.join(known) or 'no fields'}")
    missing = [field for field in _fields(cls, needed=True) if field not in given]
    if missing:
        raise ValueError(f"{name} cannot be made of {', '.join(given) or 'nothing'}: it needs {', '.join(missing)} too")


def _build(name: str, cls: type, fields: dict[str, Any]) -> Any:
    try:
        return float(fields["value"]) if cls is float else cls(**fields)
    except ValueError as error:
        hint = ' (an object names its class with "type")' if "; got {" in str(error) else ""
        raise ValueError(f"{error}{hint}") from error
    except Exception as error:  # what a class says of an argument that it never thought of is its own affair
        raise ValueError(f"{name} cannot be made of {', '.join(fields) or 'nothing'}: {error}") from error


def _below(path: str, key: Any) -> str:
    if not str(key).isidentifier():
        return f"{path}[{str(key)!r}]"
    return f"{path}.{key}" if path else str(key)


def _at(path: str, said: str) -> str:
    return f"{path}: {said}" if path else said
