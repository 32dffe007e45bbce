"""What the harness and its keeper say to each other: one JSON object a line, both ways, on one socket.

`key` is the harness's name for a process; it is chosen before the process exists, so that no event can come
too early for its owner. Moments are time.monotonic(), which all processes of one machine share.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, json


class Start(Struct, tag=True, kw_only=True):
    """Start a process: call `function` ("module:function") with `arguments`, or execute `argv`."""

    key: int
    log: str
    function: str = ""
    arguments: dict[str, Any] = {}
    argv: list[str] = []
    env: dict[str, str] | None = None
    cwd: str | None = None


class Signal(Struct, tag=True, kw_only=True):
    """Send `signum` to the process group of `key`; `ticket` comes back in the answer."""

    key: int
    signum: int
    ticket: int


class Started(Struct, tag=True, kw_only=True):
    """The function is about to be called, or the command was executed."""

    key: int
    pid: int


class Failed(Struct, tag=True, kw_only=True):
    """Nothing was started."""

    key: int
    why: str


class Signalled(Struct, tag=True, kw_only=True):
    """The signal was sent, or the process had ended before (`sent` False)."""

    ticket: int
    sent: bool


class Told(Struct, tag=True, kw_only=True):
    """A line that the process wrote to its descriptor 3."""

    key: int
    line: str


class Stopped(Struct, tag=True, kw_only=True):
    """All threads of the process stand still since `at` or a moment earlier."""

    key: int
    at: float


class Continued(Struct, tag=True, kw_only=True):
    """The process runs again."""

    key: int


class Exited(Struct, tag=True, kw_only=True):
    """The process has ended; `code` is negative for a signal."""

    key: int
    code: int
    at: float


class Broken(Struct, tag=True, kw_only=True):
    """The keeper cannot do its work; it says why and ends."""

    why: str


Order = Start | Signal
Event = Started | Failed | Signalled | Told | Stopped | Continued | Exited | Broken

_encode = json.Encoder().encode
decode_order = json.Decoder(Order).decode
decode_event = json.Decoder(Event).decode


def encode(message: Order | Event) -> bytes:
    """`message` as one line."""
    return _encode(message) + b"\n"
