"""Where Hello servers and Toxiproxy are: the compose project that runs, or a network of our own.

In a network of our own every container has an address of its own for good. In somebody else's the engine gives another one
at each start, perhaps, and it is asked for it.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from typing import Any

from docker.errors import ImageNotFound
from docker.types import IPAMConfig, IPAMPool

from harness.fleet.docker.engine import told
from harness.fleet.docker.labels import NUMBER, OWNER, PROJECT, ROLE
from harness.fleet.errors import FleetError

IMAGE = os.environ.get("STORMPROOF_IMAGE", "stormproof-server")
TOXIPROXY = os.environ.get("STORMPROOF_TOXIPROXY_IMAGE", "ghcr.io/shopify/toxiproxy:2.12.0")
#: What every container of ours is denied.
CONFINED: dict[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "user": "65532:65532",
}
#: Tries to have a network whose addresses we choose.
TRIES = 3


class Home:
    """`network` is its name. `hello(count)` are containers of Hello servers: those of the project first, then our own."""

    def __init__(self, client: Any, owner: str, name: str) -> None:
        self._client = client
        self._owner = owner
        self._name = name
        self._made: list[Any] = []
        self._addresses: Iterator[str] | None = None
        self.lent: list[Any] = []  # containers of the project that runs
        self.network = ""
        self.toxiproxy: Any = None

    def find(self, project: str | None) -> bool:
        """Uses the compose project that runs (the one of this name, or the only one). False if there is none."""
        with told("the containers could not be listed"):
            wanted = f"{PROJECT}={project}" if project else PROJECT
            proxies = self._client.containers.list(filters={"label": [f"{ROLE}=toxiproxy", wanted]})
            if not proxies:
                return False
            names = sorted({proxy.labels[PROJECT] for proxy in proxies})
            if len(names) > 1:
                raise FleetError(
                    f"several projects with Toxiproxy run ({', '.join(names)}): say which with STORMPROOF_DOCKER_PROJECT"
                )
            self.toxiproxy = proxies[0]
            self.network = sorted(self.toxiproxy.attrs["NetworkSettings"]["Networks"])[0]
            ours = self._client.containers.list(filters={"label": [f"{ROLE}=server", f"{PROJECT}={names[0]}"]})
        self.lent = sorted(ours, key=lambda each: int(each.labels.get(NUMBER, "0")))
        return True

    def make(self) -> None:
        """A network with a Toxiproxy in it."""
        self.network = self._name
        with told("no network could be made", "`docker network prune` frees addresses"):
            subnet = self._make_network()
        hosts = ipaddress.ip_network(subnet).hosts()
        next(hosts)  # the gateway's
        self._addresses = map(str, hosts)
        self._need(TOXIPROXY, f"`docker pull {TOXIPROXY}`, or name another with STORMPROOF_TOXIPROXY_IMAGE")
        self.toxiproxy = self._create(TOXIPROXY, "toxiproxy", command=["-host=0.0.0.0", "-proxy-metrics"])
        with told("Toxiproxy could not be started"):
            self.toxiproxy.start()

    def hello(self, count: int) -> list[Any]:
        """So many containers of Hello servers; those that are made now have not been started yet."""
        missing = count - len(self.lent) - len(self._made)
        if missing > 0:
            self._need(
                IMAGE, f"build it (`docker build --target server -t {IMAGE} .`), or name it with STORMPROOF_IMAGE"
            )
        for _ in range(missing):
            self._made.append(self._create(IMAGE, f"server-{len(self.lent) + len(self._made)}"))
        return [*self.lent, *self._made][:count]

    def address(self, container: Any, network: str = "") -> str:
        """Its address in the network (home's own by default). FleetError if it has none there."""
        with told(f"{container.name} could not be asked where it is"):
            container.reload()
            known = container.attrs["NetworkSettings"]["Networks"].get(network or self.network) or {}
        if not known.get("IPAddress"):
            raise FleetError(
                f"{container.name} has no address in the network {network or self.network}: it does not run"
            )
        return str(known["IPAddress"])

    def keeps_address(self, container: Any) -> bool:
        """Whether the container has the same address after each start."""
        return container in self._made

    def _make_network(self) -> str:
        """Only a network that was made with a range of addresses lets us choose them: so ask for one, and make it so."""
        labels = {OWNER: self._owner}
        for left in reversed(range(TRIES)):
            probe = self._client.networks.create(self._name, driver="bridge", labels=labels)
            probe.reload()
            subnet = str(probe.attrs["IPAM"]["Config"][0]["Subnet"])
            probe.remove()
            ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)])
            try:
                self._client.networks.create(self._name, driver="bridge", labels=labels, ipam=ipam)
                return subnet
            except Exception:
                if not left:  # somebody took the range each time
                    raise
        raise AssertionError("unreachable")

    def _create(self, image: str, name: str, **more: Any) -> Any:
        where = {}
        if self._addresses is not None:
            where = {self.network: self._client.api.create_endpoint_config(ipv4_address=next(self._addresses))}
        role = "toxiproxy" if name == "toxiproxy" else "server"
        with told(f"the container {self._name}-{name} could not be made"):
            return self._client.containers.create(
                image,
                name=f"{self._name}-{name}",
                labels={OWNER: self._owner, ROLE: role},
                network=self.network,
                networking_config=where or None,
                # Whoever needs to know asks it himself; a probe in it would take time from what is measured.
                healthcheck={"test": ["NONE"]},
                **CONFINED,
                **more,
            )

    def _need(self, image: str, way_out: str) -> None:
        """FleetError unless the image is here or can be had."""
        try:
            with told(f"the image {image} could not be looked for"):
                try:
                    self._client.images.get(image)
                    return
                except ImageNotFound:
                    pass
            with told(f"the image {image} is not here and cannot be pulled", way_out):
                self._client.images.pull(image)
        except FleetError as error:
            raise FleetError(f"{error}" if way_out in str(error) else f"{error}; {way_out}") from error
