"""Drives one Toxiproxy server, ours or the real one, through the package toxiproxy-python.

What that package lacks is made good here and nowhere else (toxiproxy-python 0.1.1):

- its address is one for the whole process: each Control has private copies of its modules, bound to its own server;
- it never gives up waiting: every request here has time limits;
- it takes an HTTP 500 for success: every answer that is not a success is raised, as one kind of error, in words;
- it believes what it asked for: here a change is looked at before it counts as made, and half a change is undone;
- it cannot edit a toxic, and knows nothing of a seed: those two requests are made without it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

import requests

from faults.network import Toxic
from harness.proxy import metrics
from harness.proxy.errors import ToxiproxyError

#: Seconds to connect, and to wait for an answer: Toxiproxy itself gives up on a request after 25.
LIMITS = (2.0, 30.0)
#: Seconds between two looks at a server that does not answer yet.
LOOK = 0.01


class Control:
    """One Toxiproxy server at `host` and `port`; may be used from many threads at once.

    Every method but `wait_ready` raises ToxiproxyError when the server is not there, refuses, or did
    something else.
    """

    def __init__(self, host: str, port: int) -> None:
        self._http = _Http(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
        self._proxy_class, self._server = _bound(self._http)
        self._proxies: dict[str, Any] = {}
        self._locks: dict[str, threading.Lock] = {}

    @property
    def url(self) -> str:
        """Where the server's API is."""
        return self._http.url

    def version(self) -> str:
        """What the server calls its version; the built-in one ends in "-stormproof"."""
        return self._version(LIMITS)

    def wait_ready(self, deadline_seconds: float) -> None:
        """Returns as soon as the server answers. Raises ToxiproxyError when it does not within that time."""
        until = time.monotonic() + deadline_seconds
        while True:
            left = max(LOOK, until - time.monotonic())
            try:
                self._version((left, left))
                return
            except ToxiproxyError as error:
                if left <= LOOK:
                    raise ToxiproxyError(f"not ready after {deadline_seconds:g} s: {error}") from error
            time.sleep(LOOK)

    def create(self, name: str, *, upstream: str, listen: str, seed: str = "") -> str:
        """Makes a proxy from `listen` ("host:0" for any port) to `upstream`; returns the address it listens
        at.

        A proxy of the same name is replaced, its toxics gone and its connections closed. `seed` is what the built-in one
        draws from (which connections a toxic takes, jitter, slices); without it, from the server's own seed and the
        proxy's name. The real one cannot be told.
        """
        with self._lock(name):
            self._gone_is_fine("DELETE", f"/proxies/{name}")
            proxy = self._server.create(upstream=upstream, name=name, listen=listen)
            self._proxies[name] = proxy
            if seed:
                self._http.post(f"/proxies/{name}", json={"seed": seed})
            self._confirm(name, enabled=True, upstream=upstream)
            return str(proxy.listen)

    def add(self, name: str, toxics: Iterable[Toxic]) -> None:
        """Adds all `toxics` to the proxy, or none: when one is refused, those before it are taken away again."""
        added: list[Toxic] = []
        with self._lock(name):
            try:
                for toxic in toxics:
                    # toxicity 1 is the package's default, and right: who is hit is a fault's target, not
                    # chance
                    self._proxy(name).add_toxic(
                        type=toxic.type, stream=toxic.stream, name=toxic.name, attributes=toxic.attributes
                    )
                    added.append(toxic)
                    self._confirm_toxic(name, toxic)
            except ToxiproxyError:
                with suppress(ToxiproxyError):  # the first error says more
                    self._take_away(name, added)
                raise

    def edit(self, name: str, toxic: Toxic) -> None:
        """Gives the toxic of that name the attributes of `toxic`; open connections have them at once."""
        with self._lock(name):
            self._http.post(_path(name, toxic), json={"attributes": toxic.attributes})
            self._confirm_toxic(name, toxic)

    def remove(self, name: str, toxics: Iterable[Toxic]) -> None:
        """Removes `toxics` from the proxy; one that is gone already is fine."""
        with self._lock(name):
            self._take_away(name, toxics)

    def disable(self, name: str) -> None:
        """New connections are refused, open ones closed; the toxics stay."""
        with self._lock(name):
            self._proxy(name).disable()
            self._confirm(name, enabled=False)

    def enable(self, name: str) -> None:
        """The proxy listens again, at the same address."""
        with self._lock(name):
            self._proxy(name).enable()
            self._confirm(name, enabled=True)

    def redirect(self, name: str, *, upstream: str) -> None:
        """From now on the proxy leads to `upstream`; open connections are closed, its toxics stay."""
        with self._lock(name):
            now = self._http.get(f"/proxies/{name}").json()
            asked = {"listen": now.get("listen"), "upstream": upstream, "enabled": now.get("enabled")}
            self._http.post(f"/proxies/{name}", json=asked)
            self._confirm(name, upstream=upstream)

    def delete(self, name: str) -> None:
        """Removes the proxy and closes its connections; one that is gone already is fine."""
        with self._lock(name):
            self._gone_is_fine("DELETE", f"/proxies/{name}")
            self._proxies.pop(name, None)

    def carried(self) -> dict[str, tuple[int, int]]:
        """Bytes since the server started, by proxy: received from clients, sent to clients. {} if it does
        not count.

        The real Toxiproxy counts a connection's bytes when it ends.
        """
        totals: dict[str, tuple[int, int]] = {}
        for sample in metrics.parse(self._metrics(), metrics.RECEIVED, metrics.SENT):
            name, direction = sample.labels.get("proxy", ""), sample.labels.get("direction")
            received, sent = totals.get(name, (0, 0))
            if sample.name == metrics.RECEIVED and direction == "upstream":
                received += sample.value
            elif sample.name == metrics.SENT and direction == "downstream":
                sent += sample.value
            totals[name] = (received, sent)
        return totals

    def touched(self, name: str, toxics: Collection[Toxic] | None = None) -> int | None:
        """How often `toxics` of the proxy (None: all) acted since the server started; None where it does not count that."""
        text = self._metrics()
        if not metrics.counts(text, metrics.ACTED):
            return None
        labels = [{"proxy": name}] if toxics is None else [{"proxy": name, "toxic": toxic.name} for toxic in toxics]
        samples = metrics.parse(text, metrics.ACTED)
        return sum(s.value for s in samples if any(wanted.items() <= s.labels.items() for wanted in labels))

    def _version(self, limits: tuple[float, float]) -> str:
        answer = self._http.get("/version", timeout=limits).json()
        version = answer.get("version") if isinstance(answer, dict) else None
        if not isinstance(version, str):
            raise ToxiproxyError(f"GET {self._http.url}/version: {answer!r} is no version; is this a Toxiproxy?")
        return version

    def _take_away(self, name: str, toxics: Iterable[Toxic]) -> None:
        for toxic in toxics:
            self._gone_is_fine("DELETE", _path(name, toxic))

    def _confirm_toxic(self, name: str, toxic: Toxic) -> None:
        seen = self._http.get(_path(name, toxic)).json()
        set_to = {key: seen.get("attributes", {}).get(key) for key in toxic.attributes}
        if (seen.get("type"), seen.get("stream"), set_to) != (toxic.type, toxic.stream, toxic.attributes):
            raise ToxiproxyError(f"{self._http.url}{_path(name, toxic)} is {seen}; asked was {toxic}")

    def _confirm(self, name: str, **wanted: object) -> None:
        seen = self._http.get(f"/proxies/{name}").json()
        if {key: seen.get(key) for key in wanted} != wanted:
            raise ToxiproxyError(f"{self._http.url}/proxies/{name} is {seen}; asked was {wanted}")

    def _gone_is_fine(self, method: str, path: str) -> None:
        try:
            self._http.request(method, path)
        except ToxiproxyError as error:
            if error.status != 404:
                raise

    def _metrics(self) -> str:
        try:
            return self._http.get("/metrics").text
        except ToxiproxyError as error:
            if error.status != 404:
                raise
            return ""

    def _proxy(self, name: str) -> Any:
        """The package's object of the proxy; made from its name alone, where another process created the proxy."""
        if name not in self._proxies:
            self._proxies[name] = self._proxy_class(**self._http.get(f"/proxies/{name}").json())
        return self._proxies[name]

    def _lock(self, name: str) -> threading.Lock:
        return self._locks.setdefault(name, threading.Lock())


class _Http:
    """What takes the place of the package's APIConsumer: the same three methods, for one server, and they raise."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._local = threading.local()  # requests' sessions are not made for several threads

    def get(self, path: str, params: Any = None, **options: Any) -> requests.Response:
        return self.request("GET", path, params=params, **options)

    def post(self, path: str, data: Any = None, json: Any = None, **options: Any) -> requests.Response:
        return self.request("POST", path, data=data, json=json, **options)

    def delete(self, path: str, **options: Any) -> requests.Response:
        return self.request("DELETE", path, **options)

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        asked = f"{method} {self.url}{path}"
        try:
            answer = self._session().request(method, self.url + path, **{"timeout": LIMITS, **options})
        except requests.ConnectionError as error:
            raise ToxiproxyError(
                f"{asked}: no Toxiproxy answers ({_cause(error)}); see that it runs, and at this address"
            ) from error
        except requests.RequestException as error:
            raise ToxiproxyError(
                f"{asked}: no answer ({_cause(error)}); whether it was done is unknown: start the server anew"
            ) from error
        if not answer.ok:
            status = answer.status_code
            raise ToxiproxyError(f"{asked}: {status} {_reason(answer)}; {_way_out(status)}", status)
        if answer.content and path != "/metrics" and not _is_json(answer):
            raise ToxiproxyError(f"{asked}: {answer.text[:80]!r} is not JSON; is this a Toxiproxy?")
        return answer

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = False  # an HTTP proxy of the environment is not between us and a test's server
        return session


def _bound(http: _Http) -> tuple[Any, Any]:
    """The package's Proxy class and a Toxiproxy object of their own that talk to nobody but `http`."""
    proxies = _copy("toxiproxy.proxy", APIConsumer=http)
    servers = _copy("toxiproxy.server", APIConsumer=http, Proxy=proxies.Proxy)
    return proxies.Proxy, servers.Toxiproxy()


def _copy(name: str, **names: object) -> ModuleType:
    """A copy of the module `name`, known to nobody else, in which `names` mean something else."""
    spec = find_spec(name)
    if spec is None or spec.loader is None:
        raise ToxiproxyError(
            f"the package toxiproxy-python has no module {name}: install it anew (pip install stormproof)"
        )
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module).update(names)
    return module


def _path(name: str, toxic: Toxic) -> str:
    return f"/proxies/{name}/toxics/{toxic.name}"


def _is_json(answer: requests.Response) -> bool:
    try:
        answer.json()
    except ValueError:
        return False
    return True


def _reason(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()[:200] or "without a reason"


def _cause(error: BaseException) -> str:
    """The innermost of the errors that urllib3 and requests wrap around it."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error)


def _way_out(status: int) -> str:
    ways = {
        404: "it was deleted, or never created here: create it first",
        409: "delete the one that is there, or take another name",
    }
    if status in ways:
        return ways[status]
    return "see that the address is free and is this machine's" if status >= 500 else "correct what was asked"
