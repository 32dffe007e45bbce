"""What the bodies of Toxiproxy's HTTP API may say: JSON in, checked values out, and the errors of its
contract.

The rules are those of Go's decoder where clients can notice them: names of members in any case, null and
unknown ones ignored, a number is never a text, nothing after the first value is read. Bounds are our own: Toxiproxy
takes what then stops it.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from harness.proxy.pipe import Toxic
from harness.proxy.toxics import TYPES, check_attributes

T = TypeVar("T", str, bool)
STREAMS = ("upstream", "downstream")
#: From here on a number is none of Go's float32, as which a toxicity is read.
BEYOND_SINGLE = 2.0**128 - 2.0**103
_SURROGATE = re.compile("[\ud800-\udfff]")


class Refusal(Exception):
    """An answer that is not what was asked for: an HTTP status and why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A proxy as a request describes it. `seed` is ours alone: what its chances are drawn from, where that was said."""

    name: str
    listen: str
    upstream: str
    enabled: bool
    seed: str = ""


def asked(fields: Mapping[str, object]) -> Asked:
    """The proxy that is to be created."""
    return _complete(_described(fields), "")


def all_asked(items: list[dict[str, object]]) -> list[Asked]:
    """The proxies that a list describes: all are read before the first is looked at."""
    described = [_described(fields) for fields in items]
    return [_complete(proxy, f" at proxy {number}") for number, proxy in enumerate(described, start=1)]


def changed(fields: Mapping[str, object], now: Asked) -> Asked:
    """The proxy `now` as it is to be. A name that is sent along must be one, and is ignored."""
    _get(fields, "name", "")
    return Asked(
        name=now.name,
        listen=_get(fields, "listen", now.listen),
        upstream=_get(fields, "upstream", now.upstream),
        enabled=_get(fields, "enabled", now.enabled),
        seed=_get(fields, "seed", ""),
    )


def new_toxic(fields: Mapping[str, object], taken: Container[str]) -> Toxic:
    """The toxic that is to be added to those whose names are `taken`; it has no serial yet."""
    kind, stream, name = _get(fields, "type", ""), _get(fields, "stream", "downstream"), _get(fields, "name", "")
    attributes, toxicity = _members(fields.get("attributes")), _number(fields, 1.0)
    if stream.lower() not in STREAMS:
        raise Refusal(400, "stream was invalid, can be either upstream or downstream")
    if kind not in TYPES:
        raise Refusal(400, "invalid toxic type")
    name = name or f"{kind}_{stream}"
    if name in taken:
        raise Refusal(409, "toxic already exists")
    return Toxic(
        name=name,
        type=kind,
        stream=stream,
        toxicity=_chance(toxicity),
        attributes=_attributes(kind, attributes),
        serial=0,
    )


def edited(fields: Mapping[str, object], toxic: Toxic) -> tuple[float, dict[str, float]]:
    """The toxicity and the attributes that `toxic` is to have."""
    attributes = {**toxic.attributes, **_members(fields.get("attributes"))}
    return _chance(_number(fields, toxic.toxicity)), _attributes(toxic.type, attributes)


def one(body: bytes) -> dict[str, object]:
    """The members of a JSON object, their names in small letters; those that are null are left out."""
    return _members(_json(body))


def many(body: bytes) -> list[dict[str, object]]:
    """The same of a JSON array of objects."""
    found = _json(body)
    if found is None:
        return []
    if not isinstance(found, list):
        raise Refusal(400, f"bad request body: an array was expected; got {_shown(found)}")
    return [_members(item) for item in found]


def show(toxic: Toxic) -> dict[str, object]:
    """A toxic as an answer describes it."""
    return {
        "attributes": toxic.attributes,
        "name": toxic.name,
        "type": toxic.type,
        "stream": toxic.stream,
        "toxicity": toxic.toxicity,
    }


def single(value: float) -> float:
    """`value` with the precision that Toxiproxy keeps of a toxicity (Go's float32), in the fewest digits that tell it."""
    kept: float = struct.unpack("f", struct.pack("f", value))[0]
    near = (float(f"{kept:.{digits}g}") for digits in range(1, 10))
    shortest = next(number for number in near if struct.pack("f", number) == struct.pack("f", kept))
    return int(shortest) if shortest.is_integer() else shortest


def _described(fields: Mapping[str, object]) -> Asked:
    return changed(fields, Asked(name=_get(fields, "name", ""), listen="", upstream="", enabled=True))


def _complete(proxy: Asked, where: str) -> Asked:
    for key, value in (("name", proxy.name), ("upstream", proxy.upstream)):
        if not value:
            raise Refusal(400, f"missing required field: {key}{where}")
    return proxy


def _json(body: bytes) -> Any:
    """The first value of `body`; as with Go, what follows it does not matter."""
    text = body.decode(errors="replace").lstrip(" \t\r\n")
    try:
        return _DECODER.raw_decode(text)[0] if text else _refuse("EOF")
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"bad request body: {error or 'nested too deeply'}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as Go reads one: of members with the same name the last one counts, null never does."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        before = found.get(name := key.casefold())
        if isinstance(before, dict) and isinstance(value, dict):
            before.update(value)
        elif value is not None:
            found[name] = value
    return found


def _refuse(what: str) -> NoReturn:
    """No such number in JSON."""
    raise ValueError(what)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse)


def _members(found: object) -> dict[str, Any]:
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Refusal(400, f"bad request body: an object was expected; got {_shown(found)}")
    return found


def _get(fields: Mapping[str, object], key: str, default: T) -> T:
    value = fields.get(key)
    if value is None:
        return default
    if isinstance(value, type(default)):
        # half a pair is no character: it could be neither sent nor seeded with
        return _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else value
    wanted = "true or false" if isinstance(default, bool) else "a string"
    raise Refusal(400, f"bad request body: {key} must be {wanted}; got {_shown(value)}")


def _number(fields: Mapping[str, object], default: float) -> float:
    value = fields.get("toxicity")
    if value is None:
        return default
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < BEYOND_SINGLE:
        return value
    raise Refusal(400, f"bad request body: toxicity must be a number from 0 to 1; got {_shown(value)}")


def _chance(toxicity: float) -> float:
    if 0 <= toxicity <= 1:
        return single(toxicity)
    raise Refusal(400, f"bad request body: toxicity must be a number from 0 to 1; got {_shown(toxicity)}")


def _attributes(kind: str, given: Mapping[str, object]) -> dict[str, float]:
    try:
        return check_attributes(kind, given)
    except ValueError as error:
        raise Refusal(400, f"bad request body: {error}") from error


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:60] + "..."
