"""Where endpoints come from, when they are not a fixed list: DNS, a file, a function of one's own, or a part of these.

A resolver is a value that can be asked; `Resolution` asks it in a thread of its own, at once and then every period, also
while everything is connected: new servers are found without waiting for old ones to die (grpc/grpc issue 30015). Whether
an answer is sound, whether it is news and when to ask again is decided in stormproof.core.resolution.
"""

from __future__ import annotations

import inspect
import ipaddress
import json
import os
import random
import re
import reprlib
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, is_dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from stormproof.core.check import LONGEST, complain, number, seconds
from stormproof.core.endpoint import Endpoint
from stormproof.core.resolution import Schedule, endpoints_in, subset
from stormproof.values import Codec

T = TypeVar("T")

#: The shortest period: a resolver that is asked without a pause would do nothing else.
SHORTEST = 0.01
#: How many problems of one answer are told; a thousand bad lines are one mistake.
MOST = 5

#: gRPC's spelling of a name to be resolved; the empty part is the DNS server, which cannot be chosen here.
_SCHEME = "dns:///"
_HOST_AND_PORT = re.compile(r"(?:\[(?P<ipv6>[^\s\[\]]+)\]|(?P<name>[^\s:/\[\]]+)):(?P<port>[0-9]{1,5})")
#: The beginning of a JSON list or object, and not of "[::1]:50051".
_JSON = re.compile(r"\s*(\{|\[\s*([\"{\]]|$))")
_COMMENT = re.compile(r"(^|\s)#.*")
_CODEC = Codec("stormproof.core.endpoint")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200


class ResolutionError(Exception):
    """No usable answer: who was asked, what is wrong with it and where, and what to do. `__cause__` has more."""


@runtime_checkable
class Resolver(Protocol):
    """Says where the servers are. A value: frozen, and a dataclass if it is to go to JSON."""

    @property
    def period(self) -> float:
        """Seconds from one resolution to the next."""
        ...

    def resolve(self) -> Sequence[Endpoint | str]:
        """All endpoints there are now. Called in a thread of its own: it may block, and raise whatever it likes."""
        ...


@dataclass(frozen=True, slots=True)
class Dns:
    """Every address of a name, IPv4 and IPv6, as the machine resolves names (getaddrinfo: DNS, /etc/hosts and so on).

    target  "host:port" or "[IPv6]:port"; gRPC's spelling "dns:///host:port" is the same. The port is a number.
    period  seconds from one resolution to the next, 10 unless told otherwise.

    Raises ValueError for another target. The records' time to live is not asked for: getaddrinfo does not tell it.
    """

    target: str
    _: KW_ONLY
    period: float = 10.0

    def __post_init__(self) -> None:
        complain(self, [*_target(self.target), *_period(self.period)])
        object.__setattr__(self, "target", self.target.removeprefix(_SCHEME))

    def resolve(self) -> list[Endpoint]:
        """The addresses of the name, sorted. Raises ResolutionError if there are none."""
        match = _HOST_AND_PORT.fullmatch(self.target)
        assert match is not None
        try:
            found = socket.getaddrinfo(match["ipv6"] or match["name"], int(match["port"]), type=socket.SOCK_STREAM)
        except OSError as error:
            said = f"{error.strerror or error} (is the name right, and can this machine resolve names?)"
            raise ResolutionError(f"{_named(self)}: {said}") from error
        return [Endpoint(address) for address in sorted({_address(info[4]) for info in found})]


def _target(target: object) -> list[str]:
    """What is wrong with the target of a Dns."""
    must = "target must be 'host:port', such as 'cart.internal:50051'"
    if not isinstance(target, str):
        return [f"{must}; got {target!r}"]
    plain = target.removeprefix(_SCHEME)
    match = _HOST_AND_PORT.fullmatch(plain)
    if match is None:
        way_out = "say the port, too: there is no usual one"
        if "/" in plain:
            way_out = f"leave out what is neither; only {_SCHEME!r} may stand before it"
        elif plain.count(":") > 1:
            way_out = "put an IPv6 address in brackets, such as '[::1]:50051'"
        return [f"{must}; got {target!r} ({way_out})"]
    if not 1 <= int(match["port"]) <= 65535:
        return [f"{must}, with a port from 1 to 65535; got {target!r}"]
    try:
        if match["ipv6"] is None:
            match["name"].encode("idna")  # getaddrinfo would raise the same, later
        else:
            ipaddress.IPv6Address(match["ipv6"])
    except ValueError as error:
        return [f"{must}; got {target!r} ({error})"]
    return []


def _address(found: Sequence[Any]) -> str:
    """A socket's address as gRPC writes it."""
    host, port, *more = found
    if ":" not in host:
        return f"{host}:{port}"
    scope = f"%{more[1]}" if more[1] else ""
    return f"[{host}{scope}]:{port}"


@dataclass(frozen=True, slots=True)
class File:
    """The addresses in a file that somebody else keeps current.

    path    a JSON list of addresses or of objects with the fields of `Endpoint`, or one address a line, where "#" begins a
            comment. A relative path is looked up from the working directory of the moment.
    period  seconds between two looks at it, 1 unless told otherwise.

    Write a new file beside it and rename that over it: a reader then sees the old one or the new one, and nothing between.
    """

    path: str | os.PathLike[str]
    _: KW_ONLY
    period: float = 1.0

    def __post_init__(self) -> None:
        problems = _period(self.period)
        path = os.fspath(self.path) if isinstance(self.path, os.PathLike) else self.path
        if not isinstance(path, str) or not path or "\0" in path:
            problems.append(f"path must be the path of a file, such as 'endpoints.json'; got {self.path!r}")
        complain(self, problems)
        object.__setattr__(self, "path", path)

    def resolve(self) -> list[Endpoint]:
        """What the file holds now. Raises ResolutionError if that is not a list of at least one endpoint."""
        try:
            with open(self.path, "rb") as file:
                text = file.read().decode("utf-8-sig")
            found, problems = endpoints_in(_entries(text, os.fspath(self.path)))
        except OSError as error:
            said = f"{error.strerror or error} ({os.path.abspath(self.path)}: is the path right, and may this process read it?)"
            raise ResolutionError(f"{_named(self)}: {said}") from error
        except ValueError as error:
            raise ResolutionError(f"{_named(self)}: {error}") from error
        if problems:
            raise ResolutionError(f"{_named(self)}: {_first(problems)}")
        return found


def _entries(text: str, path: str) -> list[tuple[str, object]]:
    """What the text of a file lists, each with the place where it stands. ValueError for a text that is no list."""
    if not (path.endswith(".json") or _JSON.match(text)):
        *lines, rest = [_COMMENT.sub("", line).strip() for line in text.split("\n")]
        if rest:  # "10.0.0.1:5005" may be the beginning of "10.0.0.1:50051"
            raise ValueError(
                f"line {len(lines) + 1}: must end with a newline; got {rest!r} (is it still being written?)"
            )
        return [(f"line {index}", line) for index, line in enumerate(lines, 1) if line]
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        way_out = "if it is still being written: write another file, and rename it to this one"
        raise ValueError(f"line {error.lineno}, column {error.colno}: {error.msg} ({way_out})") from error
    if not isinstance(data, list):
        raise ValueError(f'must hold a JSON list, such as ["10.0.0.1:50051"]; got {_SHORT.repr(data)}')
    read = _CODEC.from_json([{"type": "Endpoint", **item} if isinstance(item, dict) else item for item in data])
    return [(f"[{index}]", value) for index, value in enumerate(read)]


@dataclass(frozen=True, slots=True)
class Polled:
    """Whatever a function says: a registry's client, say. It is called in a thread of its own, so it may block.

    function  returns all addresses or `Endpoint`s there are now. What it raises is reported, and the last good answer stays.
    period    seconds from one call to the next, 5 unless told otherwise.
    """

    function: Callable[[], Sequence[Endpoint | str]]
    _: KW_ONLY
    period: float = 5.0

    def __post_init__(self) -> None:
        problems = _period(self.period)
        if not callable(self.function):
            problems.append(f"function must be a function without arguments; got {self.function!r}")
        elif inspect.iscoroutinefunction(self.function):
            problems.append(f"function must be a plain function; got {self.function!r} (call it by asyncio.run in one)")
        complain(self, problems)

    def resolve(self) -> Sequence[Endpoint | str]:
        """What the function returns, or raises."""
        return self.function()


@dataclass(frozen=True, slots=True)
class Subset:
    """A part of what `source` says, another one for each client: where each client calling each server is too much.

    source    a `Resolver`, or a list of addresses and `Endpoint`s.
    size      how many endpoints of each priority tier to use (1 to 1,000,000); all of them where there are fewer.
    identity  a text that names this client and no other: the same one gets the same part again, in any process. None
              (default): a random one for each value and process.

    The choice is random over clients, with rendezvous hashing (gRFC A68): one endpoint more or less changes at most one.
    """

    source: Resolver | Sequence[Endpoint | str]
    _: KW_ONLY
    size: int
    identity: str | None = None
    _drawn: str = field(init=False, repr=False, compare=False, default_factory=secrets.token_hex)

    def __post_init__(self) -> None:
        problems = number("size", self.size, 1, 10**6, unit="endpoints", whole=True)
        if self.identity is not None and not isinstance(self.identity, str):
            problems.append(f"identity must be a text that names this client, or None; got {self.identity!r}")
        if isinstance(self.source, Resolver):
            problems += wrong_with(self.source, "source")
        else:
            found, wrong = _checked(self.source)
            problems += [f"source: {problem}" for problem in wrong]
            object.__setattr__(self, "source", tuple(found))
        complain(self, problems)

    @property
    def period(self) -> float:
        """The source's."""
        return self.source.period if isinstance(self.source, Resolver) else LONGEST

    def resolve(self) -> list[Endpoint]:
        """This client's part of what there is now. Raises what the source raises."""
        identity = f"{self._drawn} {os.getpid()}" if self.identity is None else self.identity
        if isinstance(self.source, Resolver):
            return subset(answered(self.source, self.source.resolve()), self.size, identity)
        return subset(map(Endpoint.of, self.source), self.size, identity)


class Resolution:
    """Asks a resolver, in one daemon thread that begins at once, and reports what it says until it is closed.

    tell    is called with all endpoints whenever they are others than it was told last.
    failed  is called with a `ResolutionError` when there was no usable answer. What was told before stays.
    rng     draws by how much waits are shortened.

    Both are called in that thread, maybe before this constructor has returned, one at a time. They should return at once.
    `close()` waits for one that is running: do not close while holding a lock that they take. They may close it
    themselves. What they raise goes to `threading.excepthook`; endpoints that were not taken so are told again.
    """

    def __init__(
        self,
        resolver: Resolver,
        tell: Callable[[list[Endpoint]], None],
        failed: Callable[[ResolutionError], None],
        *,
        rng: random.Random | None = None,
    ) -> None:
        #: Set when the first resolution has ended, well or not, and by close().
        self.first = threading.Event()
        self._resolver = resolver
        self._tell = tell
        self._failed = failed
        self._schedule = Schedule(resolver.period, rng or random.Random())
        self._problem: ResolutionError | None = None
        self._closed = False
        self._condition = threading.Condition()  # guards the schedule; never held while others' code runs
        self._calling = threading.RLock()  # held while `tell` or `failed` runs
        threading.Thread(target=self._run, name="stormproof-resolver", daemon=True).start()

    @property
    def problem(self) -> ResolutionError | None:
        """Why the last resolution had no usable answer; None if it had one, or has not ended."""
        return self._problem

    def soon(self) -> None:
        """Asks before the period is over, because something looks wrong; at most once a second. Never blocks."""
        with self._condition:
            self._schedule.soon(time.monotonic())
            self._condition.notify()

    def close(self) -> None:
        """Ends it. Once this has returned, neither `tell` nor `failed` is called. Does not wait for `resolve`."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        with self._calling:  # one that is being called is waited for
            self.first.set()

    def _run(self) -> None:
        while self._is_due():
            self._take(self._ask())

    def _is_due(self) -> bool:
        """Waits until the next resolution is due; False: there will be none."""
        with self._condition:
            while not self._closed:
                wait = self._schedule.due - time.monotonic()
                if wait <= 0:
                    self._schedule.began()
                    return True
                self._condition.wait(wait)
            return False

    def _ask(self) -> list[Endpoint] | ResolutionError:
        try:
            return answered(self._resolver, self._resolver.resolve())
        except BaseException as error:  # SystemExit, too: a function's sys.exit() would end this thread in silence
            ours = isinstance(error, ResolutionError)
            said = str(error) if ours else f"{_named(self._resolver)}: {type(error).__name__}: {error}"
            stays = "the last good endpoints stay" if self._schedule.knows else "no endpoint is known yet"
            problem = ResolutionError(f"{said}; {stays}")
            problem.__cause__ = error
            return problem

    def _take(self, answer: list[Endpoint] | ResolutionError) -> None:
        with self._calling:
            now = time.monotonic()
            with self._condition:
                if self._closed:
                    return
                if isinstance(answer, ResolutionError):
                    self._schedule.failed(now)
                else:
                    news = self._schedule.found(answer, now)
            if isinstance(answer, ResolutionError):
                self._problem = answer
                _call(self._failed, answer)
            else:
                self._problem = None
                if news and not _call(self._tell, answer):
                    self._schedule.not_taken()
            self.first.set()


def _call(function: Callable[[T], None], argument: T) -> bool:
    """Calls it, and says whether it returned. What it raises surfaces as in any thread, and the thread goes on."""
    try:
        function(argument)
    except Exception:
        threading.excepthook(threading.ExceptHookArgs([*sys.exc_info(), threading.current_thread()]))
        return False
    return True


def answered(resolver: object, answer: object) -> list[Endpoint]:
    """The endpoints of what a resolver answered, each address once. ResolutionError names what is wrong with it."""
    found, problems = _checked(answer)
    if problems:
        raise ResolutionError(f"{_named(resolver)}: {_first(problems)}")
    return found


def wrong_with(resolver: Resolver, name: str = "endpoints") -> list[str]:
    """What is wrong with this resolver as the argument `name`; empty if nothing is."""
    if isinstance(resolver, type):
        return [
            f"{name} must be a resolver, such as Dns('cart.internal:50051'); got the class {resolver.__name__} itself"
        ]
    problems = [f"{name}.{problem}" for problem in _period(resolver.period)]
    if not callable(resolver.resolve) or inspect.iscoroutinefunction(resolver.resolve):
        problems.append(
            f"{name}.resolve must be a plain function (a thread of its own calls it); got {resolver.resolve!r}"
        )
    return problems


def _checked(answer: object) -> tuple[list[Endpoint], list[str]]:
    """The endpoints of an answer, and what is wrong with it."""
    if isinstance(answer, str | bytes | Mapping) or not isinstance(answer, Iterable):
        return [], [f"must be a list of addresses, such as ['10.0.0.1:50051']; got {_SHORT.repr(answer)}"]
    return endpoints_in((f"[{index}]", value) for index, value in enumerate(answer))


def _period(period: object) -> list[str]:
    return seconds("period", period, low=SHORTEST)


def _first(problems: list[str]) -> str:
    """The first few of them, as one text."""
    more = [f"and {len(problems) - MOST} more"] if len(problems) > MOST else []
    return "; ".join([*problems[:MOST], *more])


def _named(resolver: object) -> str:
    """A resolver as its errors name it: Dns('cart.internal:50051')."""
    if is_dataclass(resolver):
        return f"{type(resolver).__name__}({_SHORT.repr(getattr(resolver, fields(resolver)[0].name))})"
    return _SHORT.repr(resolver)
