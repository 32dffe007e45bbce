"""Clients that continue a broken answer stream wrongly: too early, too late, out of order, or not at all and in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from faults import Kill, Reset, during, named
from harness.client import Client
from harness.greetings import GREETINGS, Reader
from harness.guarantees import Available, Uncut
from harness.saboteurs.base import Saboteur, lacking, planted
from harness.scenario import Scenario, Servers
from harness.wire import HelloRequest
from harness.workload import Streams
from stormproof.core.balancers.round_robin import RoundRobin
from stormproof.core.call import Action, Call, Finish
from stormproof.core.ledger import Ledger, Mark
from stormproof.core.outcome import OK
from stormproof.core.policy import Policy, Retry

TORN = Scenario(
    servers=Servers(3, service_time=0.060),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=5.0, retry=Retry(attempts=3), checkpoint=GREETINGS)),
    workload=Streams(rate=20, seconds=6, messages=12),
    faults=[during(1, 2, Kill(), on=named("server-0")), during(3, 4, Reset(), on=named("server-1"))],
    guarantees=[Uncut(), Available(0.9)],
)
RELOADED = replace(
    TORN,
    client=lacking(TORN.client, checkpoint_every=5),
    faults=[during(1, 2, Kill(), on=named("client"))],
    guarantees=[Uncut(every=5)],
)


def resuming(how: Callable[[HelloRequest, int], HelloRequest]) -> Client:
    """The clean twin's client, that asks so for the rest of a stream."""
    policy = Policy(timeout=5.0, retry=Retry(attempts=3), checkpoint=replace(GREETINGS, resume=how))
    return lacking(TORN.client, policy=policy)


@dataclass(frozen=True, slots=True)
class OneEarly:
    """Takes `after` for the message that comes next."""

    def __call__(self, request: HelloRequest, number: int) -> HelloRequest:
        return HelloRequest(name=request.name, after=number - 1)


@dataclass(frozen=True, slots=True)
class OneLate:
    """Counts from 0 what is counted from 1."""

    def __call__(self, request: HelloRequest, number: int) -> HelloRequest:
        return HelloRequest(name=request.name, after=number + 1)


@dataclass(frozen=True, slots=True)
class FromTheStart:
    """Makes the first request again."""

    def __call__(self, request: HelloRequest, number: int) -> HelloRequest:  # noqa: ARG002
        return request


class _Overtaking(Reader):
    """Holds back the first message that a further attempt brings."""

    def __init__(self) -> None:
        self._attempt = 0
        self._held: int | None = None

    def came(self, number: int, attempt: int) -> Iterable[int]:
        if self._held is not None:
            held, self._held = self._held, None
            return (number, held)
        if attempt != self._attempt and self._attempt:
            self._held = number
        self._attempt = attempt
        return () if self._held is not None else (number,)


class Overtaking(Client):
    """Its reader lets a message overtake another one where the stream was continued."""

    READER: ClassVar[type[Reader]] = _Overtaking


class _EndOfFile(Call):
    """Once a message has come, any end is an end."""

    __slots__ = ("_begun",)

    def progressed(self, now: float) -> None:
        super().progressed(now)
        self._begun = True

    def _finish(self, finish: Finish) -> list[Action]:
        begun = getattr(self, "_begun", False)
        return super()._finish(Finish(finish.attempt, OK) if begun else finish)


class EndOfFile(Client):
    """A connection that closes is the end of what came over it."""

    CALL: ClassVar[type[Call]] = _EndOfFile


class _Unmarked(Ledger):
    def hand_out(self) -> Mark:
        return replace(super().hand_out(), repeat=False)


class Unmarked(Client):
    """What may come twice is not marked so."""

    LEDGER: ClassVar[type[Ledger]] = _Unmarked


PLANTED = (
    Saboteur(
        name="resumes-one-message-early",
        defect="continues a broken stream with the message that it heard last",
        day=TORN,
        client=resuming(OneEarly()),
        found_by=Uncut,
        published=(28,),
    ),
    Saboteur(
        name="resumes-one-message-late",
        defect="continues a broken stream one message after the one that comes next",
        day=TORN,
        client=resuming(OneLate()),
        found_by=Uncut,
        published=(28,),
    ),
    Saboteur(
        name="resumes-from-the-start",
        defect="reads a broken stream again from its beginning",
        day=TORN,
        client=resuming(FromTheStart()),
        found_by=Uncut,
        published=(28,),
    ),
    Saboteur(
        name="resumes-out-of-order",
        defect="hands out the first message of a continued stream after the second",
        day=TORN,
        client=planted(Overtaking, TORN.client),
        found_by=Uncut,
        published=(28,),
    ),
    Saboteur(
        name="takes-a-break-for-an-end",
        defect="does not continue a broken stream, and tells that it came to its end",
        day=TORN,
        client=planted(EndOfFile, lacking(TORN.client, policy=Policy(timeout=5.0, retry=Retry(attempts=3)))),
        found_by=Uncut,
        published=(5,),
    ),
    Saboteur(
        name="repeats-messages-in-silence",
        defect="does not mark the messages that may have been handed out before it was killed",
        day=RELOADED,
        client=planted(Unmarked, RELOADED.client),
        found_by=Uncut,
        published=(28,),
    ),
)
