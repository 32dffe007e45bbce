"""One checkpoint as bytes that can be told wherever they lie: in a whole file, in a torn one, in the log of lost commits.

SQLite's checks find damage of its pages, not of the values in them, and it gives up a file whole. A record that is found by
its first bytes and agrees with its checksum is good, whatever became of the rest. Records are numbered from 1, without a
gap, so that a lost one shows by the next.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from stormproof.core.ledger import Progress

_MAGIC = b"StPrRec1"
_HEAD = struct.Struct(f">{len(_MAGIC)}sII")  # magic, length and CRC-32 of the values


class Record(NamedTuple):
    """The `number`th commit of a store: how far the work `name` is; None: it was forgotten."""

    number: int
    name: str
    progress: Progress | None


def encode(record: Record) -> bytes:
    """The record as bytes."""
    far = record.progress
    values = None if far is None else (far.done, far.begun, far.fingerprint, far.cursor, far.finished)
    body = msgspec.msgpack.encode((record.number, record.name, values))
    return _HEAD.pack(_MAGIC, len(body), zlib.crc32(body)) + body


def decode(data: bytes) -> Record | None:
    """The record at the beginning of `data`; None if no whole one is there."""
    if len(data) < _HEAD.size:
        return None
    magic, length, crc = _HEAD.unpack_from(data)
    body = data[_HEAD.size : _HEAD.size + length]
    if magic != _MAGIC or len(body) != length or zlib.crc32(body) != crc:
        return None
    number, name, values = msgspec.msgpack.decode(body)
    if values is None:
        return Record(number, name, None)
    done, begun, fingerprint, cursor, finished = values
    far = Progress(done=done, begun=begun, fingerprint=fingerprint, cursor=cursor, finished=finished)
    return Record(number, name, far)


def found(data: bytes | mmap.mmap) -> Iterator[Record]:
    """Every whole record in `data`, in the order in which they lie there. One longer than a page (4 KiB) is not found."""
    place = data.find(_MAGIC)
    while place >= 0:
        record = decode(data[place : place + 4096])
        if record is not None:
            yield record
        place = data.find(_MAGIC, place + 1)
