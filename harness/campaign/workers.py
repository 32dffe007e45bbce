"""Who does the parts of a campaign: threads here that wait for processes, or the workers of a Dask cluster.

Both are a `concurrent.futures.Executor`, so whoever hands out the work does not know which it is. What differs is how many
parts can be done at once, whether the suites must travel, and who may be gone in the middle.
"""

from __future__ import annotations

import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from harness.campaign import process

#: Seconds that the scheduler may take to answer.
PATIENCE = 5.0
#: Seconds for which a campaign waits for workers to come back once all are gone.
ALONE = 15.0


class NoWorkersError(Exception):
    """Nobody there to do the work, or the wrong ones. The message says what to do."""


class Workers(ABC):
    """executor: takes parts. slots: parts at once. travels: whether the suites must be sent along. name: for people."""

    executor: Executor
    slots: int
    travels: bool
    name: str

    @abstractmethod
    def look(self) -> Iterator[str]:
        """What has become of the workers since the last look, for people. NoWorkersError when nobody is left."""

    @abstractmethod
    def stop(self, campaign: str) -> None:
        """Ends everything that `campaign` still has under way."""


class Local(Workers):
    """So many processes of this machine at once."""

    travels = False

    def __init__(self, jobs: int) -> None:
        self.slots = jobs
        self.executor = ThreadPoolExecutor(jobs)
        self.name = at_once(jobs)

    def look(self) -> Iterator[str]:
        yield from ()

    def stop(self, campaign: str) -> None:
        process.stop(campaign)


class Cluster(Workers):
    """The workers of a Dask scheduler, each with as many processes at once as it has threads."""

    travels = True

    def __init__(self, client: Any, address: str) -> None:
        self._client = client
        self._address = address
        self._last_seen = time.monotonic()
        self._known = self._threads()
        if not self._known:
            raise NoWorkersError(
                f"the Dask scheduler at {address} has no workers: start some with `dask worker {address}`, "
                "on machines that have this stormproof installed"
            )
        self._check_identity()
        self.slots = sum(self._known.values())
        self.executor = client.get_executor(pure=False)
        count = len(self._known)
        self.name = f"{count} Dask worker{'s' if count > 1 else ''} at {address}, {at_once(self.slots)}"

    def look(self) -> Iterator[str]:
        there, now = self._threads(), time.monotonic()
        yield from (f"{worker} is gone; others do its part again" for worker in self._known if worker not in there)
        yield from (f"{worker} has come" for worker in there if worker not in self._known)
        self._known = there
        if there:
            self._last_seen = now
        elif now - self._last_seen > ALONE:
            raise NoWorkersError(f"no worker is left at {self._address} since {ALONE:g} s")

    def stop(self, campaign: str) -> None:
        with suppress(Exception):  # who cannot be reached runs nothing of ours for long: what it runs ends with it
            self._client.run(process.stop, campaign, on_error="ignore")

    def _threads(self) -> dict[str, int]:
        """How many parts each worker can do at once."""
        try:
            return {str(worker): int(threads) for worker, threads in self._client.nthreads().items()}
        except Exception:  # the scheduler is away; it may come back
            return {}

    def _check_identity(self) -> None:
        here = process.identity()
        for worker, there in self._client.run(process.identity, on_error="return").items():
            if there != here:
                which = there if isinstance(there, str) else f"none that knows campaigns ({there!r})"
                raise NoWorkersError(
                    f"the worker {worker} has another stormproof: {which}; here it is {here}: install the same on all"
                )


def at_once(slots: int) -> str:
    """For people."""
    return f"{slots} processes at once" if slots > 1 else "one process at a time"


@contextmanager
def local(jobs: int | None) -> Iterator[Workers]:
    """`jobs` processes of this machine (None: one for each core)."""
    workers = Local(jobs or len(os.sched_getaffinity(0)))
    try:
        yield workers
    finally:
        workers.executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def dask(address: str) -> Iterator[Workers]:
    """The cluster whose scheduler is at `address`. NoWorkersError if that cannot work, within seconds."""
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise NoWorkersError(
            f"--dask needs the extra `cluster`: pip install 'stormproof[cluster]' ({error.name} is missing)"
        ) from error
    for name in ("distributed", "tornado"):  # what matters of it is told in our own words
        logging.getLogger(name).setLevel(logging.CRITICAL)
    client = _connected(Client, address)
    try:
        workers = Cluster(client, address)
        yield workers
        workers.executor.shutdown(wait=False)
    finally:
        with suppress(Exception):
            client.close(timeout=PATIENCE)


def _connected(client: Any, address: str) -> Any:
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        if parts.scheme not in ("tcp", "tls") or not parts.hostname or not parts.port:
            raise ValueError("that is no tcp://HOST:PORT")
        return client(address, timeout=PATIENCE, set_as_default=False)
    except Exception as error:  # of many kinds: no such host, nobody there, somebody else there
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NoWorkersError(
            f"--dask: there is no Dask scheduler at {address} ({why}); give the address that `dask scheduler` prints, "
            "such as tcp://10.0.0.1:8786, or leave it out to use this machine's cores"
        ) from None
