"""Clients whose checkpoint says too much, too little, too late, or what another one wrote.

What a ledger returns is on the disk at once (stormproof.core.ledger): so one that returns less has not flushed it, and one
that returns something else has written that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from faults import Kill, every_so_often, named
from harness.client import Client
from harness.guarantees import NothingLost, Resumes
from harness.saboteurs.base import Saboteur, lacking, planted
from harness.scenario import Scenario, Servers
from harness.workload import Batch
from stormproof.core.balancers.round_robin import RoundRobin
from stormproof.core.ledger import Ledger, Mark, Progress
from stormproof.core.policy import Policy, Retry

#: The client is killed five times in the middle of a batch.
KILLED = Scenario(
    servers=Servers(3, service_time=0.010),
    client=Client(
        balancer=RoundRobin(),
        policy=Policy(timeout=1.0, idempotent=True, retry=Retry(attempts=3)),
        checkpoint_every=10,
    ),
    workload=Batch(items=400, seconds=40),
    faults=[every_so_often(1.0, Kill(), lasting=0.2, start=0.7, end=5.2, on=named("client"))],
    guarantees=[NothingLost(), Resumes(every=10)],
)


class _TooEarly(Ledger):
    def _checkpoint(self) -> Progress:
        return replace(super()._checkpoint(), done=self._done + self._every, begun=self._done + self._every)


class SavesBeforeTheWork(Client):
    """The checkpoint says that items are done which are about to be."""

    LEDGER: ClassVar[type[Ledger]] = _TooEarly


class _Buffering(Ledger):
    _written = 0

    def taken(self) -> Progress | None:
        due = super().taken()
        self._written += due is not None
        return due if self._written % 8 == 0 else None


class NeverFlushes(Client):
    """A checkpoint stays in a buffer until eight of them fill it."""

    LEDGER: ClassVar[type[Ledger]] = _Buffering


class _Torn(Ledger):
    """From the first byte of a checkpoint to its last, which takes until the item is done, nothing whole is on the disk."""

    def __init__(self, was: Progress, *, name: str, every: int) -> None:
        whole = Progress(done=0, begun=0) if was.fingerprint == "torn" else was
        super().__init__(whole, name=name, every=every)

    def came(self, cursor: object = None) -> Progress | None:  # noqa: ARG002
        return replace(self.now, fingerprint="torn")

    def taken(self) -> Progress | None:
        super().taken()
        return self.now


class WritesInPlace(Client):
    """Overwrites the last checkpoint with the next one; after a kill in between there is none."""

    LEDGER: ClassVar[type[Ledger]] = _Torn


class _Forgetting(Ledger):
    def __init__(self, was: Progress, *, name: str, every: int) -> None:  # noqa: ARG002
        super().__init__(Progress(done=0, begun=0), name=name, every=every)


class IgnoresItsCheckpoint(Client):
    """Begins anew after every restart."""

    LEDGER: ClassVar[type[Ledger]] = _Forgetting


class _Skipping(Ledger):
    def __init__(self, was: Progress, *, name: str, every: int) -> None:
        super().__init__(replace(was, done=was.begun), name=name, every=every)


class SkipsWhatWasBegun(Client):
    """Goes on behind the items that had been begun, done or not."""

    LEDGER: ClassVar[type[Ledger]] = _Skipping


class _Shared(Ledger):
    def _checkpoint(self) -> Progress:
        ahead = self._done + 3 * self._every
        return replace(super()._checkpoint(), done=ahead, begun=ahead)


class SharesItsCheckpoint(Client):
    """Another writer, three checkpoints ahead in a batch of its own, has the same name, and writes last."""

    LEDGER: ClassVar[type[Ledger]] = _Shared


class _Overtaken(Ledger):
    def taken(self) -> Progress | None:
        due = super().taken()
        behind = max(0, self._done - 5 * self._every)
        return due and replace(due, done=behind)


class IsOverwritten(Client):
    """A second process of the same batch, five checkpoints behind, has not noticed that it was replaced, and writes last."""

    LEDGER: ClassVar[type[Ledger]] = _Overtaken


class _Silent(Ledger):
    def hand_out(self) -> Mark:
        return replace(super().hand_out(), repeat=False)


class TellsNobodyOfRepeats(Client):
    """Sends an item again as if it were the first time."""

    LEDGER: ClassVar[type[Ledger]] = _Silent


def _with(
    name: str, defect: str, kind: type[Client], found_by: type[NothingLost | Resumes], *published: int
) -> Saboteur:
    return Saboteur(
        name=name,
        defect=defect,
        day=KILLED,
        client=planted(kind, KILLED.client),
        found_by=found_by,
        published=published,
    )


PLANTED = (
    _with(
        "checkpoint-before-the-work",
        "saves that ten items are done before it does them",
        SavesBeforeTheWork,
        NothingLost,
        28,
    ),
    _with(
        "checkpoint-not-flushed", "keeps its checkpoints in a buffer, which a kill empties", NeverFlushes, Resumes, 27
    ),
    _with(
        "checkpoint-torn",
        "writes in place: killed while it writes, it finds nothing whole and begins anew",
        WritesInPlace,
        Resumes,
        27,
        29,
    ),
    _with("checkpoint-ignored", "begins anew after each restart", IgnoresItsCheckpoint, Resumes, 28),
    _with(
        "checkpoint-skips-the-begun",
        "takes what had been begun for done when it starts again",
        SkipsWhatWasBegun,
        NothingLost,
        28,
    ),
    _with(
        "checkpoint-shared",
        "has its checkpoint under the same name as another batch, which is ahead",
        SharesItsCheckpoint,
        NothingLost,
        26,
        28,
    ),
    _with(
        "checkpoint-of-a-stale-writer",
        "lets an older process of the batch overwrite the checkpoint",
        IsOverwritten,
        Resumes,
        26,
    ),
    _with(
        "checkpoint-repeats-unmarked",
        "does not say that an item may have been done before",
        TellsNobodyOfRepeats,
        Resumes,
        28,
    ),
    Saboteur(
        name="checkpoint-none",
        defect="keeps no checkpoint",
        day=KILLED,
        client=lacking(KILLED.client, checkpoint_every=None),
        found_by=Resumes,
        published=(28,),
    ),
)
