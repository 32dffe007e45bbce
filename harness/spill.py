"""Records of a history that outgrow memory: written to a temporary file as they come, and read back one block at a time.

The file is what a history's own file is made of: JSON, one record a line, each block of lines a gzip member of its own. So
such records look like a tuple of them to whoever reads them in turn, take a few bytes for each block in memory, and can be
copied into a report as they are. The file has no name, and is gone with its last reader. It lies where Python puts temporary
files; TMPDIR says where that is.
"""

from __future__ import annotations

import gzip
import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar, overload

import msgspec

Record = TypeVar("Record")

#: How many records stay in memory: a run of this many calls or fewer writes nothing. About 350 MB of a simulated run.
KEEP = 200_000
#: Records in a block: what is in memory at once of those that are not.
BLOCK = 5_000
LEVEL = 1  # of the compression: a third larger than the best, and five times as fast


def line(kind: str, record: object) -> bytes:
    """`record` as JSON that says of which kind it is, without an end of line."""
    return b'{"kind":"%s",' % kind.encode() + msgspec.json.encode(record)[1:]


def compressed(lines: Sequence[bytes], level: int = 6) -> bytes:
    """`lines` as a gzip member. Without a time in its header, so that equal lines are equal bytes."""
    return gzip.compress(b"\n".join(lines) + b"\n", compresslevel=level, mtime=0)


class Spill(Generic[Record]):
    """Takes records of `type`, whose lines say that they are of `kind`; `sealed` gives them back as a sequence."""

    def __init__(self, kind: str, type: type[Record]) -> None:
        self._kind = kind
        self._type = type
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 # its readers hold it
        self._ends = array("Q", [0])
        self._lines: list[bytes] = []
        self._count = 0

    def add(self, records: Iterable[Record]) -> None:
        """Writes `records`, in their order, behind those that are there. OSError if the disk is full."""
        for record in records:
            self.add_line(line(self._kind, record))

    def add_line(self, text: bytes) -> None:
        """The same for one record as it stands in a file, without its end of line."""
        self._lines.append(text)
        self._count += 1
        if len(self._lines) == BLOCK:
            self._write()

    def sealed(self) -> Spilled[Record]:
        """All of them. Nothing can be added any more."""
        if self._lines:
            self._write()
        self._file.flush()
        return Spilled(self._file.fileno(), self._ends, self._count, self._type, self._file)

    def _write(self) -> None:
        block = compressed(self._lines, LEVEL)
        self._file.write(block)
        self._ends.append(self._ends[-1] + len(block))
        self._lines.clear()


class Kept(Generic[Record]):
    """Takes the lines of records one by one, and keeps them in memory while they are not too many."""

    def __init__(self, kind: str, type: type[Record]) -> None:
        self._kind = kind
        self._type = type
        self._decode = msgspec.json.Decoder(type).decode
        self._records: list[Record] = []
        self._spill: Spill[Record] | None = None

    def add(self, text: bytes) -> None:
        """One more."""
        if self._spill is not None:
            self._spill.add_line(text.rstrip(b"\n"))
            return
        self._records.append(self._decode(text))
        if len(self._records) > KEEP:
            self._spill = Spill(self._kind, self._type)
            self._spill.add(self._records)
            self._records.clear()

    def records(self) -> Sequence[Record]:
        """All of them, in their order."""
        return tuple(self._records) if self._spill is None else self._spill.sealed()


class Spilled(Sequence[Record]):
    """Records on disk. To go through them costs about 3 us each; an index costs a block."""

    def __init__(self, descriptor: int, ends: array[int], count: int, type: type[Record], file: object) -> None:
        self._descriptor = descriptor
        self._ends = ends
        self._count = count
        self._decode = msgspec.json.Decoder(type).decode
        self._file = file  # it is closed, and gone, when nobody has it any more

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Record]:
        decode = self._decode
        for block in self.blocks():
            for text in gzip.decompress(block).splitlines():
                yield decode(text)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Record, ...]: ...
    def __getitem__(self, index: int | slice) -> Record | tuple[Record, ...]:
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(self._count)))
        if not -self._count <= index < self._count:
            raise IndexError(f"there are {self._count} records; got {index}")
        number, place = divmod(index % self._count, BLOCK)
        return self._decode(gzip.decompress(self._block(number)).splitlines()[place])

    def blocks(self) -> Iterator[bytes]:
        """The blocks as they lie on the disk."""
        return (self._block(number) for number in range(len(self._ends) - 1))

    def _block(self, number: int) -> bytes:
        return os.pread(self._descriptor, self._ends[number + 1] - self._ends[number], self._ends[number])
