"""What the bodies of Toxiproxy's HTTP API may say: JSON in, checked values out, and the errors of its
contract.

The rules are those of Go's decoder where clients can notice them: names of members in any case, null and
unknown ones ignored, a number is never a text. Bounds are our own: Toxiproxy takes what then stops it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from harness.proxy.pipe import Toxic
from harness.proxy.toxics import TYPES, check_attributes

T = TypeVar("T", str, bool)
STREAMS = ("upstream", "downstream")


class Refusal(Exception):
    """An answer that is not what was asked for: an HTTP status and why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A proxy as a request describes it."""

    name: str
    listen: str
    upstream: str
    enabled: bool


def asked(fields: Mapping[str, object], *, where: str = "") -> Asked:
    """The proxy that is to be created; `where` tells its place in a list."""
    name, upstream = _get(fields, "name", ""), _get(fields, "upstream", "")
    for key, value in (("name", name), ("upstream", upstream)):
        if not value:
            raise Refusal(400, f"missing required field: {key}{where}")
    listen = _get(fields, "listen", "") or "127.0.0.1:0"
    return Asked(name=name, listen=listen, upstream=upstream, enabled=_get(fields, "enabled", True))


def changed(fields: Mapping[str, object], now: Asked) -> Asked:
    """The proxy `now` as it is to be."""
    return Asked(
        name=now.name,
        listen=_get(fields, "listen", now.listen),
        upstream=_get(fields, "upstream", now.upstream),
        enabled=_get(fields, "enabled", now.enabled),
    )


def new_toxic(fields: Mapping[str, object]) -> Toxic:
    """The toxic that is to be added; it has no serial yet."""
    kind, stream = _get(fields, "type", ""), _get(fields, "stream", "") or "downstream"
    if stream.lower() not in STREAMS:
        raise Refusal(400, "stream was invalid, can be either upstream or downstream")
    if kind not in TYPES:
        raise Refusal(400, "invalid toxic type")
    return Toxic(
        name=_get(fields, "name", "") or f"{kind}_{stream}",
        type=kind,
        stream=stream,
        toxicity=_toxicity(fields, 1.0),
        attributes=_attributes(fields, kind, {}),
        serial=0,
    )


def edited(fields: Mapping[str, object], toxic: Toxic) -> tuple[float, dict[str, int]]:
    """The toxicity and the attributes that `toxic` is to have."""
    return _toxicity(fields, toxic.toxicity), _attributes(fields, toxic.type, toxic.attributes)


def one(body: bytes) -> dict[str, object]:
    """The members of a JSON object, their names in small letters."""
    return _members(_json(body))


def many(body: bytes) -> list[dict[str, object]]:
    """The same of a JSON array of objects."""
    found = _json(body)
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


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"bad request body: {error or 'nested too deeply'}") from error


def _members(found: object) -> dict[str, object]:
    if not isinstance(found, dict):
        raise Refusal(400, f"bad request body: an object was expected; got {_shown(found)}")
    return {str(key).lower(): value for key, value in found.items()}


def _get(fields: Mapping[str, object], key: str, default: T) -> T:
    value = fields.get(key)
    if value is None:
        return default
    if isinstance(value, type(default)):
        return value
    wanted = "true or false" if isinstance(default, bool) else "a string"
    raise Refusal(400, f"bad request body: {key} must be {wanted}; got {_shown(value)}")


def _toxicity(fields: Mapping[str, object], default: float) -> float:
    value = fields.get("toxicity")
    if value is None:
        return default
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return value
    raise Refusal(400, f"bad request body: toxicity must be a number from 0 to 1; got {_shown(value)}")


def _attributes(fields: Mapping[str, object], kind: str, now: Mapping[str, int]) -> dict[str, int]:
    given = fields.get("attributes")
    merged = {**now, **({} if given is None else _members(given))}
    try:
        return check_attributes(kind, merged)
    except ValueError as error:
        raise Refusal(400, f"bad request body: {error}") from error


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:60] + "..."
