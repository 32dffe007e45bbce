"""The proxies of one built-in server: their listeners, their toxics, their open connections and their
counters.

What a request may say is checked in `wire`; here it is done. A change that fails leaves everything as it was.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field, replace

from harness.proxy import address
from harness.proxy.link import Connection, Flow, Room, Side
from harness.proxy.pipe import Toxic
from harness.proxy.stage import Tally

#: Seconds until an upstream that does not answer counts as one that refuses.
DIAL = 5.0
BACKLOG = 1024
#: Proxies that are gone whose counters are kept: not all of them, else memory would grow with everyone that ever was.
OUTLIVING = 1000
#: What counts the connections that disabling a proxy closed; Toxiproxy calls that toxic `down`.
DOWN = "down"


@dataclass(slots=True)
class Account:
    """What was counted for proxies of one name; it outlives them, as counters should (the last `OUTLIVING` do)."""

    flows: dict[tuple[str, str, str], Flow] = field(default_factory=dict)  # by direction, listener and upstream
    tallies: dict[str, Tally] = field(default_factory=dict)  # by the toxic's name
    connections: int = 0

    def flow(self, direction: str, listener: str, upstream: str) -> Flow:
        return self.flows.setdefault((direction, listener, upstream), Flow())

    def tally(self, toxic: str) -> Tally:
        return self.tallies.setdefault(toxic, Tally())


class Proxy:
    """One listener and what goes through it. `listen` is the real address once it listened."""

    def __init__(self, name: str, listen: str, upstream: str, *, seed: int, account: Account, room: Room) -> None:
        self.name = name
        self.listen = listen
        self.upstream = upstream
        self._key = f"{seed}/{name}"  # what its chances are drawn from
        self._account = account
        self._room = room
        self._toxics: dict[str, Toxic] = {}
        self._added = 0
        self._accepted = 0
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._dials: set[asyncio.Task[None]] = set()

    @property
    def enabled(self) -> bool:
        return self._server is not None

    @property
    def toxics(self) -> list[Toxic]:
        """Those of the upstream first, each stream in the order in which they act."""
        return sorted(self._toxics.values(), key=lambda toxic: toxic.stream.lower() != "upstream")

    def toxic(self, name: str) -> Toxic | None:
        return self._toxics.get(name)

    async def start(self) -> None:
        """Listens, if it does not. Raises ValueError or OSError, and then it is as before."""
        if self._server is None:
            await self._listen(self.listen)

    def stop(self) -> None:
        """Refuses new connections and closes those that are open; the toxics stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._close_all()

    def disable(self) -> None:
        """`stop` as a fault: the connections it closes are counted."""
        self._account.tally(DOWN).count += len(self._connections)
        self.stop()

    async def listens(self, listen: str) -> bool:
        """Whether `listen` names the address that it has already. Raises ValueError or OSError."""
        return await address.resolve(listen) == self.listen

    def draw_from(self, seed: str) -> None:
        """Chance begins anew, by this seed: connections are counted from 1, and toxics too, where there are none."""
        self._key = seed
        self._accepted = 0
        self._added = max((toxic.serial for toxic in self._toxics.values()), default=0)

    async def update(self, listen: str, upstream: str, *, enabled: bool) -> None:
        """Changes what differs; open connections are closed if anything but `enabled` does.

        Raises ValueError or OSError when it cannot listen there; then nothing has changed.
        """
        moved = not await self.listens(listen)
        if moved and enabled:
            await self._move(listen)
        if moved or upstream != self.upstream:
            self.upstream = upstream
            self._close_all()
            if not enabled:  # as it was written: it is looked up when the proxy starts
                self.listen = listen
        if enabled:
            await self.start()
        elif self.enabled:
            self.disable()

    def add(self, toxic: Toxic) -> Toxic:
        """Adds `toxic`, to open connections too; its name must be new."""
        self._added += 1
        toxic = replace(toxic, serial=self._added, tally=self._account.tally(toxic.name))
        self.put(toxic)
        return toxic

    def put(self, toxic: Toxic) -> None:
        """Edits the toxic of this name and serial."""
        self._toxics[toxic.name] = toxic
        for connection in tuple(self._connections):
            connection.put(toxic)

    def remove(self, toxic: Toxic) -> None:
        """Removes it; open connections are free of it at once. What never acted leaves no counter."""
        del self._toxics[toxic.name]
        if not toxic.tally.count:
            self._account.tallies.pop(toxic.name, None)
        for connection in tuple(self._connections):
            connection.drop(toxic)

    async def _move(self, listen: str) -> None:
        """Listens at `listen` instead; the old listener goes first, as both may want the same port."""
        was = self._server
        if was is not None:
            was.close()
            self._server = None
        try:
            await self._listen(listen)
        except (ValueError, OSError):
            if was is not None:
                await self._listen(self.listen)
            raise

    async def _listen(self, listen: str) -> None:
        try:
            host, port = address.split(await address.resolve(listen))
        except ValueError as error:
            raise ValueError(f"listen tcp: {error}") from error
        host = host or address.LOOPBACK
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._accept, host, port, backlog=BACKLOG)
        except OSError as error:
            why = os.strerror(error.errno).lower() if error.errno else str(error)
            raise OSError(error.errno, f"listen tcp {address.join(host, port)}: bind: {why}") from error
        self.listen = address.join(host, self._server.sockets[0].getsockname()[1])

    def _accept(self) -> Side:
        self._accepted += 1
        self._account.connections += 1
        key = f"{self._key}/{self._accepted}"
        connection = Connection(key, self._room, self._dial, self._connections.discard)
        self._connections.add(connection)
        return connection.client

    def _dial(self, connection: Connection) -> None:
        """Dials in a task of its own: an upstream that is silent keeps nobody else waiting."""
        if connection not in self._connections:  # the proxy was stopped just now
            connection.abort()
            return
        task = asyncio.get_running_loop().create_task(self._join(connection))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _join(self, connection: Connection) -> None:
        flows = {
            direction: self._account.flow(direction, self.listen, self.upstream)
            for direction in ("upstream", "downstream")
        }
        try:
            host, port = address.split(self.upstream)
            async with asyncio.timeout(DIAL):
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: connection.server, host or address.LOOPBACK, port)
        except (ValueError, OSError):
            connection.abort()
            return
        if connection in self._connections:
            connection.join(flows, self._toxics.values())
        else:
            connection.abort()

    def _close_all(self) -> None:
        connections, self._connections = self._connections, set()
        for connection in connections:
            connection.abort()


class Proxies:
    """All proxies by name, in the order of their creation. `seed` fixes which connections a toxic takes."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._room = Room()
        self.by_name: dict[str, Proxy] = {}
        self.accounts: dict[str, Account] = {}

    async def create(self, name: str, listen: str, upstream: str, *, enabled: bool) -> Proxy:
        """A new proxy, in place of one of the same name.

        Raises ValueError or OSError when it cannot listen; then there is what was before, less its
        connections.
        """
        was = self.by_name.pop(name, None)
        was_enabled = was is not None and was.enabled
        if was is not None:
            was.stop()
        account = self.accounts.get(name, Account())
        proxy = Proxy(name, listen, upstream, seed=self._seed, account=account, room=self._room)
        try:
            if enabled:
                await proxy.start()
        except (ValueError, OSError):
            if was is not None:
                self.by_name[name] = was
                if was_enabled:
                    await was.start()
            raise
        self.accounts[name] = account
        self.by_name[name] = proxy
        return proxy

    def delete(self, name: str) -> None:
        """Removes it and closes its connections; nothing happens when there is none."""
        proxy = self.by_name.pop(name, None)
        if proxy is not None:
            proxy.stop()
            self.accounts[name] = self.accounts.pop(name)  # now the youngest of those that are gone
            gone = [old for old in self.accounts if old not in self.by_name]
            for old in gone[: max(0, len(gone) - OUTLIVING)]:
                del self.accounts[old]

    async def reset(self) -> None:
        """Enables all and removes all toxics. One that cannot listen keeps no other: the first error is raised last.

        All are started at once: names that are slow to find would add up.
        """
        for proxy in self.by_name.values():
            for toxic in proxy.toxics:
                proxy.remove(toxic)
        for problem in await asyncio.gather(*(p.start() for p in self.by_name.values()), return_exceptions=True):
            if problem is not None:
                raise problem
