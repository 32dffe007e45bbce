"""Who calls: the client's configuration as a value, and the program that carries out a workload with it.

The client runs in a process of its own, as the servers do, so that it can be killed and so that the harness's own work
does not slow it down. It tells what it does in a journal, one line an event, each written before the next thing
happens. To test somebody else's client, give the scenario a dataclass with `channel(endpoints, seed=, observer=)` that
returns a `grpc.Channel`; `GrpcClient` is the smallest example.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Protocol

import grpc
import msgspec

from faults.base import bounded, check, whole
from harness.client_streams import Durable, WrongAnswer, read, still_due
from harness.greetings import Reader
from harness.history import Attempt, Operation, Piece, pieces
from harness.lines import cut_torn_tail, whole_lines
from harness.workload import Batch, Closed, Streams
from stormproof import (
    Balancer,
    CallError,
    Channel,
    CheckpointStore,
    Endpoint,
    Evidence,
    Failover,
    LeastRequest,
    Mark,
    Policy,
    RetryBudget,
    checkpointed,
)
from stormproof.core.call import Call
from stormproof.core.ledger import Ledger
from stormproof.core.pool import Pool
from stormproof.observer import AttemptBegan, AttemptEnded, CallBegan, CallEnded, Event, Observer
from stormproof.shared import configuration
from stormproof.subchannels import outcome_of

METHOD, STREAM_METHOD = "/hello.Hello/SayHello", "/hello.Hello/SayHelloToEach"
CALL, ITEM, REPEAT = "stormproof-call", "stormproof-item", "stormproof-repeat"
#: Operations of the n-th start of a client's process are numbered from n * GENERATION on.
GENERATION = 1_000_000_000
#: Calls of an open workload that may be under way at once; further ones wait, and their waiting counts as latency.
CONCURRENCY = 512
#: Seconds from a client's being ready to its first call: time for the harness to hear of it.
LEAD = 0.1
#: What a client says that has carried out its workload; one that ends without a word was ended by something else.
DONE = "done"


class AnyClient(Protocol):
    """What the harness needs of a client."""

    def channel(self, endpoints: Sequence[Endpoint], *, seed: int, observer: Observer) -> grpc.Channel: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Our own channel, with these policies. `policy` is that of the methods which are called, so of a stream, too, its
    `timeout` is for the whole. `checkpoint_every` None: a batch, or streams, that are broken off start from the beginning.
    """

    balancer: Balancer = field(default_factory=LeastRequest)
    policy: Policy = field(default_factory=Policy)
    failover: Failover | None = field(default_factory=Failover)
    budget: RetryBudget = field(default_factory=RetryBudget)
    checkpoint_every: int | None = None
    #: What decides for it: the library's own; in a saboteur, one of these with a defect (harness/saboteurs/).
    POOL: ClassVar[type[Pool]] = Pool
    CALL: ClassVar[type[Call]] = Call
    LEDGER: ClassVar[type[Ledger]] = Ledger
    READER: ClassVar[type[Reader]] = Reader

    def __post_init__(self) -> None:
        problems = configuration(balancer=self.balancer, policy=self.policy, failover=self.failover, budget=self.budget)
        if self.checkpoint_every is not None:
            problems += whole(
                "checkpoint_every", self.checkpoint_every, 1, 10**9, way_out="items, or None for no checkpoint"
            )
        check(self, problems)

    def channel(self, endpoints: Sequence[Endpoint], *, seed: int, observer: Observer) -> grpc.Channel:
        """A `stormproof.Channel`."""

        class Made(Channel):
            _pool_type, _call_type = self.POOL, self.CALL

        return Made(
            endpoints,
            balancer=self.balancer,
            policy=self.policy,
            methods={STREAM_METHOD: replace(self.policy)},  # a channel-wide timeout is none of a stream
            failover=self.failover,
            budget=self.budget,
            observer=observer,
            seed=seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcClient:
    """gRPC's own channel, for comparison: `service_config` is gRPC's JSON, and every call has `timeout` seconds.

    Its attempts are not seen from the client's end; the servers' journals tell of them.
    """

    service_config: str = '{"loadBalancingConfig": [{"round_robin": {}}]}'
    timeout: float | None = None

    def __post_init__(self) -> None:
        problems: list[str] = []
        if isinstance(self.service_config, str):
            try:
                json.loads(self.service_config)
            except ValueError as error:
                problems.append(f"service_config must be JSON; {error}")
        else:
            problems.append(
                f"service_config must be JSON text, such as '{{}}' for gRPC's defaults; got {self.service_config!r}"
            )
        if self.timeout is not None:
            problems += bounded("timeout", self.timeout, 0.001, 86400, way_out="seconds, or None for no limit")
        check(self, problems)

    def channel(self, endpoints: Sequence[Endpoint], *, seed: int, observer: Observer) -> grpc.Channel:  # noqa: ARG002
        """A plain grpc channel that knows all endpoints."""
        target = "ipv4:" + ",".join(endpoint.address for endpoint in endpoints)
        return grpc.insecure_channel(target, options=[("grpc.service_config", self.service_config)])


def run(
    *,
    client: Any,
    workload: Any,
    arrivals: Sequence[float],
    endpoints: Sequence[dict[str, Any]],
    origin: float | None,
    ready_fd: int,
    seed: int,
    generation: int,
    journal: str,
    store: str,
    patience: float,
    path: Sequence[str],
) -> None:
    """The client's process: carries out one workload from `origin` (of time.monotonic()) on, and then ends.

    With None it chooses `origin` itself once it is ready, and writes it as a line to the descriptor `ready_fd`; its last
    line there is DONE. `client` and `workload` are the JSON of their values; `path` is where their modules are found.
    """
    sys.path[:] = path
    from harness.values import from_json
    from harness.wire import give_way

    give_way()  # what a client of somebody else's imports as `protos` is its own
    recorder = Recorder(journal, {end["address"]: end["name"] for end in endpoints}, generation)
    caller, work = from_json(client), from_json(workload)
    known = [Endpoint(end["address"], weight=end["weight"], priority=end["priority"]) for end in endpoints]
    with caller.channel(known, seed=seed, observer=recorder.observed) as channel:
        calls = Calls(channel, recorder, getattr(caller, "timeout", None))
        recorder.origin = _begin(ready_fd) if origin is None else origin
        if isinstance(work, Batch):
            _batch(calls, work, getattr(caller, "checkpoint_every", None), store, seed)
        elif isinstance(work, Closed):
            _closed(calls, work, patience)
        elif isinstance(work, Streams):
            _streams(calls, work, arrivals, patience, caller, store, seed)
        else:
            _open(calls, arrivals, patience)
    os.write(ready_fd, f"{DONE}\n".encode())
    os._exit(0)  # calls that hang for ever hold threads that would keep the process


def _begin(ready_fd: int) -> float:
    origin = time.monotonic() + LEAD
    os.write(ready_fd, f"{origin!r}\n".encode())
    return origin


class Recorder:
    """The client's journal: one append-only line an event, so that a SIGKILL loses nothing that was told."""

    def __init__(self, journal: str | os.PathLike[str], names: dict[str, str], generation: int) -> None:
        cut_torn_tail(journal)
        self._file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._encode = msgspec.json.Encoder().encode
        self._names = names
        self._operations: dict[int, _Watched] = {}
        #: By operation: its last attempt, until its call is over.
        self.attempts: dict[int, int] = {}
        self.first = generation * GENERATION
        #: The workload's start, of time.monotonic().
        self.origin = time.monotonic()
        self.write({"e": "start", "pid": os.getpid()})

    def now(self) -> float:
        """Seconds since the workload's start."""
        return time.monotonic() - self.origin

    def write(self, record: dict[str, Any]) -> None:
        """One line, in one write."""
        line = self._encode(record) + b"\n"
        if os.write(self._file, line) != len(line):
            raise OSError("the disk is full: a record of the journal was cut short")

    def heard(self, operation: int, message: int, attempt: int, repeat: bool) -> None:
        """A message of an answer stream has reached its caller."""
        line: dict[str, Any] = {"e": "heard", "id": operation, "m": message, "n": attempt}
        self.write({**line, "repeat": True} if repeat else line)

    def observed(self, event: Event) -> None:
        """The channel's observer: attempts, joined to operations by the call's metadata."""
        match event:
            case CallBegan():
                self._operations[event.call] = _Watched(next(int(v) for k, v in event.metadata if k == CALL))
            case AttemptBegan():
                watched = self._operations[event.call]
                watched.flying += 1
                self.attempts[watched.operation] = event.attempt
                self.write({
                    "e": "attempt", "id": watched.operation, "n": event.attempt, "sent": event.sent,
                    "server": self._names[event.endpoint.address], "t": event.at - self.origin,
                })  # fmt: skip
            case AttemptEnded():
                watched, outcome = self._operations[event.call], event.outcome
                watched.flying -= 1
                self.write({
                    "e": "attempt_end", "id": watched.operation, "n": event.attempt,
                    "code": outcome.code.name, "evidence": outcome.evidence.value, "t": event.at - self.origin,
                })  # fmt: skip
                self._forget(event.call)
            case CallEnded():
                self._operations[event.call].over = True
                self.attempts.pop(self._operations[event.call].operation, None)
                self._forget(event.call)
            case _:
                pass

    def _forget(self, call: int) -> None:
        """Once it is over: who loses the race of a hedge ends after its call has."""
        if self._operations[call].over and not self._operations[call].flying:
            del self._operations[call]


@dataclass(slots=True)
class _Watched:
    """A call of the channel: the operation it belongs to, and its attempts in flight."""

    operation: int
    flying: int = 0
    over: bool = False


class Calls:
    """Makes operations: each says that it begins, calls, and says how it ended."""

    def __init__(self, channel: grpc.Channel, recorder: Recorder, timeout: float | None) -> None:
        from harness.wire import HelloRequest, HelloStub

        self.stub = HelloStub(channel)
        self.request = HelloRequest
        self.timeout = timeout
        self._lock = threading.Lock()
        self._next = recorder.first
        self.recorder = recorder
        self.close = channel.close

    def one(self, due: float | None = None, *, item: int | None = None, mark: Mark | None = None) -> bool:
        """One operation, due at `due` (None: now). Returns whether it was answered, and rightly."""
        with self.operation(due, item=item, mark=mark) as operation:
            name = f"{operation.id}"
            reply = self.stub.SayHello(self.request(name=name), metadata=operation.metadata, timeout=self.timeout)
            if reply.message != f"Hello, {name}!":
                raise WrongAnswer(f"the answer was {reply.message!r}")
        return operation.ok

    @contextmanager
    def operation(
        self, due: float | None, *, item: int | None, mark: Mark | None = None, messages: int | None = None
    ) -> Iterator[Made]:
        """Around the call of one operation: tells that it begins, and by what is raised inside how it ended."""
        with self._lock:
            number = self._next
            self._next += 1
        began = self.recorder.now()
        repeat = mark is not None and mark.repeat
        metadata = [(CALL, str(number))]
        if item is not None:
            metadata.append((ITEM, str(item)))
        if mark is not None:
            metadata.extend(mark.metadata)
        told = {
            "e": "invoke", "id": number, "due": began if due is None else due, "t": began, "item": item, "repeat": repeat,
        }  # fmt: skip
        self.recorder.write(told if messages is None else {**told, "messages": messages})
        made = Made(number, metadata)
        try:
            yield made
        except Exception as error:
            result, code, detail = _ended_by(error)
        else:
            result, code, detail = "ok", "OK", ""
        made.ok = result == "ok"
        self.recorder.write(
            {"e": "end", "id": number, "t": self.recorder.now(), "result": result, "code": code, "detail": detail}
        )


@dataclass(slots=True)
class Made:
    """One operation: its number, what its call carries, and at the end whether it was answered, and rightly."""

    id: int
    metadata: list[tuple[str, str]]
    ok: bool = False


def _ended_by(error: Exception) -> tuple[str, str, str]:
    """Result, code and detail of an operation whose call raised this."""
    if isinstance(error, CallError):
        return ("info" if error.may_have_happened else "fail"), error.code().name, error.details()
    if isinstance(error, grpc.RpcError):  # a client of somebody else's
        return ("fail" if outcome_of(error).definite else "info"), error.code().name, error.details() or ""
    if isinstance(error, WrongAnswer):
        return "info", "WRONG_ANSWER", str(error)
    return "info", "UNKNOWN", f"{type(error).__name__}: {error}"


def _open(calls: Calls, arrivals: Iterable[float], patience: float) -> None:
    """Each call at its time, whatever the others do."""
    _on_time(calls, ((due, partial(calls.one, due)) for due in arrivals), patience)


def _on_time(calls: Calls, due: Iterable[tuple[float, Callable[[], object]]], patience: float) -> None:
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        for at, make in due:
            wait = at - calls.recorder.now()
            if wait > 0:
                time.sleep(wait)
            pool.submit(make).add_done_callback(_or_end)
        _let_finish(pool, calls, patience)


def _streams(
    calls: Calls, work: Streams, arrivals: Sequence[float], patience: float, client: Any, store: str, seed: int
) -> None:
    """Each stream at its time; those of a durable client that was killed go on where they were."""
    every = getattr(client, "checkpoint_every", None)
    with ExitStack() as stack:
        durable = None
        if every is not None:
            kept = stack.enter_context(CheckpointStore(store))
            durable = Durable(store=kept, checkpoint=client.policy.checkpoint, every=every, seed=seed)
        finished = (lambda _: False) if durable is None else durable.finished
        start = calls.recorder.now()
        due = still_due(arrivals, finished, start)
        reader = getattr(client, "READER", Reader)
        make = partial(read, calls, messages=work.messages, durable=durable, reader=reader)
        # What a killed client left is due when it begins, as in a batch: nobody can be late for it.
        _on_time(calls, ((at, partial(make, item, at if at > start else None)) for item, at in due), patience)


def _closed(calls: Calls, work: Closed, patience: float) -> None:
    """Each caller again after its last answer."""

    def caller() -> None:
        while calls.recorder.now() < work.seconds:
            calls.one()
            time.sleep(work.think)

    wait = -calls.recorder.now()
    if wait > 0:
        time.sleep(wait)
    with ThreadPoolExecutor(work.callers) as pool:
        for _ in range(work.callers):
            pool.submit(caller).add_done_callback(_or_end)
        _let_finish(pool, calls, work.seconds + patience)


def _or_end(work: Future[Any]) -> None:
    """A call that could not be recorded must not be missing in silence: the process ends, and says why."""
    if (error := work.exception()) is not None:
        traceback.print_exception(error)
        os._exit(1)


def _let_finish(pool: ThreadPoolExecutor, calls: Calls, patience: float) -> None:
    """Waits for the calls under way, then closes the channel under them: they end as cancelled."""
    closer = threading.Timer(patience, calls.close)
    closer.daemon = True
    closer.start()
    pool.shutdown(wait=True)
    closer.cancel()


def _batch(calls: Calls, work: Batch, every: int | None, store: str, seed: int) -> None:
    """The items in order, each until it is done: what fails is what the client's own policy could not save."""

    def do(index: int, mark: Mark | None) -> bool:
        while calls.recorder.now() < work.seconds:
            if calls.one(item=index, mark=mark):
                return True
            mark = mark and replace(mark, repeat=True)  # what failed may have been done all the same
        raise TimeoutError(f"the batch was not done within {work.seconds:g} s")

    wait = -calls.recorder.now()
    if wait > 0:
        time.sleep(wait)
    try:
        if every is None:
            for index in range(work.items):
                do(index, None)
            return
        with CheckpointStore(store) as checkpoints:
            with_mark: Callable[[int, Mark], bool] = do
            for _ in checkpointed(range(work.items), with_mark, store=checkpoints, name=f"batch-{seed}", every=every):
                pass
    except TimeoutError:
        return  # the history shows which items are missing


def read_journal(path: str | os.PathLike[str]) -> tuple[tuple[Operation, ...], int]:
    """The operations that a client's journal tells of, in the order of their beginning, and how often it was started.

    An operation without an end (the client was killed, or gave up) is "info": nobody can know. A torn last line is no
    record. ValueError, naming the line, for any other that is none: such a journal proves nothing.
    """
    invoked: dict[int, dict[str, Any]] = {}
    tried: dict[int, dict[int, dict[str, Any]]] = {}
    heard: dict[int, list[tuple[int, int, bool]]] = {}
    ended: dict[int, dict[str, Any]] = {}
    starts = 0
    for record in _records(path):
        match record["e"]:
            case "invoke":
                invoked[record["id"]] = record
            case "attempt" | "attempt_end":
                tried.setdefault(record["id"], {}).setdefault(record["n"], {})[record["e"]] = record
            case "heard":
                heard.setdefault(record["id"], []).append((record["m"], record["n"], "repeat" in record))
            case "end":
                ended[record["id"]] = record
            case "start":
                starts += 1
    operations = tuple(
        _operation(begun, tried.get(key, {}), pieces(heard.get(key, ())), ended.get(key))
        for key, begun in invoked.items()
    )
    return operations, starts


def _records(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    lines = whole_lines(path)
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for number, line in enumerate(lines, start=1):
        try:
            yield decode(line)
        except msgspec.DecodeError as error:
            raise ValueError(f"{path}, line {number} is not a record of a client's journal: {error}") from error


def _operation(
    begun: dict[str, Any], tries: dict[int, dict[str, Any]], heard: tuple[Piece, ...], end: dict[str, Any] | None
) -> Operation:
    return Operation(
        id=begun["id"],
        due=begun["due"],
        invoked=begun["t"],
        ended=None if end is None else end["t"],
        result="info" if end is None else end["result"],
        code="UNKNOWN" if end is None else end["code"],
        detail="" if end is None else end["detail"],
        attempts=tuple(_attempt(number, tries[number]) for number in sorted(tries)),
        item=begun["item"],
        repeat=begun["repeat"],
        messages=begun.get("messages"),
        heard=heard,
    )


def _attempt(number: int, told: dict[str, Any]) -> Attempt:
    began, end = told["attempt"], told.get("attempt_end")
    never_sent = end is not None and end["evidence"] == Evidence.NEVER_SENT.value
    return Attempt(
        number=number,
        server=began["server"],
        started=began["t"],
        ended=None if end is None else end["t"],
        code=None if end is None else end["code"],
        sent=0 if never_sent else began["sent"],
        lost=end is None or end["evidence"] == Evidence.LOST.value,
    )
