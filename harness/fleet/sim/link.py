"""Connections: messages take their time, and go through the toxics of the built-in proxy where some act.

What toxics do to bytes is decided in harness.proxy.pipe, as it is for real ones: a message is so many bytes, handed to
the pipe and delivered when its last byte comes out. Where no toxic acts, a message costs one event. How a connection ends
follows harness/proxy/link.py: an end passes through the toxics behind what was sent before it, a reset does not.

Not modelled: a sender that must wait because the other side does not read (TCP's flow control), lost packets.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from faults.network import NetworkFault
from harness.fleet.sim.engine import Action, Engine
from harness.proxy.pipe import Pipe, Toxic
from harness.proxy.stage import Actions, Deliver, End, Tally
from harness.proxy.toxics import check_attributes

if TYPE_CHECKING:
    from harness.fleet.sim.server import Server
    from harness.fleet.sim.subchannel import Subchannel

#: Seconds that a message takes from one process to the other, proxy included. Measured on loopback, two idle cores.
HOP = 0.0005
#: Seconds until a connection is made; then the server's greeting takes a HOP.
CONNECT = 0.002
#: Messages as bytes, as long as those of Hello in HTTP/2 are on average (grpcio 1.85.1): a call that is not the first of
#: its connection, its answer, its cancellation, the client's and the server's first words, and the server's last ones.
REQUEST, REPLY, CANCEL, PREFACE, GREETING, GOAWAY = (bytes(size) for size in (84, 78, 13, 300, 100, 34))
#: Of an answer stream: each message, beside the name in it, and what comes before the first and after the last one.
MESSAGE, LAST = bytes(26), bytes(49)
#: A question whether a server can serve, and the answer.
QUESTION, HEALTH = bytes(50), bytes(56)


class Way:
    """One direction of a connection. What is sent on it arrives as `action(argument)`."""

    __slots__ = ("_armed", "_connection", "_engine", "_pipe", "_slow", "_waiting", "over", "stream")

    def __init__(self, connection: Connection, engine: Engine, stream: str) -> None:
        self.stream = stream
        self._connection = connection
        self._engine = engine
        self._pipe: Pipe | None = None
        self._slow = False  # not the short way: a toxic acts, or it is over
        # In the pipe, with the bytes of each that are still to come out of it. Most ways never need it.
        self._waiting: deque[tuple[Action, Any, int]] | None = None
        self._armed: float | None = None
        self.over = False

    def send(self, action: Action, argument: Any, data: bytes) -> None:
        """The message `data`."""
        if not self._slow:
            engine = self._engine
            engine.at(engine.now + HOP, action, argument)
        elif self._pipe is not None:
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append((action, argument, len(data)))
            self._perform(self._pipe.received(data, self._engine.now))

    def end(self) -> None:
        """The sender will send no more."""
        if not self.over:
            self._perform((End(),) if self._pipe is None else self._pipe.ended(self._engine.now))

    def stop(self) -> None:
        """Nothing arrives any more of what is sent from now on, or is held by toxics."""
        self.over = self._slow = True
        self._pipe = None

    def put(self, toxic: Toxic) -> None:
        if not self.over:
            self._pipe = self._pipe or Pipe(f"{self._connection.key}/{self.stream}")
            self._slow = True
            self._perform(self._pipe.put(toxic, self._engine.now))

    def drop(self, toxic: Toxic) -> None:
        if self._pipe is not None:
            self._perform(self._pipe.drop(toxic.serial, self._engine.now))

    def _perform(self, actions: Actions) -> None:
        for action in actions:
            if self.over:
                return
            if isinstance(action, Deliver):
                self._deliver(len(action.data))
            elif isinstance(action, End):
                self.stop()
                self._connection.ended(self)
            else:
                self._connection.reset()
        if self._pipe is not None and self._pipe.empty:
            self._pipe, self._slow = None, False
        self._arm()

    def _deliver(self, size: int) -> None:
        """So many bytes came out of the pipe: whatever they complete arrives."""
        while size and self._waiting:
            action, argument, left = self._waiting.popleft()
            if left > size:
                self._waiting.appendleft((action, argument, left - size))
                return
            size -= left
            self._engine.at(self._engine.now + HOP, action, argument)

    def _arm(self) -> None:
        at = None if self._pipe is None else self._pipe.wake_at
        if at is not None and (self._armed is None or at < self._armed):
            self._armed = at
            self._engine.at(at, self._woke, at)

    def _woke(self, at: float) -> None:
        if at == self._armed:
            self._armed = None
            if self._pipe is not None:
                self._perform(self._pipe.woke(self._engine.now))


class Connection:
    """One client's connection to one server: two ways, and what is under way on it by either end's word.

    `client_gone`, `server_gone`: that end does not take part any more.
    """

    __slots__ = (
        "_engine",
        "_number",
        "_proxy",
        "client_gone",
        "down",
        "flying",
        "server_gone",
        "serving",
        "subchannel",
        "up",
    )

    def __init__(self, proxy: Proxy, subchannel: Subchannel, number: int) -> None:
        self._engine = engine = proxy.engine
        self._proxy = proxy
        self._number = number
        self.subchannel = subchannel
        self.up = Way(self, engine, "upstream")
        self.down = Way(self, engine, "downstream")
        self.flying: dict[Any, None] = {}  # attempts, as the client knows them
        self.serving: dict[Any, None] = {}  # attempts, as the server knows them
        self.client_gone = False
        self.server_gone = False

    @property
    def key(self) -> str:
        """What its toxics draw by."""
        return f"{self._proxy.key}/{self._number}"

    def closed_by_client(self) -> None:
        """The client closed it, or its process is gone."""
        self.client_gone = True
        self.down.stop()
        self.up.end()
        self._over()

    def closed_by_server(self) -> None:
        """The server closed it, or its process is gone."""
        self.server_gone = True
        self.serving.clear()
        self.up.stop()
        self.down.end()
        self._over()

    def ended(self, way: Way) -> None:
        """Who is at the end of `way` gets no more and is closed, so that it is no sender any more either."""
        if way is self.down:
            self._engine.at(self._engine.now + HOP, self._client_lost)
            self.up.end()
        else:
            self._engine.at(self._engine.now + HOP, self._server_lost)
            self.down.end()

    def reset(self) -> None:
        """Both ends lose it at once."""
        self.up.stop()
        self.down.stop()
        self._engine.at(self._engine.now + HOP, self._client_lost)
        self._engine.at(self._engine.now + HOP, self._server_lost)

    def _client_lost(self, _: None) -> None:
        if not self.client_gone:
            self.client_gone = True
            self.subchannel.lost(self)
            self._over()

    def _server_lost(self, _: None) -> None:
        if not self.server_gone:
            self.server_gone = True
            self._proxy.server.lost(self)
            self._over()

    def _over(self) -> None:
        if self.client_gone and self.server_gone:
            self._proxy.connections.pop(self, None)


class Proxy:
    """What stands before one server: it takes connections, unless it was told to refuse them, and adds its toxics."""

    __slots__ = ("_accepted", "_added", "_refuses", "_toxics", "connections", "engine", "key", "server")

    def __init__(self, engine: Engine, server: Server, seed: int) -> None:
        self.engine = engine
        self.server = server
        self.connections: dict[Connection, None] = {}
        self._refuses = False
        self.key = f"{seed}/{server.name}"
        self._toxics: dict[str, list[Toxic]] = {}  # by the fault's tag
        self._added = 0
        self._accepted = 0

    def connect(self, subchannel: Subchannel) -> None:
        """`subchannel` wants a connection: in a moment it is told that it has one, or that it is refused."""
        self.engine.at(self.engine.now + CONNECT, self._accept, (subchannel, subchannel.tries))

    def _accept(self, wanted: tuple[Subchannel, int]) -> None:
        subchannel, tries = wanted
        if self._refuses or not self.server.listening:
            self.engine.at(self.engine.now + HOP, subchannel.refused, tries)
            return
        self._accepted += 1
        connection = Connection(self, subchannel, self._accepted)
        self.connections[connection] = None
        for toxics in self._toxics.values():
            for toxic in toxics:
                _way(connection, toxic).put(toxic)
        if subchannel.opened(connection, tries):
            connection.up.send(_nothing, None, PREFACE)
            self.server.accepted(connection)

    def refuse(self) -> None:
        """Refuses new connections, and closes those that are open."""
        self._refuses = True
        for connection in list(self.connections):
            connection.reset()

    def allow(self) -> None:
        """Takes connections again."""
        self._refuses = False

    def add(self, fault: NetworkFault, tag: str) -> None:
        """`fault` acts from now on, on open connections, too."""
        toxics = self._toxics[tag] = []
        for toxic in fault.toxics():
            self._added += 1
            toxics.append(
                Toxic(
                    name=toxic.name, type=toxic.type, stream=toxic.stream, toxicity=1.0, serial=self._added,
                    attributes=check_attributes(toxic.type, toxic.attributes), tally=Tally(),
                )
            )  # fmt: skip
            for connection in list(self.connections):
                _way(connection, toxics[-1]).put(toxics[-1])

    def remove(self, tag: str) -> None:
        """The fault of this tag acts no more."""
        for toxic in self._toxics.pop(tag, ()):
            for connection in list(self.connections):
                _way(connection, toxic).drop(toxic)

    def touched(self, tag: str) -> int:
        """How often the fault of this tag acted."""
        return sum(toxic.tally.count for toxic in self._toxics.get(tag, ()))


def _way(connection: Connection, toxic: Toxic) -> Way:
    return connection.up if toxic.stream == "upstream" else connection.down


def _nothing(_: None) -> None:
    """A message that asks for nothing."""
