"""The way to a container engine, and what its errors say to people: what could not be done, why, and the way out."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound

from harness.fleet.errors import FleetError

#: Seconds until the engine must have answered: a graceful stop is the longest of what it is asked.
ANSWER = 60
_CLEAN = "`stormproof clean` removes what is left once it runs again"


def connect() -> Any:
    """A client of the engine that DOCKER_HOST or the local socket leads to. FleetError where none answers."""
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    try:
        client = docker.from_env(timeout=ANSWER)
        client.ping()
    except Exception as error:  # the SDK wraps what it met, and not always in its own class
        if _innermost(error, PermissionError):
            raise FleetError(
                f"no permission to use the container engine at {where}: run as a member of the group that owns it "
                "(usually `docker`), or as root"
            ) from error
        raise FleetError(
            f"no container engine answers at {where} ({_cause(error)}): start one (`systemctl start docker`, or dockerd), "
            "or set DOCKER_HOST; --fleet=local needs none"
        ) from error
    return client


def own_container(client: Any) -> Any | None:
    """The container that this process runs in, if it is one of this engine's."""
    if not os.path.exists("/.dockerenv"):
        return None
    with contextlib.suppress(DockerException):
        return client.containers.get(socket.gethostname())
    return None


def must_be_here(client: Any) -> None:
    """FleetError unless the engine runs on this machine's kernel: only then do both have one clock, and one network."""
    theirs, ours = client.info().get("KernelVersion", ""), os.uname().release
    if theirs != ours:
        raise FleetError(
            f"the container engine runs on another machine or in a virtual one (kernel {theirs}, here {ours}), whose clock "
            "and network are not this one's: run the suites inside, with `docker compose up chaos`"
        )


@contextlib.contextmanager
def told(what: str, way_out: str = "") -> Iterator[None]:
    """Errors of the SDK within the block become a FleetError that begins with `what` could not be done."""
    try:
        yield
    except ImageNotFound as error:
        raise FleetError(f"{what}: {error.explanation}{_and(way_out)}") from error
    except APIError as error:
        out = way_out or _way_out(error)
        raise FleetError(f"{what}: {error.explanation or error}{_and(out)}") from error
    except (DockerException, requests.RequestException, OSError) as error:
        raise FleetError(f"{what}: the container engine gave no answer ({_cause(error)}); {_CLEAN}") from error


def _and(way_out: str) -> str:
    return f"; {way_out}" if way_out else ""


def _way_out(error: APIError) -> str:
    if error.status_code == 409:
        return "`stormproof clean` removes what a killed run of ours has left; of anything else take another name"
    if error.status_code == 404:
        return "somebody else removed it meanwhile: run again"
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _innermost(error: BaseException, kind: type[BaseException]) -> bool:
    return any(isinstance(each, kind) for each in _chain(error)) or kind.__name__ in str(error)


def _cause(error: BaseException) -> str:
    return str(list(_chain(error))[-1])
