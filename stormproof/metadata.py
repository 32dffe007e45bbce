"""What is sent along with a call, checked where it is given.

gRPC tells of what it cannot send late, in the words of its codec, or as a status that looks like a server's answer. Here it
is a mistake of the caller's own, told at once. The rules are gRPC's (PROTOCOL-HTTP2.md, "Custom-Metadata").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_NAME = re.compile(r"[0-9a-z_.-]+").fullmatch
_TEXT = re.compile(r"[\x20-\x7e]*").fullmatch
_EXAMPLE = "(('user-id', 'ada'), ('trace-bin', b'...'))"


def checked(metadata: Any) -> tuple[Any, ...]:
    """`metadata` as it is now, for each attempt to send: a list may grow, and a generator be read once.

    TypeError if it is no list of pairs; ValueError, naming the pair, for what gRPC cannot send.
    """
    if (
        isinstance(metadata, str | bytes)
        or (metadata and isinstance(metadata, dict))
        or not isinstance(metadata, Iterable)
    ):
        raise TypeError(f"metadata must be pairs of a name and a value, such as {_EXAMPLE}; got {_short(metadata)}")
    pairs = tuple(metadata)
    for index, pair in enumerate(pairs):
        if problem := _wrong(pair):
            raise ValueError(f"metadata[{index}] {problem}; got {_short(pair)}")
    return pairs


def _wrong(pair: Any) -> str:
    """What is wrong with it; empty if nothing is."""
    if isinstance(pair, str | bytes) or not (isinstance(pair, tuple | list) and len(pair) == 2):
        return "must be a pair of a name and a value"
    name, value = pair
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if not isinstance(name, str) or not _NAME(name):
        return "must have a name of lower-case letters, digits, '-', '_' and '.'"
    if name.endswith("-bin"):
        return "" if isinstance(value, bytes) else "must have bytes for a value, since its name ends in -bin"
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str) or not _TEXT(value):
        return "must have a text of printable ASCII for a value (a name that ends in -bin may have any bytes)"
    return ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
