"""Memory that a server is told to hold and does not need."""

from __future__ import annotations

import mmap


class Ballast:
    """Holds as many bytes as it was last told to; each page is written to, so that it is really there."""

    def __init__(self) -> None:
        self._held: mmap.mmap | None = None

    def hold(self, size: int) -> None:
        """MemoryError, and nothing is held, if there is not so much."""
        if size == (0 if self._held is None else len(self._held)):
            return
        if self._held is not None:
            self._held.close()
            self._held = None
        if size:
            try:
                held = mmap.mmap(-1, size)
            except OSError as error:
                raise MemoryError(f"{size} bytes cannot be had: {error.strerror}") from error
            for page in range(0, size, mmap.PAGESIZE):
                held[page] = 1
            self._held = held
