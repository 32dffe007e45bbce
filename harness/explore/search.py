"""The search itself: days are drawn and run in virtual time until one breaks a promise; then it is made small.

It goes in rounds. In one, Hypothesis draws days at random; in the next it also climbs towards those with the worst p99 and
with the most attempts a call (`target`): a client that is close to breaking breaks nearby. Whatever breaks first is the find.
From then on only that promise counts. Hypothesis shrinks the day; and since a day can be so that nothing can be taken from
it although a smaller one breaks, too, the smaller spaces are searched as well, the smallest first, with the client that
broke among those that are drawn. The same seed meets the same days in the same order; how many depends on the time.

A day is run once: shrinking comes back to the same one by many ways. A day that could not be run as it says (its fault met no
traffic, say) breaks nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from hypothesis import Phase, find, settings, target
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample, Unsatisfiable
from hypothesis.strategies import SearchStrategy

from faults import Injection
from harness.client import Client
from harness.explore.fair import fair
from harness.explore.found import CRASH, Day, Found, met
from harness.fleet.base import Fleet
from harness.fleet.sim.fleet import SimFleet
from harness.guarantees.base import Guarantee
from harness.history import History
from harness.scenario import Scenario, Servers
from harness.strategies import clients, scenarios
from harness.values import encode
from harness.workload import Workload

#: Days of one round; in every second one the second half of them are looked for near the worst of the first.
ROUND = 200
#: Days that are met of each smaller space.
SMALLER = 80

Judge = Callable[[Client, Servers, Workload, Sequence[Injection]], Sequence[Guarantee]]


@dataclass(slots=True)
class Tally:
    """How far the search is.

    `unjudged`: days of which nothing could be said. `found`: the smallest bad day so far. `stopped`: by a signal.
    """

    days: int = 0
    calls: int = 0
    unjudged: int = 0
    p99: float = 0.0
    attempts: float = 0.0
    found: Found | None = None
    stopped: bool = False


class _Over(BaseException):
    """The time is. No Exception, or Hypothesis would take it for a find."""


class Search:
    """One search: `seconds` until a bad day is found, and `shrink` more to make it small. Every day is run with `seed`.

    client  whose promises are looked at; None: any of ours.
    judge   what each day is judged by.
    """

    def __init__(
        self,
        *,
        client: Client | None = None,
        judge: Judge = fair,
        seed: int,
        seconds: float,
        shrink: float = 60.0,
        fleet: Fleet | None = None,
    ) -> None:
        self.tally = Tally()
        self._client = client
        self._judge = judge
        self._seed = seed
        self._seconds = seconds
        self._shrink = shrink
        self._fleet = fleet or SimFleet()
        self.watch: Callable[[Tally], None] = lambda _: None  # called after every day
        self._began = 0.0
        self._broken: dict[bytes, bool] = {}  # whether a day that has been met was bad

    def carry_out(self) -> Found | None:
        """The smallest bad day that was found in time, or None."""
        self._began = time.monotonic()
        rng = Random(self._seed)
        try:
            days = scenarios(client=self._client, guarantees=self._judge)
            while not self._find(days, ROUND, rng, Phase.generate):
                if self._find(days, ROUND, rng, Phase.generate, Phase.target):
                    break
                self._broken.clear()  # the next rounds draw others, and memory has an end
            self._in_smaller_spaces(rng)
        except _Over:
            pass
        except KeyboardInterrupt:
            self.tally.stopped = True
        return self.tally.found

    def _find(self, days: SearchStrategy[Scenario], most: int, rng: Random, *phases: Phase) -> bool:
        """Whether one of so many `days` is bad; if so, it has been shrunk."""
        plan = settings(max_examples=most, database=None, deadline=None, phases=[*phases, Phase.shrink])
        try:
            find(days, self._breaks, settings=plan, random=rng)
        except (NoSuchExample, Unsatisfiable):
            return False
        return True

    def _in_smaller_spaces(self, rng: Random) -> None:
        """Looks for days with fewer servers or faults that break the same promise, until one does."""
        found = self.tally.found
        assert found is not None
        like_it: Client | SearchStrategy[Client] = self._client or st.one_of(clients(), st.just(self._who(found)))
        for servers, faults in smaller(found.scenario.servers.count, len(found.scenario.faults)):
            days = scenarios(
                client=like_it,
                guarantees=self._same,
                servers=(servers, servers),
                faults=(faults, faults),
            )
            if self._find(days, SMALLER, rng, Phase.generate):
                return

    def _who(self, found: Found) -> Client:
        client = found.scenario.client
        assert isinstance(client, Client)
        return client

    def _same(
        self, client: Client, servers: Servers, workload: Workload, faults: Sequence[Injection]
    ) -> Sequence[Guarantee]:
        """The promise that was found to be broken, as it is asked of another day."""
        judges = self._judge(client, servers, workload, faults)
        return judges if self._wanted(CRASH) else [g for g in judges if self._wanted(type(g).__name__)]

    def _breaks(self, scenario: Scenario) -> bool:
        found, now = self.tally.found, time.monotonic() - self._began
        if now > (self._seconds if found is None else found.at + self._shrink):
            raise _Over
        asked = scenario
        if found is not None and found.kind != CRASH:  # all else that it promises need not be judged any more
            same = [g for g in scenario.guarantees if self._wanted(type(g).__name__)]
            if not same:
                return False
            asked = replace(scenario, guarantees=same)
        key = encode(asked)
        if key not in self._broken:
            self._broken[key] = self._met(asked, now)
        return self._broken[key]

    def _met(self, scenario: Scenario, now: float) -> bool:
        """Whether a day that is new is bad."""
        tally = self.tally
        day = met(scenario, self._fleet, self._seed, self._wanted)
        tally.days += 1
        tally.unjudged += not day.judged
        if day.history is not None:
            tally.calls += len(day.history.operations)
            self._aim(day.history)
        self._smaller(day, now)
        self.watch(tally)
        return day.found is not None

    def _wanted(self, kind: str) -> bool:
        """Whether it is the promise that is broken already: what else breaks on the way is another find."""
        found = self.tally.found
        return found is None or kind == found.kind

    def _smaller(self, day: Day, now: float) -> None:
        """Keeps what was found, if it is the first or smaller than what was found before."""
        found, before = day.found, self.tally.found
        if found is not None and before is None:
            self.tally.found = replace(found, at=now)
        elif found is not None and before is not None and size(found.scenario) <= size(before.scenario):
            self.tally.found = replace(found, at=before.at)

    def _aim(self, history: History) -> None:
        """Tells Hypothesis what is worse."""
        took = sorted(math.inf if o.latency is None else o.latency for o in history.operations)
        if not took:
            return
        p99 = min(took[int(len(took) * 0.99)], 1e6)
        attempts = sum(1 for _, attempt in history.attempts() if attempt.sent) / len(took)
        self.tally.p99 = max(self.tally.p99, p99)
        self.tally.attempts = max(self.tally.attempts, attempts)
        target(p99, label="p99")
        target(attempts, label="attempts a call")


def size(scenario: Scenario) -> tuple[int, int, int]:
    """How large a day is to read: its faults and servers, then all that it says."""
    faults, servers = len(scenario.faults), scenario.servers.count
    return faults + servers, faults, len(encode(scenario))


def smaller(servers: int, faults: int) -> list[tuple[int, int]]:
    """The servers and faults of all spaces within so many, but for this one itself, the smallest first."""
    spaces = [(s, f) for s in range(1, servers + 1) for f in range(faults + 1) if (s, f) != (servers, faults)]
    return sorted(spaces, key=lambda space: (sum(space), space[1]))
