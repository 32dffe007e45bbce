"""Removes what runs have made, and puts back what they have borrowed: at a run's end, and after one that was killed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from docker.errors import APIError, NotFound

from harness.fleet.docker import borrowed
from harness.fleet.docker.engine import connect, told
from harness.fleet.docker.labels import BORROWED, BROUGHT_UP, OWNER, PROJECT, alive


@dataclass
class Swept:
    """What was removed and put back, and the owners that were left alone because they may be alive."""

    removed: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    spared: set[str] = field(default_factory=set)


def clean(*, everything: bool = False) -> Swept:
    """Removes what dead runs have left; `everything`: what belongs to runs that may be alive, too. FleetError if it cannot."""
    client = connect()
    swept = Swept()

    def is_over(owner: str) -> bool:
        if everything or alive(owner) is False:
            return True
        swept.spared.add(owner)
        return False

    with told("what is left could not be removed"):
        sweep(client, is_over, swept)
    return swept


def sweep(client: Any, mine: Callable[[str], bool], swept: Swept | None = None) -> None:
    """Removes all whose owner is `mine`; what they have borrowed is put back first. May be done again."""
    swept = swept or Swept()

    def ours(thing: Any) -> bool:
        labels = thing.attrs.get("Labels") or thing.attrs.get("Config", {}).get("Labels") or {}
        return OWNER in labels and mine(labels[OWNER])

    by_owner = {"label": OWNER}
    volumes = [volume for volume in client.volumes.list(filters=by_owner) if ours(volume)]
    for volume in volumes:
        for state in borrowed.from_json(volume.attrs["Labels"].get(BORROWED, "[]")):
            state.put_back(client)
            swept.restored.append(f"container {state.container[:12]}")
    for container in client.containers.list(all=True, filters=by_owner, ignore_removed=True):
        if ours(container):
            _remove_container(container, swept)
    for volume in volumes:
        if project := volume.attrs["Labels"].get(BROUGHT_UP):
            _remove_project(client, project, swept)
    for network in client.networks.list(filters=by_owner):
        if ours(network):
            _remove_network(client, network, swept)
    for volume in volumes:  # last: until here it says what else there is to do
        _remove("volume", volume, swept)


def _remove_project(client: Any, project: str, swept: Swept) -> None:
    """All of a compose project that we brought up ourselves, under a name of our own."""
    label = {"label": f"{PROJECT}={project}"}
    for container in client.containers.list(all=True, filters=label, ignore_removed=True):
        _remove_container(container, swept)
    for network in client.networks.list(filters=label):
        _remove_network(client, network, swept)
    for volume in client.volumes.list(filters=label):
        _remove("volume", volume, swept)


def _remove_container(container: Any, swept: Swept) -> None:
    with contextlib.suppress(NotFound):
        # A paused one cannot be killed by some engines.
        with contextlib.suppress(APIError):
            container.unpause()
        container.remove(force=True, v=True)
        swept.removed.append(f"container {container.name}")


def _remove_network(client: Any, network: Any, swept: Swept) -> None:
    """A Toxiproxy that was borrowed may still be in it."""
    with contextlib.suppress(NotFound):
        for container in client.api.inspect_network(network.id)["Containers"] or {}:
            network.disconnect(container, force=True)
    _remove("network", network, swept)


def _remove(kind: str, thing: Any, swept: Swept) -> None:
    with contextlib.suppress(NotFound):
        thing.remove()
        swept.removed.append(f"{kind} {thing.name}")
