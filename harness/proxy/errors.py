"""The one exception of everything here that talks to a Toxiproxy."""

from __future__ import annotations


class ToxiproxyError(Exception):
    """A Toxiproxy could not be found, built, reached or told something; the message says what came back and
    the way out.

    `status` is the HTTP status where the server answered, else None: then nobody knows whether it did what
    was asked.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
