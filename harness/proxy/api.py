"""The HTTP API of Toxiproxy 2.12: statuses, bodies and headers as a client knows them from the real one.

Nothing is decided here: `wire` checks what is asked, `proxies` does it. Left out on purpose is the empty
member `Logger` that the real one leaks in every proxy. Ours alone is the member `seed` of a request that makes or changes
a proxy: it says what the proxy's chances are drawn from, from then on; the real one ignores it. An error of our own is
answered with 500 and told on stderr.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiohttp import web

from harness.proxy import metrics, wire
from harness.proxy.metrics import Sample
from harness.proxy.pipe import Toxic
from harness.proxy.proxies import Account, Proxies, Proxy
from harness.proxy.wire import Refusal

#: A version of which clients that compare (2.6 or later) make the right choice, and by which ours is known.
VERSION = "2.12.0-stormproof"
MOST_BODY = 16 * 2**20

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """The handlers. Changes are made one after the other, so that none sees another half done.

    With `counters` there is /metrics, too.
    """

    def __init__(self, proxies: Proxies, *, counters: bool = True) -> None:
        self._proxies = proxies
        self._counters = counters
        self._changing = asyncio.Lock()

    def application(self) -> web.Application:
        """The application that serves all of it."""
        application = web.Application(middlewares=[_contract], client_max_size=MOST_BODY)
        proxy, toxic = "/proxies/{proxy:[^/]+}", "/proxies/{proxy:[^/]+}/toxics/{toxic:[^/]+}"
        for method, path, handler in (
            ("GET", "/proxies", self.proxies),
            ("POST", "/proxies", self._alone(self.create)),
            ("POST", "/populate", self._alone(self.populate)),
            ("GET", proxy, self.proxy),
            ("POST", proxy, self._alone(self.update)),
            ("PATCH", proxy, self._alone(self.update)),
            ("DELETE", proxy, self._alone(self.delete)),
            ("GET", f"{proxy}/toxics", self.toxics),
            ("POST", f"{proxy}/toxics", self._alone(self.add_toxic)),
            ("GET", toxic, self.toxic),
            ("POST", toxic, self._alone(self.update_toxic)),
            ("PATCH", toxic, self._alone(self.update_toxic)),
            ("DELETE", toxic, self._alone(self.remove_toxic)),
            ("POST", "/reset", self._alone(self.reset)),
            ("GET", "/version", self.version),
            *([("*", "/metrics", self.metrics)] if self._counters else []),
        ):
            application.router.add_route(method, path, handler)
        return application

    async def configure(self, body: bytes) -> None:
        """Makes the proxies of a configuration: what /populate takes. Raises Refusal."""
        status, answer = await self._populate(body)
        if status != 201:
            raise Refusal(status, str(answer["error"]))

    async def proxies(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return _json({name: _show(proxy) for name, proxy in sorted(self._proxies.by_name.items())})

    async def create(self, request: web.Request) -> web.Response:
        asked = wire.asked(wire.one(await request.read()))
        if asked.name in self._proxies.by_name:
            raise Refusal(409, "proxy already exists")
        return _json(_show(await self._make(asked)), status=201)

    async def populate(self, request: web.Request) -> web.Response:
        """All of a list; as with the real one, a proxy that is there already as asked for stays as it is."""
        status, answer = await self._populate(await request.read())
        return _json(answer, status=status)

    async def proxy(self, request: web.Request) -> web.Response:
        return _json(_show(self._proxy(request)))

    async def update(self, request: web.Request) -> web.Response:
        proxy = self._proxy(request)
        now = wire.Asked(name=proxy.name, listen=proxy.listen, upstream=proxy.upstream, enabled=proxy.enabled)
        asked = wire.changed(wire.one(await request.read()), now)
        await proxy.update(asked.listen, asked.upstream, enabled=asked.enabled)
        if asked.seed:
            proxy.draw_from(asked.seed)
        return _json(_show(proxy))

    async def delete(self, request: web.Request) -> web.Response:
        self._proxies.delete(self._proxy(request).name)
        return web.Response(status=204)

    async def toxics(self, request: web.Request) -> web.Response:
        return _json([wire.show(toxic) for toxic in self._proxy(request).toxics])

    async def add_toxic(self, request: web.Request) -> web.Response:
        proxy = self._proxy(request)
        taken = [toxic.name for toxic in proxy.toxics]
        return _json(wire.show(proxy.add(wire.new_toxic(wire.one(await request.read()), taken))))

    async def toxic(self, request: web.Request) -> web.Response:
        return _json(wire.show(self._toxic(request)))

    async def update_toxic(self, request: web.Request) -> web.Response:
        proxy, toxic = self._proxy(request), self._toxic(request)
        toxicity, attributes = wire.edited(wire.one(await request.read()), toxic)
        toxic = replace(toxic, toxicity=toxicity, attributes=attributes)
        proxy.put(toxic)
        return _json(wire.show(toxic))

    async def remove_toxic(self, request: web.Request) -> web.Response:
        self._proxy(request).remove(self._toxic(request))
        return web.Response(status=204)

    async def reset(self, request: web.Request) -> web.Response:  # noqa: ARG002
        await self._proxies.reset()
        return web.Response(status=204)

    async def version(self, request: web.Request) -> web.Response:  # noqa: ARG002
        body = f'{{"version": "{VERSION}"}}\n'
        return web.Response(body=body.encode(), headers={"Content-Type": "application/json;charset=utf-8"})

    async def metrics(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """Counters that move while connections are open; the first two are those of the real one."""
        text = _metrics(self._proxies.accounts).encode(errors="replace")
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def _alone(self, handler: Handler) -> Handler:
        async def alone(request: web.Request) -> web.StreamResponse:
            await request.read()  # before the lock: a slow client keeps nobody else waiting
            async with self._changing:
                return await handler(request)

        return alone

    async def _populate(self, body: bytes) -> tuple[int, dict[str, object]]:
        made: list[Proxy] = []
        status: int = 201
        answer: dict[str, object] = {}
        try:
            for asked in wire.all_asked(wire.many(body)):
                made.append(await self._as_asked(asked) or await self._make(asked))
        except (Refusal, ValueError, OSError) as error:
            refusal = _refusal(error)
            status, answer = refusal.status, {"error": refusal.message, "status": refusal.status}
        return status, {**answer, "proxies": [_show(proxy) for proxy in made] or None}

    async def _make(self, asked: wire.Asked) -> Proxy:
        proxy = await self._proxies.create(asked.name, asked.listen, asked.upstream, enabled=asked.enabled)
        if asked.seed:
            proxy.draw_from(asked.seed)
        return proxy

    async def _as_asked(self, asked: wire.Asked) -> Proxy | None:
        proxy = self._proxies.by_name.get(asked.name)
        same = proxy is not None and await proxy.listens(asked.listen) and proxy.upstream == asked.upstream
        return proxy if same else None

    def _proxy(self, request: web.Request) -> Proxy:
        proxy = self._proxies.by_name.get(request.match_info["proxy"])
        if proxy is None:
            raise Refusal(404, "proxy not found")
        return proxy

    def _toxic(self, request: web.Request) -> Toxic:
        toxic = self._proxy(request).toxic(request.match_info["toxic"])
        if toxic is None:
            raise Refusal(404, "toxic not found")
        return toxic


@web.middleware
async def _contract(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What holds for every answer; a browser is turned away, lest any web page could drive the proxy."""
    if request.match_info.http_exception is not None:
        status = request.match_info.http_exception.status
        return _text(status, "404 page not found\n") if status == 404 else web.Response(status=status)
    if request.headers.get("User-Agent", "").startswith("Mozilla/"):
        response: web.StreamResponse = _text(403, "User agent not allowed\n")
    else:
        response = await _answer(request, handler)
    response.headers["X-Toxiproxy-Request-Id"] = secrets.token_hex(10)
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (Refusal, ValueError, OSError) as error:
        return _error(_refusal(error))
    except web.HTTPRequestEntityTooLarge:
        return _error(Refusal(413, f"bad request body: more than {MOST_BODY} bytes"))
    except Exception as error:
        logging.getLogger(__name__).exception("stormproof's Toxiproxy failed on %s %s", request.method, request.path)
        return _error(Refusal(500, f"{type(error).__name__}: {error}"))


def _refusal(error: Refusal | ValueError | OSError) -> Refusal:
    """The answer to a request that could not be carried out: 500 where the address was refused, as the real
    one says.
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error, TimeoutError):
        return Refusal(500, "the address could not be resolved in time")
    return Refusal(500, getattr(error, "strerror", None) or str(error))


def _error(refusal: Refusal) -> web.Response:
    # The type is not JSON's with the real one either: Go's http.Error sets it.
    return _text(refusal.status, json.dumps({"error": refusal.message, "status": refusal.status}) + "\n")


def _text(status: int, text: str) -> web.Response:
    headers = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
    return web.Response(status=status, body=text.encode(), headers=headers)


def _json(value: object, *, status: int = 200) -> web.Response:
    body = json.dumps(value, separators=(",", ":")).encode()
    return web.Response(status=status, body=body, headers={"Content-Type": "application/json"})


def _show(proxy: Proxy) -> dict[str, object]:
    return {
        "name": proxy.name,
        "listen": proxy.listen,
        "upstream": proxy.upstream,
        "enabled": proxy.enabled,
        "toxics": [wire.show(toxic) for toxic in proxy.toxics],
    }


def _metrics(accounts: dict[str, Account]) -> str:
    flows = [
        ({"direction": direction, "listener": listener, "proxy": name, "upstream": upstream}, flow)
        for name, account in accounts.items()
        for (direction, listener, upstream), flow in account.flows.items()
    ]
    received = [Sample(name=metrics.RECEIVED, labels=labels, value=flow.received) for labels, flow in flows]
    sent = [Sample(name=metrics.SENT, labels=labels, value=flow.sent) for labels, flow in flows]
    connections = [
        Sample(name=metrics.CONNECTIONS, labels={"proxy": name}, value=account.connections)
        for name, account in accounts.items()
    ]
    acted = [
        Sample(name=metrics.ACTED, labels={"proxy": name, "toxic": toxic}, value=tally.count)
        for name, account in accounts.items()
        for toxic, tally in account.tallies.items()
    ]
    return "".join(
        (
            metrics.render(metrics.RECEIVED, "Bytes that came from the sender of a direction.", received),
            metrics.render(metrics.SENT, "Bytes that went to the receiver of a direction.", sent),
            metrics.render(metrics.CONNECTIONS, "Connections that were accepted.", connections),
            metrics.render(metrics.ACTED, "How often a toxic delayed, dropped, cut or ended something.", acted),
        )
    )
