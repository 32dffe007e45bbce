"""A server's own account of the attempts that reached it: an append-only file that survives a SIGKILL.

One line of JSON a record, one write a record: what was written is the kernel's, whatever becomes of the
process (power loss is not considered). An attempt has up to three records, in this order: received, executed,
ended; and one more for each message of its answer stream. Several incarnations of a server append to one file.
Reading joins the records to `harness.history.Execution`.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from msgspec import DecodeError, Struct, json

from harness.history import Execution
from harness.lines import cut_torn_tail, whole_lines


class Received(Struct, tag="received", tag_field="event", omit_defaults=True):
    """Attempt `number` of incarnation `pid` arrived `at` (time.monotonic()); the rest is what it carried."""

    pid: int
    number: int
    at: float
    operation: int = -1
    sent: int = 1
    remaining: float | None = None
    item: int | None = None
    repeat: bool = False


class Executed(Struct, tag="executed", tag_field="event"):
    """Its work is done; written before any reply that says so."""

    pid: int
    number: int
    at: float


class Sent(Struct, tag="sent", tag_field="event"):
    """A message of its answer stream is about to leave."""

    pid: int
    number: int


class Ended(Struct, tag="ended", tag_field="event"):
    """The server is through with it; `code` is the gRPC status name, CANCELLED if the caller left first."""

    pid: int
    number: int
    at: float
    code: str


Record = Received | Executed | Sent | Ended

_encode = json.Encoder().encode
_decode = json.Decoder(Record).decode


class Journal:
    """Writes one incarnation's records to `path`, having cut off a torn record at its end."""

    def __init__(self, path: Path) -> None:
        cut_torn_tail(path)
        self._pid = os.getpid()
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._received = 0

    def received(
        self,
        *,
        operation: int = -1,
        sent: int = 1,
        remaining: float | None = None,
        item: int | None = None,
        repeat: bool = False,
    ) -> int:
        """An attempt has arrived; returns the number by which the journal knows it."""
        self._received += 1
        number = self._received
        self._write(
            Received(self._pid, number, time.monotonic(), operation, sent, remaining, item, repeat),
        )
        return number

    def executed(self, number: int) -> None:
        """The work of attempt `number` is done."""
        self._write(Executed(self._pid, number, time.monotonic()))

    def sent(self, number: int) -> None:
        """Attempt `number` is about to send a message."""
        self._write(Sent(self._pid, number))

    def ended(self, number: int, code: str) -> None:
        """The server is through with attempt `number`."""
        self._write(Ended(self._pid, number, time.monotonic(), code))

    def close(self) -> None:
        os.close(self._file)

    def _write(self, record: Record) -> None:
        line = _encode(record) + b"\n"
        if os.write(self._file, line) != len(line):
            raise OSError("the disk is full: a record of the journal was cut short")


def read_journal(path: Path, *, server: str, origin: float) -> tuple[Execution, ...]:
    """Every attempt that reached `server`, in the order of arrival, its times in seconds from `origin`.

    `origin` is a time.monotonic(). A torn last line is left out. ValueError, naming the line, for any other
    line that is not a record: such a journal proves nothing.
    """
    executions: list[Execution] = []
    messages: list[int] = []  # that each of them sent
    place: dict[tuple[int, int], int] = {}
    for record in _records(path):
        key = (record.pid, record.number)
        match record:
            case Received():
                # A process id may come back in a later incarnation: from here on the latest arrival is meant.
                place[key] = len(executions)
                executions.append(_arrival(record, server, record.at - origin))
                messages.append(0)
            case Executed():
                executions[place[key]] = replace(executions[place[key]], executed=record.at - origin)
            case Sent():
                messages[place[key]] += 1
            case Ended():
                ended = record.at - origin
                executions[place[key]] = replace(executions[place[key]], ended=ended, code=record.code)
    return tuple(
        replace(execution, messages=sent) if sent else execution
        for execution, sent in zip(executions, messages, strict=True)
    )


def _arrival(record: Received, server: str, at: float) -> Execution:
    return Execution(
        server=server,
        operation=record.operation,
        sent=record.sent,
        received=at,
        remaining=record.remaining,
        item=record.item,
        repeat=record.repeat,
    )


def _records(path: Path) -> list[Record]:
    records = []
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            records.append(_decode(line))
        except DecodeError as error:
            raise ValueError(f"{path}, line {number} is not a record of a journal: {error}") from error
    return records
