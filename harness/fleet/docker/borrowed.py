"""Containers that are somebody else's: how they were before we touched them, and putting them back so."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import asdict, dataclass
from typing import Any

from docker.errors import NotFound

#: Where a Hello server keeps its files (Dockerfile), and what it is called there.
FILES, SETTINGS, JOURNAL = "/var/lib/stormproof", "settings.json", "journal.jsonl"
_NOBODY = 65532


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a fault may change of a container: its networks (each with the names it has there) and limits.

    `hello`: it is a Hello server, whose settings are replaced while it is used.
    """

    container: str
    networks: dict[str, list[str]]
    quota: int
    period: int
    memory: int
    hello: bool

    @staticmethod
    def of(container: Any, *, hello: bool) -> State:
        container.reload()
        host = container.attrs["HostConfig"]
        return State(
            container=container.id,
            networks={
                name: aliases(container, name)
                for name in container.attrs["NetworkSettings"]["Networks"]
            },
            quota=host.get("CpuQuota") or 0,
            period=host.get("CpuPeriod") or 0,
            memory=host.get("Memory") or 0,
            hello=hello,
        )  # fmt: skip

    def put_back(self, client: Any) -> None:
        """Whatever was done to it is undone. One that is gone meanwhile is fine."""
        try:
            container = client.containers.get(self.container)
        except NotFound:
            return
        if container.status == "paused":
            container.unpause()
        for name, known_as in self.networks.items():
            if name not in container.attrs["NetworkSettings"]["Networks"]:
                client.networks.get(name).connect(container, aliases=known_as)
        container.update(cpu_period=self.period or 100_000, cpu_quota=self.quota or -1)
        if container.attrs["HostConfig"]["Memory"] != self.memory:
            set_memory(container, self.memory or client.info()["MemTotal"])
        if self.hello:
            if container.status == "running":
                container.kill()
                container.wait()
            put_files(container, {SETTINGS: b"{}", JOURNAL: b""})
        container.start()  # of one that runs this does nothing


def aliases(container: Any, network: str) -> list[str]:
    """The names that it has in `network`, beside its own."""
    settings = container.attrs["NetworkSettings"]["Networks"][network]
    return [name for name in settings.get("Aliases") or [] if not container.id.startswith(name)]


def to_json(states: list[State]) -> str:
    return json.dumps([asdict(state) for state in states])


def from_json(text: str) -> list[State]:
    return [State(**state) for state in json.loads(text)]


def set_memory(container: Any, limit: int) -> None:
    """Its memory limit from now on, in bytes; no engine takes one away again, so what has none gets the machine's."""
    container.update(mem_limit=limit, memswap_limit=limit)


def put_files(container: Any, files: dict[str, bytes]) -> None:
    """Writes these files to the volume of a Hello server, whether it runs or not."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(content), 0o644, _NOBODY, _NOBODY
            tar.addfile(entry, io.BytesIO(content))
    container.put_archive(FILES, packed.getvalue())


def get_file(container: Any, name: str) -> bytes:
    """The content of a file on the volume of a Hello server, whether it runs or not."""
    chunks, _ = container.get_archive(f"{FILES}/{name}")
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        found = tar.extractfile(name)
        return b"" if found is None else found.read()
