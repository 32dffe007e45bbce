"""The toxics in a row on one direction of one connection, and which of them a connection is subject to. No
I/O.

A toxic takes a connection if one number, drawn for that toxic and that connection, is below its `toxicity`.
The number follows from the seed, the proxy's name and the order in which connections came and toxics were
added; so a seed repeats who is hit, and editing a toxic never draws anew: more toxicity adds connections,
less gives some back.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from harness.proxy.stage import Action, Actions, Deliver, End, Stage, Tally
from harness.proxy.toxics import TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxic:
    """A toxic as it is set on a proxy. `serial` counts the toxics that the proxy ever had, from 1."""

    name: str
    type: str
    stream: str
    toxicity: float
    attributes: dict[str, float]
    serial: int
    tally: Tally = field(default_factory=Tally)


class Pipe:
    """Stages in the order in which their toxics were added; bytes pass them all.

    `key` names the connection, seed included. Every method returns what is to be done now, in order.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._stages: list[tuple[int, Stage]] = []

    @property
    def empty(self) -> bool:
        """Whether no toxic acts here."""
        return not self._stages

    @property
    def held(self) -> int:
        """Memory of the bytes that wait here, about."""
        return sum(stage.held for _, stage in self._stages)

    @property
    def wake_at(self) -> float | None:
        """When `woke` is due; None while nothing waits for time to pass."""
        return min((stage.wake_at for _, stage in self._stages if stage.wake_at is not None), default=None)

    def put(self, toxic: Toxic, now: float) -> Actions:
        """`toxic` was added or edited."""
        rng = random.Random(f"{self._key}/{toxic.serial}")
        hit = rng.random() < toxic.toxicity
        stage = dict(self._stages).get(toxic.serial)
        if stage is not None and hit:
            stage.changed(toxic.attributes, now)
        elif stage is not None:
            return self.drop(toxic.serial, now)
        elif hit:
            self._stages.append((toxic.serial, TYPES[toxic.type](toxic.attributes, rng, toxic.tally, now)))
            self._stages.sort(key=lambda entry: entry[0])
        return ()

    def drop(self, serial: int, now: float) -> Actions:
        """The toxic `serial` was removed."""
        for index, (number, stage) in enumerate(self._stages):
            if number == serial:
                del self._stages[index]
                return self._through(index, stage.removed(now), now)
        return ()

    def received(self, data: bytes, now: float) -> Actions:
        """Bytes came from the sender."""
        return self._through(0, (Deliver(data),), now)

    def ended(self, now: float) -> Actions:
        """The sender will send no more."""
        return self._through(0, (End(),), now)

    def woke(self, now: float) -> Actions:
        """Time has come to `now`; harmless when nothing is due."""
        out: list[Action] = []
        for index, (_, stage) in enumerate(self._stages):
            if stage.wake_at is not None and stage.wake_at <= now:
                out.extend(self._through(index + 1, stage.woke(now), now))
        return out

    def _through(self, first: int, actions: Actions, now: float) -> Actions:
        """What is left of `actions` behind the stages from `first` on."""
        for _, stage in self._stages[first:]:
            if not actions:
                break
            actions = [result for action in actions for result in _tell(stage, action, now)]
        return actions


def _tell(stage: Stage, action: Action, now: float) -> Actions:
    if isinstance(action, Deliver):
        return stage.received(action.data, now)
    return stage.ended(now) if isinstance(action, End) else (action,)
