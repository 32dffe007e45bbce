"""Values to JSON and back: every scenario, fault, client and guarantee is a dataclass, and its JSON names its class.

`{"type": "Latency", "delay": 0.3}` for what stormproof ships, `{"type": "my_module:MyBalancer"}` for anybody else's,
which is then imported. Lists come back as tuples. Only dataclasses can be named, so a file cannot make us call
anything else.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import math
from collections.abc import Iterable
from typing import Any

import msgspec

SHIPPED = ("stormproof", "faults", "faults.target", "harness")


def to_json(value: Any) -> Any:
    """`value` as what JSON can say: dicts, lists, texts, numbers, booleans and None. TypeError for anything else."""
    if value is None or isinstance(value, bool | str) or (isinstance(value, int) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"type": "float", "value": str(value)}
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, frozenset | set):
        return sorted(to_json(item) for item in value)
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return {"type": _name(type(value)), **fields}
    raise TypeError(f"{value!r} cannot be written as JSON: scenarios are made of dataclasses, numbers and texts")


def from_json(data: Any) -> Any:
    """The value that `to_json` made `data` of. ValueError names a class that cannot be found or a bad argument."""
    if isinstance(data, list):
        return tuple(from_json(item) for item in data)
    if not isinstance(data, dict):
        return data
    fields = {key: from_json(item) for key, item in data.items() if key != "type"}
    if "type" not in data:
        return fields
    if data["type"] == "float":
        return float(fields["value"])
    cls = _class(data["type"])
    try:
        return cls(**fields)
    except TypeError as error:
        raise ValueError(f"{data['type']} cannot be made of {', '.join(fields) or 'nothing'}: {error}") from error


def encode(value: Any) -> bytes:
    """`value` as JSON text."""
    return msgspec.json.encode(to_json(value))


def decode(text: bytes | str) -> Any:
    """The value that JSON text tells of."""
    return from_json(msgspec.json.decode(text))


@functools.cache
def _shipped() -> dict[str, type]:
    found: dict[str, type] = {}
    for name in SHIPPED:
        module = importlib.import_module(name)
        names: Iterable[str] = getattr(module, "__all__", None) or vars(module)
        found.update({n: getattr(module, n) for n in names if dataclasses.is_dataclass(getattr(module, n))})
    return {name: cls for name, cls in found.items() if isinstance(cls, type)}


def _name(cls: type) -> str:
    return cls.__name__ if _shipped().get(cls.__name__) is cls else f"{cls.__module__}:{cls.__qualname__}"


def _class(name: str) -> type:
    shipped = _shipped().get(name)
    if shipped is not None:
        return shipped
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"no class is named {name!r}: use a name that stormproof ships, or 'module:Class' of an importable module"
        ) from error
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ValueError(f"{name!r} must be a dataclass; got {found!r}")
    return found
