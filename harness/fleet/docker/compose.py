"""Other people's compose files: the running containers of a service, or a project of our own brought up from the file.

The file is not changed, and nothing is added to it. Toxiproxy joins the service's network, and has a proxy for each container.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.fleet.docker.engine import told
from harness.fleet.docker.labels import BROUGHT_UP, FILES, NUMBER, OWNER, PROJECT, SERVICE
from harness.fleet.errors import FleetError

#: Seconds that bringing a project up may take, its images included.
UP = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Containers of one service, in the order of their numbers, and the network in which they are called."""

    containers: tuple[Any, ...]
    network: str
    borrowed: bool


def find(client: Any, file: str, service: str, count: int) -> Service | None:
    """The running containers of that file's service, if there are any. FleetError if there are too few."""
    path = str(_existing(file))
    with told(f"the containers of {service} could not be listed"):
        found = [
            container
            for container in client.containers.list(filters={"label": f"{SERVICE}={service}"})
            if path in _files(container)
        ]
    projects = sorted({container.labels[PROJECT] for container in found})
    if not found:
        return None
    if len(projects) > 1:
        raise FleetError(f"{file} runs as {' and as '.join(projects)}: stop all but one of them")
    if len(found) < count:
        raise FleetError(
            f"{count} servers are wanted and {len(found)} of {service} run in the project {projects[0]}: "
            f"`docker compose -p {projects[0]} up -d --scale {service}={count}`, or stop it, and one is brought up"
        )
    return _service(found, count, borrowed=True)


def bring_up(client: Any, file: str, service: str, count: int, *, owner: str, project: str) -> Service:
    """A project of its own, with `count` containers of the service. What there is of it can be swept in any case."""
    path = _existing(file)
    program = _program()
    with told("the volume that stands for a compose project could not be made"):
        client.volumes.create(name=f"{project}-brought-up", labels={OWNER: owner, BROUGHT_UP: project})
    # The service and what it depends on: whatever else the file has is not ours to start.
    words = [*program, "-f", str(path), "-p", project, "up", "-d", "--scale", f"{service}={count}", service]
    try:
        done = subprocess.run(
            words, cwd=path.parent, capture_output=True, text=True, timeout=UP, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        raise FleetError(f"{file} was not up after {UP} s (`{' '.join(words)}`): look what it waits for") from None
    if done.returncode:
        last = " / ".join(line.strip() for line in (done.stderr or done.stdout).strip().splitlines()[-4:])
        raise FleetError(
            f"{file} could not be brought up (`{' '.join(words)}`): {last}; bring it up yourself, and it is used as it runs"
        )
    with told(f"the containers of {service} could not be listed"):
        found = client.containers.list(filters={"label": [f"{PROJECT}={project}", f"{SERVICE}={service}"]})
    if len(found) < count:
        raise FleetError(
            f"{len(found)} of {count} containers of {service} run after `{' '.join(words)}`: the others ended at once; "
            "look at `docker compose logs` with the same file"
        )
    return _service(found, count, borrowed=False)


def _existing(file: str) -> Path:
    path = Path(file).resolve()
    if not path.is_file():
        raise FleetError(f"there is no compose file {path}: give its path from the folder where the run is started")
    return path


def _files(container: Any) -> list[str]:
    """The compose files that it was made of, in full."""
    folder = container.labels.get("com.docker.compose.project.working_dir", "")
    return [os.path.normpath(os.path.join(folder, name)) for name in container.labels.get(FILES, "").split(",")]


def _service(found: list[Any], count: int, *, borrowed: bool) -> Service:
    containers = tuple(sorted(found, key=lambda each: int(each.labels.get(NUMBER, "0"))))[:count]
    containers[0].reload()
    networks = containers[0].attrs["NetworkSettings"]["Networks"]
    if not networks or set(networks) & {"host", "none", "bridge"}:
        raise FleetError(
            f"{containers[0].name} has no network of its project (it has {', '.join(networks) or 'none'}), and a proxy "
            "can be put in front of nothing else: take network_mode out of the file"
        )
    return Service(containers=containers, network=sorted(networks)[0], borrowed=borrowed)


def _program() -> list[str]:
    """The compose command: the plugin of the docker command, else the program of its own."""
    if shutil.which("docker"):
        asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if asked.returncode == 0:
            return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise FleetError(
        "a compose file is brought up with `docker compose` or docker-compose, and neither is installed: install one, "
        "or bring it up elsewhere, and it is used as it runs"
    )
