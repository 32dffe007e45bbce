"""Who is hit. A target is drawn once per injection, from the fleet's server names, by the run's seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from faults.base import check, whole


class Target(Protocol):
    """Chooses names out of all `names`, each once, in the order of the fleet; "client" comes last."""

    def choose(self, names: Sequence[str], rng: random.Random) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Some:
    """`count` servers at random, all different."""

    count: int

    def __post_init__(self) -> None:
        check(self, whole("count", self.count, 1, way_out="servers"))

    def choose(self, names: Sequence[str], rng: random.Random) -> tuple[str, ...]:
        if self.count > len(names):
            raise ValueError(f"Some: count must be at most the number of servers, {len(names)}; got {self.count}")
        drawn = set(rng.sample(range(len(names)), self.count))
        return tuple(name for index, name in enumerate(names) if index in drawn)

    def __str__(self) -> str:
        return "one" if self.count == 1 else f"some({self.count})"


@dataclass(frozen=True, slots=True)
class Majority:
    """More than half of the servers, at random: the smallest number that is."""

    def choose(self, names: Sequence[str], rng: random.Random) -> tuple[str, ...]:
        return Some(len(names) // 2 + 1).choose(names, rng)

    def __str__(self) -> str:
        return "majority"


@dataclass(frozen=True, slots=True)
class Every:
    """All servers."""

    def choose(self, names: Sequence[str], rng: random.Random) -> tuple[str, ...]:  # noqa: ARG002
        return tuple(names)

    def __str__(self) -> str:
        return "every"


@dataclass(frozen=True, slots=True)
class Named:
    """The servers of these names: "server-0", "server-1", ...; "client" is the client's own process."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.names, tuple) or not all(isinstance(name, str) for name in self.names):
            check(self, [f'names must be texts, as in named("server-0", "server-1"); got {self.names!r}'])
        check(self, [] if self.names else ["names must not be empty; use every to hit all servers"])

    def choose(self, names: Sequence[str], rng: random.Random) -> tuple[str, ...]:  # noqa: ARG002
        unknown = [name for name in self.names if name not in names and name != "client"]
        if unknown:
            raise ValueError(
                f"Named: no server is named {', '.join(unknown)}; there are {', '.join(names)}, and client"
            )
        return tuple(name for name in (*names, "client") if name in self.names)

    def __str__(self) -> str:
        return ", ".join(self.names)


one = Some(1)
majority = Majority()
every = Every()


def some(count: int) -> Some:
    """`count` servers at random, all different."""
    return Some(count)


def named(*names: str) -> Named:
    """The servers of these names."""
    return Named(names)
