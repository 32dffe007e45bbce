"""The client's process: makes the calls of a workload when they are due. What harness/client.py does, in virtual time.

It can be paused and killed, and started again: work with checkpoints then goes on where its ledgers say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from faults import Fault, Kill, Pause, Restart
from harness.client import CONCURRENCY, GENERATION
from harness.client_streams import still_due
from harness.fleet.errors import FleetError
from harness.fleet.sim.driver import Driver, Operating, Then
from harness.fleet.sim.engine import Engine
from harness.fleet.sim.process import Process
from harness.fleet.sim.server import Server
from harness.fleet.sim.stream import Stream
from harness.history import Server as Known
from harness.scenario import Plan, Scenario
from harness.workload import Batch, Closed, Streams
from stormproof.core.ledger import Ledger, Mark, Progress

#: Seconds that a client's process needs from its start to its first call.
START = 0.2


class Client:
    """The client, over all of its processes. `over` is called when it is `through` with the workload."""

    def __init__(
        self,
        engine: Engine,
        scenario: Scenario,
        plan: Plan,
        known: Sequence[Known],
        servers: Mapping[str, Server],
        over: Callable[[], None],
    ) -> None:
        self.name = "client"
        self.operations: list[Operating] = []
        self.starts = 0
        self._engine = engine
        self._scenario = scenario
        self._plan = plan
        self._known = known
        self._servers = servers
        self._over = over
        self.through = False
        self._kept: dict[str, Progress] = {}  # what it has on its disk, by the name of the work
        self._suffers: list[tuple[Fault, str]] = []
        self._down = False
        self._process = Process()
        self._driver = self._started()

    def begin(self, _: None = None) -> None:
        """Its process is ready: the workload begins, or goes on."""
        process, driver, work = self._process, self._driver, self._scenario.workload
        if process.stopped:
            process.put_off(self.begin, None)
            return
        driver.begin()
        if isinstance(work, Batch):
            name = f"batch-{self._plan.seed}"
            keep, ledger = partial(self._keep, name), self._ledger(name)
            _Items(self._engine, process, driver, work, keep, ledger, self._is_through).next()
        elif isinstance(work, Closed):
            _Callers(self._engine, process, driver, work, self._scenario.patience, self._is_through)
        else:
            call = driver.call  # one for all: 64 bytes a call
            due = [(at, call) for at in self._plan.arrivals]
            if isinstance(work, Streams):
                due = [(at, partial(self._read, driver, work, item)) for item, at in self._still_due()]
            _Schedule(self._engine, process, driver, due, self._scenario.patience, self._is_through)

    def end(self) -> None:
        """Its process is gone, and the kernel closes its connections."""
        self._process.end()
        self._driver.end()

    def _started(self) -> Driver:
        first = self.starts * GENERATION
        self.starts += 1
        return Driver(
            self._engine, self._process, self._client, self._servers, self._known, self.operations,
            seed=self._plan.seed, first=first,
        )  # fmt: skip

    @property
    def _client(self) -> Any:
        return self._scenario.client

    def _is_through(self) -> None:
        self.through = True
        self._over()

    def _keep(self, name: str, progress: Progress) -> None:
        self._kept[name] = progress

    def _ledger(self, name: str) -> Ledger | None:
        every: int | None = self._client.checkpoint_every
        if every is None:
            return None
        kept = self._kept.get(name) or Progress(done=0, begun=0)
        ledger: Ledger = self._client.LEDGER(kept, name=name, every=every)
        return ledger

    def _still_due(self) -> Iterable[tuple[int, float]]:
        def finished(item: int) -> bool:
            kept = self._kept.get(f"stream-{item}")
            return kept is not None and kept.finished

        return still_due(self._plan.arrivals, finished, self._engine.now)

    def _read(self, driver: Driver, work: Streams, item: int, due: float, then: Then) -> None:
        """Begins to read the stream of this number."""
        name = f"stream-{item}"
        checkpoint, keep = self._client.policy.checkpoint, partial(self._keep, name)
        stream = Stream(item, work.messages, checkpoint, self._ledger(name), keep, self._client.READER())
        driver.call(due, then, item=item, stream=stream)

    # What is done to it, in steps: each gives the seconds until the next one.

    def apply(self, fault: Fault, tag: str) -> Iterator[float]:
        """Lets `fault` act. FleetError if it cannot."""
        self._suffers.append((fault, tag))
        if isinstance(fault, Pause):
            self._process.pause()
            return
        if not self._down and self.through:
            raise FleetError("the client was through before it could be killed; give it more items, or kill it earlier")
        self._down = True
        self.end()
        if isinstance(fault, Restart):
            yield fault.downtime
            self._revive()

    def heal(self, fault: Fault, tag: str) -> Iterator[float]:
        """Ends what `apply` of that tag began."""
        if (fault, tag) in self._suffers:
            self._suffers.remove((fault, tag))
        if not isinstance(fault, Pause):
            self._revive()
        elif not self._has(Pause):
            self._process.go_on()
        yield from ()

    def touched(self, fault: Fault, tag: str) -> int | None:  # noqa: ARG002
        """Only the traffic can tell."""
        return None

    def _has(self, kind: type[Fault]) -> bool:
        return any(isinstance(fault, kind) for fault, _ in self._suffers)

    def _revive(self) -> None:
        if self._down and not self._has(Kill):
            self._down = False
            self._process = Process()
            self._driver = self._started()
            self._engine.at(self._engine.now + START, self.begin)


#: Begins an operation that was due then, and says who is told of its end.
Make = Callable[[float, Then], object]


class _Schedule:
    """Each operation at its time, whatever the others do; no more than CONCURRENCY at once."""

    __slots__ = (
        "_backlog", "_driver", "_due_then", "_engine", "_next", "_over", "_patience", "_process", "_under_way",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        process: Process,
        driver: Driver,
        due: Sequence[tuple[float, Make]],
        patience: float,
        over: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._process = process
        self._driver = driver
        self._due_then = due
        self._patience = patience
        self._over = over
        self._next = 0
        self._under_way = 0
        self._backlog: deque[tuple[float, Make]] = deque()
        self._plan_next()

    def _plan_next(self) -> None:
        if self._next < len(self._due_then):
            self._engine.at(self._due_then[self._next][0], self._due)
        else:
            self._engine.at(self._engine.now + self._patience, self._close)
            self._look()

    def _due(self, _: None) -> None:
        if self._process.stopped:
            self._process.put_off(self._due, None)
            return
        due, make = self._due_then[self._next]
        self._next += 1
        if self._under_way < CONCURRENCY:
            self._under_way += 1
            make(due, self._ended)
        else:
            self._backlog.append((due, make))
        self._plan_next()

    def _ended(self, _: Operating) -> None:
        if self._backlog:
            due, make = self._backlog.popleft()
            make(due, self._ended)
        else:
            self._under_way -= 1
            self._look()

    def _look(self) -> None:
        if not self._under_way and self._next == len(self._due_then):
            self._over()

    def _close(self, _: None) -> None:
        if not self._process.gone:
            self._driver.close()


class _Callers:
    """Each caller again after its last answer."""

    def __init__(
        self, engine: Engine, process: Process, driver: Driver, work: Closed, patience: float, over: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._process = process
        self._driver = driver
        self._work = work
        self._over = over
        self._left = work.callers
        for _ in range(work.callers):
            engine.at(engine.now, self._turn)
        engine.at(engine.now + work.seconds + patience, lambda _: driver.close())

    def _turn(self, _: None) -> None:
        if self._process.stopped:
            self._process.put_off(self._turn, None)
        elif self._engine.now < self._work.seconds:
            self._driver.call(self._engine.now, self._ended)
        else:
            self._left -= 1
            if not self._left:
                self._over()

    def _ended(self, _: Operating) -> None:
        self._engine.at(self._engine.now + self._work.think, self._turn)


class _Items:
    """The items of a batch in order, each until it is done; `keep` puts the ledger's progress where a kill leaves it."""

    def __init__(
        self,
        engine: Engine,
        process: Process,
        driver: Driver,
        work: Batch,
        keep: Callable[[Progress], None],
        ledger: Ledger | None,
        over: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._process = process
        self._driver = driver
        self._work = work
        self._keep = keep
        self._ledger = ledger
        self._over = over
        self._item = 0 if ledger is None else ledger.was.done
        self._mark: Mark | None = None

    def next(self) -> None:
        """The next item comes, or there are no more."""
        ledger = self._ledger
        if self._item == self._work.items:
            if ledger is not None:
                ledger.whole()
            self._end()
            return
        if ledger is not None:
            self._keep_if(ledger.came())
            self._mark = ledger.hand_out()
        self._try()

    def _try(self) -> None:
        if self._engine.now < self._work.seconds:
            self._driver.call(self._engine.now, self._ended, item=self._item, mark=self._mark)
        else:
            self._end()

    def _ended(self, call: Operating) -> None:
        self._engine.at(self._engine.now, self._goes_on, call)

    def _goes_on(self, call: Operating) -> None:
        if self._process.stopped:
            self._process.put_off(self._goes_on, call)
        elif call.result != "ok":
            self._mark = self._mark and replace(self._mark, repeat=True)  # what failed may have been done all the same
            self._try()
        else:
            if self._ledger is not None:
                self._keep_if(self._ledger.taken())
            self._item += 1
            self.next()

    def _keep_if(self, due: Progress | None) -> None:
        if due is not None:
            self._keep(due)

    def _end(self) -> None:
        if self._ledger is not None:
            self._keep(self._ledger.now)
        self._over()
