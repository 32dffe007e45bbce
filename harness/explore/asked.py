"""What the command line asks for, as values: guarantees as they are written in a suite, and a client by its name.

A guarantee is read, not executed: a name of ours and literals. With its arguments it is asked of every day as it is; by its
name alone it is asked as it is fair, and on those days on which it is. Without any, all that is fair is asked.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults import Injection
from faults.base import check
from harness.client import Client
from harness.explore.fair import fair
from harness.fleet.sim.fleet import SimFleet
from harness.guarantees import GUARANTEES, Guarantee, NothingLost
from harness.scenario import Plan, Scenario, Servers
from harness.workload import Steady, Workload

#: Those that `harness.explore.fair` finds fair on some days.
FAIR = (
    "AtMostOnce", "AvoidsFaulty", "EvenShare", "NoStrays", "NothingLost", "Recovers", "Resumes", "RetriesElsewhere",
    "WithinBudget", "WithinDeadline",
)  # fmt: skip


class Misasked(ValueError):
    """What was asked for cannot be; the message says what can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The judges of each day: `always` these, and of the fair ones those of these `names` (None: all of them)."""

    always: tuple[Guarantee, ...] = ()
    names: frozenset[str] | None = None

    def __post_init__(self) -> None:
        check(self, [] if self.always or self.names is None or self.names else ["always or names must hold something"])

    def __call__(
        self, client: Client, servers: Servers, workload: Workload, faults: Sequence[Injection]
    ) -> tuple[Guarantee, ...]:
        found = fair(client, servers, workload, faults)
        chosen = [g for g in found if self.names is None or type(g).__name__ in self.names]
        return (*self.always, *chosen)


def judges(texts: Sequence[str]) -> Callable[..., Sequence[Guarantee]]:
    """What `--guarantee` says, given so often. Misasked for what is no guarantee."""
    if not texts:
        return fair
    always, names = [], []
    for text in texts:
        if text.strip() in FAIR:
            names.append(text.strip())
        else:
            always.append(_guarantee(text))
    return Asked(always=tuple(always), names=frozenset(names))


def _guarantee(text: str) -> Guarantee:
    known = {kind.__name__: kind for kind in GUARANTEES}
    if text.strip() in known:
        raise Misasked(
            f"--guarantee={text}: what it asks depends on you; give its bounds, as in --guarantee={_example(text.strip())}"
        )
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in known:
            raise ValueError(f"there are {', '.join(known)}")
        arguments = [ast.literal_eval(argument) for argument in call.args]
        named = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        made: Any = known[call.func.id](*arguments, **named)
    except (SyntaxError, TypeError, ValueError) as error:
        said = "it must be written as in Python" if isinstance(error, SyntaxError) else str(error)
        raise Misasked(f"--guarantee={text} is no guarantee: {said}; write --guarantee='Fast(p99=0.5)'") from error
    guarantee: Guarantee = made
    return guarantee


def _example(name: str) -> str:
    examples = {"Fast": "'Fast(p99=0.5)'", "Available": "'Available(0.9)'", "WeightedShare": "'WeightedShare()'"}
    return examples.get(name, f"'{name}(attempts_per_call=1.5)'")


def client(name: str) -> Client:
    """The client, or the client of the scenario, that `module:NAME` names; the module may lie in this folder."""
    module, _, attribute = name.partition(":")
    try:
        if not attribute:
            raise Misasked(f"--client={name} must be MODULE:NAME, as in suites.test_slow_server:SLOW_SERVER")
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise Misasked(f"--client={name} is not there: {error}; give MODULE:NAME of a Client or a Scenario") from error
    who = found.client if isinstance(found, Scenario) else found
    if not isinstance(who, Client):
        raise Misasked(f"--client={name} must be a Client or a Scenario; got {who!r}: days are met in virtual time, "
                       "which has a model of harness.Client only")  # fmt: skip
    quiet = Scenario(servers=Servers(1), client=who, workload=Steady(rate=1, seconds=0.1), guarantees=[NothingLost()])
    history = SimFleet().run(quiet, Plan.draw(quiet, 1), name="", watch=lambda _: None)
    if history.problems:
        raise Misasked(f"--client={name}: {history.problems[0]}")
    return who
