"""One grpc channel for each endpoint, and what its errors say about the work.

A subchannel reconnects quickly (gRPC's own defaults wait from 1 s up to 2 minutes), because deciding where calls go
while it cannot connect is the pool's business. `outcome_of` is the only place that reads gRPC's error texts; what it
does not know for sure it calls lost.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import grpc
import grpc.aio

from stormproof.core.check import instance
from stormproof.core.outcome import Code, Evidence, Outcome

Options = Sequence[tuple[str, object]]
_EXAMPLE = "('grpc.keepalive_time_ms', 10000)"

#: Before the caller's own options, so that those win.
OPTIONS: tuple[tuple[str, object], ...] = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),  # also how long one attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),  # the connection state of one channel is not another's
    ("grpc.enable_retries", 0),  # retries are ours: two layers of them would multiply
)

# What gRPC core says when a connection broke under a call (measured with grpcio 1.85.1; tests/stormproof/test_channel.py
# has each of them on a real connection). Anything that a server can say in its own words must not match.
_BROKEN = re.compile(
    r"Stream removed|Socket closed|Connection reset|Broken pipe|Connection aborted|Endpoint closing|Transport closed"
    r"|GOAWAY|RST_STREAM|keepalive|ping timeout|recvmsg|sendmsg|Connection timed out|No route to host"
    r"|^Cancelling all calls$"  # a server whose grace is over breaks off what it is in the midst of
)
#: grpc.aio's own words for a write that failed because the stream had ended already: see `FirstStatus`.
_WRITE_FAILED = "Internal error from Core"
_NO_CONNECTION = "failed to connect to all addresses"
_UNSERIALIZABLE = "Exception serializing request"
#: How an attempt ends whose request cannot be serialized, in grpc's words.
NOT_SERIALIZED = Outcome(Code.INTERNAL, Evidence.NEVER_SENT, f"{_UNSERIALIZABLE}!")
_UNANSWERED = frozenset({Code.CANCELLED, Code.DEADLINE_EXCEEDED})
PUSHBACK = "grpc-retry-pushback-ms"


def transport(credentials: object, options: object, compression: object) -> list[str]:
    """What is wrong with these arguments of a grpc channel, which says so late or not at all; empty if nothing is."""
    problems: list[str] = []
    if credentials is not None:
        example = "grpc.ssl_channel_credentials(), or None for no encryption"
        problems += instance("credentials", credentials, grpc.ChannelCredentials, example)
    if compression is not None:
        problems += instance("compression", compression, grpc.Compression, "grpc.Compression.Gzip, or None")
    if isinstance(options, str) or not isinstance(options, Sequence):
        return [*problems, f"options must be a list of pairs, such as {_EXAMPLE}; got {options!r}"]
    return problems + [
        f"options[{index}] must be a name and a text or whole number (of 32 bits), such as {_EXAMPLE}; got {option!r}"
        for index, option in enumerate(options)
        if not _is_option(option)
    ]


def _is_option(option: object) -> bool:
    match option:
        case [str(), int(value)]:
            return -(2**31) <= value < 2**31
        case [str(), value]:
            return value is not None  # gRPC takes texts, bytes and objects of its own
    return False


def open_channel(
    address: str,
    credentials: grpc.ChannelCredentials | None,
    options: Options,
    compression: grpc.Compression | None,
    *,
    api: Any = grpc,
) -> Any:
    """A channel to one endpoint, made by `api`: grpc, or grpc.aio. It connects with its first call."""
    merged = (*OPTIONS, *options)
    if credentials is None:
        return api.insecure_channel(address, options=merged, compression=compression)
    return api.secure_channel(address, credentials, options=merged, compression=compression)


class Bound(dict[str, Any]):
    """By address: what makes one method's attempts there (a multi-callable of grpc's). Made when first asked for."""

    __hash__ = object.__hash__  # type: ignore[assignment] # each is one of its own, held weakly

    def __init__(self, make: Callable[[str], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, address: str) -> Any:
        made = self[address] = self._make(address)
        return made

    def __eq__(self, other: object) -> bool:
        return self is other


open_aio_channel = functools.partial(open_channel, api=grpc.aio)


def outcome_of(error: Any) -> Outcome:
    """What a failed call on one subchannel (a `grpc.RpcError`, which is its call too) says about the work."""
    code = Code(error.code().value[0])
    message = error.details() or ""
    if code is Code.INTERNAL and message == _WRITE_FAILED:
        code = Code.UNAVAILABLE
    return Outcome(code, _evidence(code, message), message, _pushback(error))


class FirstStatus:
    """How an attempt of grpc.aio ended, by its first word.

    Where a server answers while it is still written to, grpc.aio (1.85.1) soon puts "Internal error from Core" in place
    of that answer, because the write failed.
    """

    def __init__(self, attempt: Any) -> None:
        self._attempt = attempt
        self._first: grpc.aio.AioRpcError | None = None
        attempt.add_done_callback(self._note)

    def _note(self, attempt: Any) -> None:
        self._first = _status(attempt)

    def error(self) -> grpc.aio.AioRpcError | None:
        """The error of the attempt, which has ended; None if it went well."""
        last = _status(self._attempt)
        return self._first if last is not None and last.details() == _WRITE_FAILED else last


def _status(attempt: Any) -> grpc.aio.AioRpcError | None:
    code, details, trailing = (_known(ask()) for ask in (attempt.code, attempt.details, attempt.trailing_metadata))
    if code is grpc.StatusCode.OK:
        return None
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing or grpc.aio.Metadata(), details)


def _known(word: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives that has nothing to wait for."""
    try:
        word.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("grpc.aio said that the call is over, and does not know how")


def _evidence(code: Code, message: str) -> Evidence:
    if code is Code.UNAVAILABLE and message.startswith(_NO_CONNECTION):
        return Evidence.NEVER_SENT
    if code is Code.INTERNAL and message.startswith(_UNSERIALIZABLE):
        return Evidence.NEVER_SENT
    if code in _UNANSWERED or message == _WRITE_FAILED or _BROKEN.search(message):
        return Evidence.LOST
    return Evidence.ANSWERED


def _pushback(error: Any) -> float | None:
    for key, value in error.trailing_metadata() or ():
        if key == PUSHBACK:
            # gRFC A6: "If the value ... is negative or unparseable, then it will be seen as the server asking the
            # client not to retry at all."
            return int(value) / 1000 if re.fullmatch(r"\d{1,9}", value) else -1.0
    return None
