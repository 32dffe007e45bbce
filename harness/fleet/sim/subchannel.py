"""One client's way to one server: when it connects, and when it connects again. What gRPC does for each endpoint's channel.

    state       event                            next state
    IDLE        an attempt                       CONNECTING; the attempt waits
    CONNECTING  greeted by the server            READY; what waits is sent
    CONNECTING  refused, or no greeting in time  FAILING; what waits was never sent
    READY       the connection ended             IDLE; what was under way is lost
    READY       the server takes no more         IDLE; what is under way goes on there
    FAILING     an attempt                       FAILING; it was never sent
    FAILING     greeted, having tried again      READY

In FAILING it connects again by itself, after a backoff. Sources: gRPC's connection-backoff.md and gRFC A62; the
figures are those of stormproof/subchannels.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.fleet.sim.health import Question
from harness.fleet.sim.link import CANCEL, QUESTION, REQUEST, Connection
from stormproof.core.outcome import Code, Evidence, Outcome

if TYPE_CHECKING:
    from harness.fleet.sim.driver import Attempt, Driver
    from harness.fleet.sim.server import Server

#: Seconds of the first wait before connecting again, of the longest, and by what each is longer than the last.
FIRST, LONGEST, GROWTH = 0.05, 0.5, 1.6
#: By what fraction a wait may be longer or shorter.
JITTER = 0.2
#: Seconds that one try to connect may take.
PATIENCE = 1.0
#: Seconds until an attempt is told that there is no connection.
FAST = 0.00025
LOST = Outcome(Code.UNAVAILABLE, Evidence.LOST, "Stream removed (Socket closed)")
NEVER_SENT = Outcome(Code.UNAVAILABLE, Evidence.NEVER_SENT, "failed to connect to all addresses")


class Subchannel:
    """The connection of `driver` to `server`. `tries` counts the times that it began to connect."""

    __slots__ = (
        "_connecting", "_driver", "_failing", "_failures", "_next_try", "_opening", "_ready", "_waiting", "server", "tries",
    )  # fmt: skip

    def __init__(self, driver: Driver, server: Server) -> None:
        self.server = server
        self.tries = 0
        self._driver = driver
        self._ready: Connection | None = None
        self._opening: Connection | None = None  # made, but nobody has spoken on it
        self._connecting = False
        self._failing = False
        self._failures = 0  # in a row
        self._next_try = 0.0
        self._waiting: list[Attempt | Question] = []

    def send(self, attempt: Attempt | Question) -> None:
        """An attempt is to be made here, or its server to be asked."""
        if self._ready is not None:
            self._send(attempt, self._ready)
        elif self._failing:
            engine = self._driver.engine
            engine.at(engine.now + FAST, self._unsent, attempt)
        else:
            self._waiting.append(attempt)
            if not self._connecting:
                self._connect()

    def cancel(self, attempt: Attempt | Question) -> None:
        """It was given up; its server hears of it, if it may have heard of the attempt."""
        connection = attempt.connection
        if connection is not None and connection.flying.pop(attempt, attempt) is None:
            connection.up.send(self.server.cancelled, attempt, CANCEL)

    def _send(self, attempt: Attempt | Question, connection: Connection) -> None:
        attempt.connection = connection
        if attempt.deadline is not None:
            attempt.remaining = attempt.deadline - self._driver.engine.now
        connection.flying[attempt] = None
        if isinstance(attempt, Question):
            connection.up.send(self.server.asked, attempt, QUESTION)
            return
        stream = attempt.call.stream
        data = REQUEST if stream is None else REQUEST + bytes(stream.messages)  # it greets a name as long as that
        connection.up.send(self.server.requested, attempt, data)

    def _unsent(self, attempt: Attempt | Question) -> None:
        if self._driver.process.stopped:
            self._driver.process.put_off(self._unsent, attempt)
        else:
            self._driver.ended(attempt, NEVER_SENT)

    def _connect(self) -> None:
        now = self._driver.engine.now
        self._connecting = True
        self.tries += 1
        wait = min(FIRST * GROWTH**self._failures, LONGEST) * self._driver.rng.uniform(1 - JITTER, 1 + JITTER)
        self._next_try = now + wait
        self._driver.engine.at(now + max(PATIENCE, wait), self.refused, self.tries)
        self.server.proxy.connect(self)

    def opened(self, connection: Connection, tries: int) -> bool:
        """The kernels have connected, which is no more than that. False: it came too late."""
        if tries != self.tries or not self._connecting or self._driver.process.gone:
            connection.closed_by_client()
            connection.closed_by_server()
            return False
        self._opening = connection
        self._driver.connections[connection] = None
        return True

    def refused(self, tries: int) -> None:
        """It could not be connected, or not in time."""
        if self._driver.process.stopped:
            self._driver.process.put_off(self.refused, tries)
            return
        if tries != self.tries or not self._connecting:
            return
        if self._opening is not None:
            opening, self._opening = self._opening, None
            self._driver.connections.pop(opening, None)
            opening.closed_by_client()
        self._connecting = False
        self._failing = True
        self._failures += 1
        engine = self._driver.engine
        engine.at(max(engine.now, self._next_try), self._again, tries)
        waiting, self._waiting = self._waiting, []
        for attempt in waiting:
            self._driver.ended(attempt, NEVER_SENT)

    def _again(self, tries: int) -> None:
        if self._driver.process.stopped:
            self._driver.process.put_off(self._again, tries)
        elif tries == self.tries and not self._connecting and not self._driver.closed:
            self._connect()

    def greeted(self, connection: Connection) -> None:
        """The server has spoken: it is there."""
        if self._driver.process.stopped:
            self._driver.process.put_off(self.greeted, connection)
            return
        if connection is not self._opening:
            return
        self._ready, self._opening = connection, None
        self._connecting = self._failing = False
        self._failures = 0
        waiting, self._waiting = self._waiting, []
        for attempt in waiting:
            if attempt.ended is None:
                self._send(attempt, connection)

    def told_to_leave(self, connection: Connection) -> None:
        """GOAWAY: the server takes no more, and finishes what it has."""
        if self._driver.process.stopped:
            self._driver.process.put_off(self.told_to_leave, connection)
        elif connection is self._ready:
            self._ready = None

    def answered(self, attempt: Attempt | Question) -> None:
        """An answer arrived."""
        if self._driver.process.stopped:
            self._driver.process.put_off(self.answered, attempt)
        elif attempt.connection is not None and attempt.connection.flying.pop(attempt, attempt) is None:
            self._driver.ended(attempt, attempt.answer)

    def heard(self, what: tuple[Attempt, int]) -> None:
        """A message of an answer stream arrived."""
        attempt, number = what
        if self._driver.process.stopped:
            self._driver.process.put_off(self.heard, what)
        elif attempt.connection is not None and attempt in attempt.connection.flying:
            self._driver.heard(attempt, number)

    def lost(self, connection: Connection) -> None:
        """The connection is gone."""
        if self._driver.process.stopped:
            self._driver.process.put_off(self.lost, connection)
            return
        self._driver.connections.pop(connection, None)
        if connection is self._opening:
            self._opening = None
            self.refused(self.tries)
            return
        if connection is self._ready:
            self._ready = None
        flying, connection.flying = connection.flying, {}
        for attempt in flying:
            self._driver.ended(attempt, LOST)
