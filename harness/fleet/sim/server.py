"""A server: workers, a queue, misbehaviour, and how its process ends. What harness/node/ does, in virtual time.

A call is noted when it arrives; it is refused or fails at once if it is told to (harness.node.conduct decides, as in a
real server), else it waits for one of the workers, in the order of arrival, and works for the service time. It ends early
when its caller cancels it, its connection ends, or the time that its caller left it is over.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from enum import IntEnum
from typing import TYPE_CHECKING

from faults import CpuHog, Drain, Fault, FileDescriptors, Kill, Pause, Refuse, Restart
from faults.network import NetworkFault
from faults.server import ServerFault
from harness.fleet.errors import FleetError
from harness.fleet.misbehaviour import behaviour, check_together, counted, seed_for
from harness.fleet.sim.engine import Engine
from harness.fleet.sim.health import Question
from harness.fleet.sim.link import GOAWAY, GREETING, HEALTH, LAST, MESSAGE, REPLY, Connection, Proxy
from harness.fleet.sim.process import Process
from harness.fleet.slices import LEAST, PERIOD
from harness.node.conduct import Conduct
from harness.node.hello import QUEUE_FULL, SERVICES
from harness.node.server import GRACE
from harness.service_time import Draws
from stormproof.core.outcome import Code, Evidence, Outcome

if TYPE_CHECKING:
    from harness.fleet.sim.driver import Attempt
    from harness.scenario import Servers

#: Seconds that a server's process needs until it listens.
START = 0.2
#: Seconds between two looks whether a process has ended.
LOOK = 0.001
#: What a client hears of a call that found no worker free and the queue full.
FULL = Outcome(Code.RESOURCE_EXHAUSTED, Evidence.ANSWERED, QUEUE_FULL)
#: What a client hears of a call that comes to a server which takes no more: nobody can know whether it was begun.
TURNED_AWAY = Outcome(Code.CANCELLED, Evidence.LOST, "CANCELLED")
#: What a client hears that asks for the health of a service which is not here.
NOT_FOUND = Outcome(Code.NOT_FOUND, Evidence.ANSWERED, "there is no such service here")
_UNANSWERED = frozenset({Code.CANCELLED, Code.DEADLINE_EXCEEDED})


class Phase(IntEnum):
    """Where an attempt is in its server."""

    AWAY = 0
    QUEUED = 1
    WORKING = 2
    OVER = 3
    HUNG = 4


_UNDER_WAY = (Phase.WORKING, Phase.QUEUED, Phase.HUNG)


class Server:
    """One server, over all of its processes. `journal` holds the attempts that arrived, in their order."""

    __slots__ = (
        "_busy",
        "_cold_start",
        "_conduct",
        "_connections",
        "_constant",
        "_draining",
        "_draws",
        "_left_waiting",
        "_misbehaves",
        "_most",
        "_process",
        "_queue",
        "_running",
        "_seed",
        "_slicing",
        "_suffers",
        "_waiting",
        "_workers",
        "engine",
        "journal",
        "listening",
        "name",
        "proxy",
    )  # fmt: skip

    def __init__(self, engine: Engine, name: str, servers: Servers, seed: int) -> None:
        self.name = name
        self.engine = engine
        self.proxy = Proxy(engine, self, seed)
        self.journal: list[Attempt] = []
        self.listening = True
        self._process = Process()
        self._workers = servers.workers
        self._most = servers.queue
        self._cold_start = servers.cold_start
        self._waiting = 0
        self._draws = Draws(
            servers.service_time, 0 if isinstance(servers.service_time, int | float) else seed_for(name, seed)
        )
        self._constant = self._draws.constant
        self._connections: dict[Connection, None] = {}
        self._queue: deque[Attempt] | None = None  # most servers never need one
        self._busy = 0
        self._running = 0
        self._draining = False
        self._conduct: Conduct | None = None  # while it never misbehaved
        self._seed = seed
        self._misbehaves: dict[str, tuple[ServerFault, int]] = {}  # by tag: the fault, and what was counted before it
        self._suffers: list[tuple[Fault, str]] = []
        self._left_waiting: list[Connection] = []  # by a process that can open no more
        self._slicing = False

    # What its clients do.

    def accepted(self, connection: Connection) -> None:
        """The kernel takes the connection, also for a process that is paused."""
        self._connections[connection] = None
        if self._has(FileDescriptors):
            self._left_waiting.append(connection)
        else:
            self._greet(connection)

    def _greet(self, connection: Connection) -> None:
        if self._process.stopped:
            self._process.put_off(self._greet, connection)
        else:
            connection.down.send(connection.subchannel.greeted, connection, GREETING)

    def requested(self, attempt: Attempt) -> None:
        """A request arrived."""
        if self._process.stopped:
            self._process.put_off(self.requested, attempt)
            return
        connection = attempt.connection
        assert connection is not None
        if connection.server_gone:
            return
        if self._draining:
            attempt.answer = TURNED_AWAY
            connection.down.send(connection.subchannel.answered, attempt, REPLY)
            return
        now = self.engine.now
        self.journal.append(attempt)
        attempt.received = now
        connection.serving[attempt] = None
        if attempt.remaining is not None:
            attempt.expires = now + attempt.remaining
        conduct = self._conduct
        manner = None if conduct is None else conduct.decide(attempt.call.id, attempt.sent, self._running, now)
        self._running += 1
        if manner is not None and manner.code is not None:
            attempt.answer = answered(Code(manner.code.value[0]), manner.why)
            self._ended(attempt, manner.code.name)
            connection.down.send(connection.subchannel.answered, attempt, REPLY)
            return
        if manner is not None and manner.hang:
            attempt.phase = Phase.HUNG
            if attempt.expires < math.inf:
                self.engine.at(attempt.expires, self._expired, attempt)
            return
        attempt.delay = manner.delay if manner is not None else 0.0
        attempt.wrong = manner is not None and manner.wrong
        if self._busy < self._workers:
            self._work(attempt)
            return
        if self._most is not None and self._waiting >= self._most:
            attempt.answer = FULL
            self._ended(attempt, FULL.code.name)
            connection.down.send(connection.subchannel.answered, attempt, REPLY)
            return
        attempt.phase = Phase.QUEUED
        self._waiting += 1
        if self._queue is None:
            self._queue = deque()
        self._queue.append(attempt)
        if attempt.expires < math.inf:
            self.engine.at(attempt.expires, self._expired, attempt)

    def asked(self, question: Question) -> None:
        """Somebody wants to know whether it can serve. No worker is needed to say so; it may be told to lie."""
        if self._process.stopped:
            self._process.put_off(self.asked, question)
            return
        connection = question.connection
        assert connection is not None
        if not connection.server_gone:
            if self._draining:
                question.answer = TURNED_AWAY
            elif question.service not in SERVICES:
                question.answer = NOT_FOUND
            elif self._conduct is not None:
                question.serving = self._conduct.serving(True)
            connection.down.send(connection.subchannel.answered, question, HEALTH)

    def cancelled(self, attempt: Attempt | Question) -> None:
        """Its caller gave it up."""
        if self._process.stopped:
            self._process.put_off(self.cancelled, attempt)
        elif isinstance(attempt, Question):
            return
        elif attempt.phase in _UNDER_WAY:
            self._ended(attempt, "CANCELLED")

    def lost(self, connection: Connection) -> None:
        """The connection is gone, and with it whoever waited for an answer."""
        if self._process.stopped:
            self._process.put_off(self.lost, connection)
            return
        self._connections.pop(connection, None)
        for attempt in list(connection.serving):
            self._ended(attempt, "CANCELLED")

    # Its work.

    def _work(self, attempt: Attempt) -> None:
        attempt.phase = Phase.WORKING
        self._busy += 1
        self._work_on(attempt, attempt.delay)

    def _work_on(self, attempt: Attempt, seconds: float) -> None:
        """The work begins `seconds` from now; of an answer stream that for the next message, if there is one."""
        stream = attempt.call.stream
        if stream is None or attempt.said < stream.messages:
            part = 0 if stream is None else attempt.said + 1
            seconds += self._constant or self._draws.seconds(attempt.call.id, attempt.sent, part)
        done = self.engine.now + seconds
        if done < attempt.expires:
            self.engine.at(done, self._worked, attempt)
        else:
            self.engine.at(attempt.expires, self._expired, attempt)

    def _worked(self, attempt: Attempt) -> None:
        if self._process.stopped:
            self._process.put_off(self._worked, attempt)
        elif attempt.phase is Phase.WORKING:
            connection, stream = attempt.connection, attempt.call.stream
            assert connection is not None
            if stream is not None and attempt.said < stream.messages:
                attempt.said += 1
                message = MESSAGE + bytes(stream.messages)
                connection.down.send(connection.subchannel.heard, (attempt, attempt.said), message)
                if attempt.said < stream.messages:
                    self._work_on(attempt, 0.0)
                    return
            attempt.executed = self.engine.now
            self._ended(attempt, "OK")
            connection.down.send(connection.subchannel.answered, attempt, REPLY if stream is None else LAST)

    def _expired(self, attempt: Attempt) -> None:
        """Nobody waits for it any more: its own deadline says so, whatever has become of the caller's word."""
        self.cancelled(attempt)

    def _ended(self, attempt: Attempt, code: str) -> None:
        was, attempt.phase = attempt.phase, Phase.OVER
        attempt.status = code
        attempt.left = self.engine.now
        self._running -= 1
        if attempt.connection is not None:
            attempt.connection.serving.pop(attempt, None)
        if was is Phase.QUEUED:
            self._waiting -= 1  # it stays in the queue until its turn would come
        elif was is Phase.WORKING:
            self._busy -= 1
            while self._queue:
                waiting = self._queue.popleft()
                if waiting.phase is Phase.QUEUED:
                    self._waiting -= 1
                    self._work(waiting)
                    break

    # What is done to it. Those that take time are steps: each gives the seconds until the next one.

    def apply(self, fault: Fault, tag: str) -> Iterator[float]:
        """Lets `fault` act. FleetError if it cannot."""
        self._suffers.append((fault, tag))
        match fault:
            case Refuse():
                self.proxy.refuse()
            case NetworkFault():
                self.proxy.add(fault, tag)
            case Kill():
                self._kill()
            case Pause():
                self._pause()
            case CpuHog():
                if not self._slicing:
                    self._slicing = True
                    self._slice(True)
            case FileDescriptors():
                pass  # see `accepted`: an old connection is not harmed
            case Drain():
                yield from self._stop(fault.grace)
            case Restart():
                if fault.graceful:
                    yield from self._stop(GRACE)
                else:
                    self._kill()
                yield fault.downtime
                yield from self._revive()
            case ServerFault():
                self._misbehave(fault, tag)

    def heal(self, fault: Fault, tag: str) -> Iterator[float]:
        """Ends what `apply` of that tag began."""
        if (fault, tag) in self._suffers:
            self._suffers.remove((fault, tag))
        match fault:
            case Refuse():
                if not self._has(Refuse):
                    self.proxy.allow()
            case NetworkFault():
                self.proxy.remove(tag)
            case Pause():
                if not self._has(Pause):
                    self._process.go_on()
            case FileDescriptors():
                if not self._has(FileDescriptors):
                    waiting, self._left_waiting = self._left_waiting, []
                    for connection in waiting:
                        self._greet(connection)
            case Kill() | Drain() | Restart():
                yield from self._revive()
            case ServerFault():
                if self._misbehaves.pop(tag, None) is not None and self._conduct is not None:
                    self._behave()

    def touched(self, fault: Fault, tag: str) -> int | None:
        """How often it acted; None where only the traffic can tell."""
        if isinstance(fault, ServerFault):
            return self._count(tag)
        return None if isinstance(fault, Refuse) or not isinstance(fault, NetworkFault) else self.proxy.touched(tag)

    def _has(self, *kinds: type[Fault]) -> bool:
        return any(isinstance(fault, kinds) for fault, _ in self._suffers)

    def _kill(self) -> None:
        """The process is gone, and the kernel closes its connections."""
        self._process.end()
        self.listening = self._draining = False
        self._queue = None
        self._busy = self._running = self._waiting = 0
        for connection in list(self._connections):
            for attempt in connection.serving:
                attempt.phase = Phase.OVER
            connection.closed_by_server()
        self._connections.clear()

    def _slice(self, stop: bool) -> None:
        """Stops the process for its slice of every period, or lets it go on, as long as something takes its time."""
        shares = [fault.share for fault, _ in self._suffers if isinstance(fault, CpuHog)]
        taken = min(1.0 - LEAST, sum(shares)) * PERIOD
        if not self._process.gone and not self._has(Pause):
            if stop and shares:
                self._process.pause()
            else:
                self._process.go_on()
        self._slicing = bool(shares)
        if shares:
            self.engine.at(self.engine.now + (taken if stop else PERIOD - taken), self._slice, not stop)

    def _pause(self) -> None:
        if self._process.gone:
            raise FleetError(f"{self.name} cannot be stopped: it has ended")
        self._process.pause()

    def _stop(self, grace: float) -> Iterator[float]:
        """SIGTERM: it takes nothing more and finishes what it has begun, but for no longer than `grace`."""
        process, until = self._process, self.engine.now + grace
        if not process.gone:
            self._drain(process)
        while not process.gone and self.engine.now < until:
            yield LOOK
        if not process.gone:
            self._kill()

    def _drain(self, process: Process) -> None:
        if process.stopped:
            process.put_off(self._drain, process)
            return
        self.listening, self._draining = False, True
        for connection in self._connections:
            connection.down.send(connection.subchannel.told_to_leave, connection, GOAWAY)
        self.engine.at(self.engine.now + GRACE, self._ends, (process, True))
        self._ends((process, False))

    def _ends(self, ending: tuple[Process, bool]) -> None:
        """The process ends once all work is done, or now, if its time is over."""
        process, over = ending
        if process is not self._process or process.gone:
            return
        if process.stopped:
            process.put_off(self._ends, ending)
        elif not self._running or over:
            for attempt in [a for connection in self._connections for a in connection.serving]:
                self._ended(attempt, "CANCELLED")
            self._kill()
        else:
            self.engine.at(self.engine.now + LOOK, self._ends, ending)

    def _revive(self) -> Iterator[float]:
        """Starts it again, if it is down and nothing keeps it down; what keeps it paused keeps it so."""
        if not self._process.gone or self._has(Kill, Drain):
            return
        self._process = Process()
        yield START + self._cold_start
        self.listening = True
        if self._has(Pause):
            self._process.pause()

    def settle(self) -> None:
        """The run is over: it finishes what it still does."""
        self.engine.task(self._stop(GRACE))

    # Its misbehaviour.

    def _misbehave(self, fault: ServerFault, tag: str) -> None:
        if self._process.gone or self._has(Pause):
            raise FleetError(f"{self.name} took no order: it is {'down' if self._process.gone else 'paused'}")
        check_together(self.name, [fault, *self._faults()])
        self._conduct = self._conduct or Conduct(self.name)
        self._misbehaves[tag] = (fault, counted(fault, self._conduct.observed()))
        self._behave()

    def _behave(self) -> None:
        assert self._conduct is not None
        self._conduct.behave(behaviour(self._faults(), seed_for(self.name, self._seed)), self.engine.now)

    def _faults(self) -> list[ServerFault]:
        return [fault for fault, _ in self._misbehaves.values()]

    def _count(self, tag: str) -> int | None:
        if tag not in self._misbehaves or self._conduct is None:
            return None
        fault, before = self._misbehaves[tag]
        return counted(fault, self._conduct.observed()) - before


def answered(code: Code, message: str) -> Outcome:
    """The server's own word, as a client takes it: a status that gRPC may have made up itself is none."""
    return Outcome(code, Evidence.LOST if code in _UNANSWERED else Evidence.ANSWERED, message)
