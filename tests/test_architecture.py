"""Who may import what, and who may touch the outside world: section 4 of docs/design.md as one table.

The rules are read from the source text; nothing is imported. A pattern's `*` crosses folders, and a file that
is not there yet breaks no rule. To allow something, change the table and say why.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("stormproof", "faults", "harness", "suites")

#: The part of the standard library that computes and does nothing else.
PURE = (
    "__future__", "abc", "array", "bisect", "collections", "contextlib", "copy", "dataclasses", "enum", "fractions",
    "functools", "hashlib", "heapq", "itertools", "json", "math", "numbers", "operator", "random", "re",
    "statistics", "string", "struct", "textwrap", "types", "typing", "zlib",
)  # fmt: skip
CLOCKS = (
    "time", "sched", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today",
    "datetime.date.today",
)  # fmt: skip
THREADS = (
    "threading", "_thread", "asyncio", "subprocess", "multiprocessing", "concurrent", "signal", "os.fork",
)  # fmt: skip
SOCKETS = (
    "socket", "socketserver", "ssl", "select", "selectors", "http", "urllib.request", "requests", "aiohttp",
)  # fmt: skip
FILES = ("builtins.open", "os", "io", "pathlib", "shutil", "tempfile", "glob", "sqlite3", "gzip", "logging")
TALK = ("builtins.print", "builtins.input", "builtins.__import__", "builtins.eval", "builtins.exec")
#: Randomness whose seed is not ours. `random.Random()` stands for that call without a seed.
CHANCE = ("random", "numpy.random", "secrets", "uuid")
SEEDED = ("random.Random", "numpy.random.default_rng", "numpy.random.Generator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`files`, `but` not those, import `only` these modules, and `never` these names, `fine` ones excepted.

    A name covers what is below it. `import random` is fine if something below it is; then each use counts.
    """

    name: str
    files: tuple[str, ...]
    but: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    fine: tuple[str, ...] = ()

    def concerns(self, path: str) -> bool:
        """Whether the rule is about the file `path` (relative to the project, with slashes)."""
        return any(fnmatch(path, p) for p in self.files) and not any(fnmatch(path, p) for p in self.but)

    def forbids(self, use: Use) -> bool:
        """Whether the rule is broken by this use of a name."""
        if covered(use.name, self.fine):
            return False
        if use.module and any(fine.startswith(f"{use.name}.") for fine in self.fine):
            return False
        if use.imported and self.only and not covered(use.name, self.only):
            return True
        return covered(use.name, self.never)


RULES = (
    Rule(
        name="the library knows nothing of faults and harness",
        files=("stormproof/*",),
        # grpc_health: see stormproof/messages.py
        never=("faults", "harness", "suites", "protos", "tests", "benchmarks", "examples", "grpc_health"),
    ),
    Rule(
        name="the harness knows nothing of suites",
        files=("harness/*",),
        never=("suites", "tests", "benchmarks", "examples"),
    ),
    Rule(
        name="suites know nothing of tests",
        files=("suites/*",),
        never=("tests", "benchmarks", "examples"),
    ),
    Rule(
        name="faults are values",
        files=("faults/*",),
        only=(*PURE, "faults"),
        never=(*CHANCE, *TALK, "builtins.open"),
        fine=SEEDED,
    ),
    Rule(
        name="the core is pure",
        files=("stormproof/core/*",),
        only=(*PURE, "stormproof.core"),
        never=(*CHANCE, *TALK, "builtins.open"),
        fine=SEEDED,
    ),
    Rule(
        name="scenarios, histories and guarantees are pure",
        files=(
            "harness/campaign/part.py",
            "harness/campaign/tally.py",
            "harness/guarantees/*",
            "harness/history.py",
            "harness/scenario.py",
            "harness/service_time.py",
            "harness/workload.py",
        ),
        never=(*CLOCKS, *THREADS, *SOCKETS, *FILES, *TALK, *CHANCE, "grpc", "docker", "toxiproxy", "uvloop"),
        fine=SEEDED,
    ),
    Rule(
        name="only drivers and fleets read clocks, start threads and open sockets",
        files=tuple(f"{folder}/*" for folder in FOLDERS),
        but=(
            "stormproof/channel.py",
            "stormproof/driver.py",
            "stormproof/streaming.py",
            "stormproof/subchannels.py",
            "stormproof/aio*.py",
            "stormproof/shared.py",  # the lock and the clock of all drivers
            "stormproof/replay.py",  # attempts wait in it for the caller's next request
            "stormproof/timers.py",
            "stormproof/resolver.py",  # asks, in a thread of its own, what may block
            "stormproof/health_checks.py",
            "stormproof/deadline.py",  # a deadline is a moment of a clock
            "stormproof/server/*",  # drivers too: of a server's handlers
            "harness/fleet/*",
            "harness/proxy/*",
            "harness/node/*",
            "harness/client*.py",
            "harness/runner.py",
            "harness/nemesis.py",
            "harness/pytest_plugin.py",
            "harness/selftest.py",  # runs in virtual time, in several processes
            "harness/cli.py",
            "harness/explore/search.py",  # a search has so many minutes
            "harness/explore/command.py",
            "suites/test_every_kind.py",  # calls through both drivers by hand: asyncio, and threads that call
            "harness/campaign/process.py",  # drivers of processes, in threads
            "harness/campaign/run.py",
            "harness/campaign/session.py",
            "harness/campaign/show.py",
            "harness/campaign/workers.py",
            "harness/live.py",  # what the command line shows; it draws no more often than ten times a second
        ),
        never=(*CLOCKS, *THREADS, *SOCKETS),
        fine=("threading.Lock", "threading.RLock"),  # they wait for a thread, and start none
    ),
    Rule(
        name="the simulator uses only the core of the library",
        files=("harness/fleet/sim*",),
        never=("stormproof",),
        fine=("stormproof.core",),
    ),
    Rule(
        name="the simulator lives in virtual time",
        files=("harness/fleet/sim*",),
        never=(*CLOCKS, *THREADS, *SOCKETS, *FILES, *TALK, *CHANCE),
        fine=SEEDED,
    ),
)


@dataclass(frozen=True, slots=True)
class Use:
    """A name in a line: one `imported` there (a whole `module`, by `import x`), or one used there."""

    line: int
    name: str
    imported: bool = False
    module: bool = False


def covered(name: str, names: tuple[str, ...]) -> bool:
    """Whether `name` is one of `names`, or below one."""
    return any(name == one or name.startswith(f"{one}.") for one in names)


def imports(tree: ast.AST, package: str) -> Iterator[tuple[Use, str, str]]:
    """Each import with the local name that it binds and what that stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                use = Use(node.lineno, alias.name, imported=True, module=True)
                yield use, alias.asname or top, alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            folders = package.split(".")
            parents = folders[: len(folders) - node.level + 1] if node.level else []
            for alias in node.names:
                name = ".".join([*parents, *([node.module] if node.module else []), alias.name])
                yield Use(node.lineno, name, imported=True), alias.asname or alias.name, name


class Names(ast.NodeVisitor):
    """Collects uses of imports and calls of builtins, each in full: `numpy.random.rand`, `builtins.open`."""

    def __init__(self, known: dict[str, str]) -> None:
        self.known = known
        self.uses: list[Use] = []

    def full(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return self.known.get(node.id)
        above = self.full(node.value) if isinstance(node, ast.Attribute) else None
        return f"{above}.{node.attr}" if above and isinstance(node, ast.Attribute) else None

    def visit_Call(self, node: ast.Call) -> None:
        name = self.full(node.func)
        if name == "random.Random" and not node.args:
            self.uses.append(Use(node.lineno, "random.Random()"))
        if isinstance(node.func, ast.Name) and node.func.id not in self.known:
            self.uses.append(Use(node.lineno, f"builtins.{node.func.id}"))
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = self.full(node)
        if name is None:
            self.generic_visit(node)
        else:
            self.uses.append(Use(node.lineno, name))

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.known:
            self.uses.append(Use(node.lineno, self.known[node.id]))


def uses(source: str, path: str) -> list[Use]:
    """Everything that `source`, the text of the file `path`, imports, and every use of what it imported."""
    tree = ast.parse(source, path)
    package = ".".join(path.removesuffix(".py").removesuffix("/__init__").split("/"))
    if not path.endswith("__init__.py"):
        package = package.rpartition(".")[0]
    found = list(imports(tree, package))
    names = Names({local: full for _, local, full in found})
    names.visit(tree)
    return [use for use, _, _ in found] + names.uses


def broken(rule: Rule, path: str, found: list[Use]) -> list[str]:
    """One line for each use that breaks `rule`: file, line, name and rule."""
    if not rule.concerns(path):
        return []
    return [f"{path}:{u.line}: {u.name} ({rule.name})" for u in sorted(found, key=by_line) if rule.forbids(u)]


def by_line(use: Use) -> int:
    return use.line


@functools.cache
def project() -> dict[str, list[Use]]:
    """What every Python file of the project uses, by its path."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    names = [path.relative_to(ROOT).as_posix() for path in paths]
    return {name: uses(path.read_text(encoding="utf-8"), name) for name, path in zip(names, paths, strict=True)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_project_keeps(rule: Rule) -> None:
    """Promise: no file of the project breaks the rule; else each offending line is named."""
    lines = [line for path, found in project().items() for line in broken(rule, path, found)]
    assert not lines, "\n" + "\n".join(lines)


PLANTED = [
    ("the library knows", "stormproof/errors.py", "import os\nfrom harness.history import History\n", 2),
    ("the library knows", "stormproof/core/call.py", "def f():\n    import faults.network as n\n", 2),
    ("the harness knows", "harness/fleet/local.py", "from suites.test_slow_server import SLOW_SERVER\n", 1),
    ("suites know nothing", "suites/test_slow_server.py", "\nimport tests.harness.helpers\n", 2),
    ("faults are values", "faults/network.py", "import math\nimport grpc\n", 2),
    ("faults are values", "faults/target.py", "import random\n\nx = random.choice('ab')\n", 3),
    ("faults are values", "faults/base.py", "from ..harness import history\n", 1),
    ("the core is pure", "stormproof/core/call.py", "import math\nimport time\n", 2),
    ("the core is pure", "stormproof/core/call.py", "from stormproof.errors import CallError\n", 1),
    ("the core is pure", "stormproof/core/call.py", "from .. import errors\n", 1),
    ("the core is pure", "stormproof/core/load.py", "import random as r\n\n\ndef f():\n    r.random()\n", 5),
    ("the core is pure", "stormproof/core/balancers/p2c.py", "from random import shuffle\n", 1),
    ("the core is pure", "stormproof/core/balancers/p2c.py", "import random\nrng = random\n", 2),
    ("the core is pure", "stormproof/core/balancers/p2c.py", "import random\nrng = random.Random()\n", 2),
    ("the core is pure", "stormproof/core/load.py", "x = 1\nprint(x)\n", 2),
    ("scenarios, hist", "harness/guarantees/fast.py", "from datetime import datetime as d\nx = d.now()\n", 2),
    ("scenarios, hist", "harness/history.py", "def f(path):\n    with open(path) as g:\n        pass\n", 2),
    ("scenarios, hist", "harness/workload.py", "import numpy as np\nx = np.random.rand(3)\n", 2),
    ("only drivers", "harness/report/html.py", "import json\nfrom time import monotonic\n", 2),
    ("only drivers", "stormproof/config.py", "import threading\nx = threading.Thread()\n", 2),
    ("only drivers", "suites/test_slow_server.py", "import asyncio\n", 1),
    ("the simulator uses only", "harness/fleet/sim.py", "from stormproof import PeakEwma\n", 1),
    ("the simulator uses only", "harness/fleet/sim.py", "import stormproof\nx = stormproof.Channel\n", 2),
    ("the simulator uses only", "harness/fleet/sim/driver.py", "import grpc\nfrom stormproof.driver import Run\n", 2),
    ("the simulator lives", "harness/fleet/sim.py", "import heapq\nimport time\n", 2),
    ("the simulator lives", "harness/fleet/sim/engine.py", "from threading import Lock\n", 1),
    ("the simulator lives", "harness/fleet/sim/link.py", "import random\nx = random.random()\n", 2),
    ("the simulator lives", "harness/fleet/sim/run.py", "def f(path):\n    with open(path) as g:\n        pass\n", 2),
]  # fmt: skip


def named(start: str) -> Rule:
    (rule,) = [rule for rule in RULES if rule.name.startswith(start)]
    return rule


@pytest.mark.parametrize(("start", "path", "source", "line"), PLANTED)
def test_a_planted_violation_is_found_in_its_line(start: str, path: str, source: str, line: int) -> None:
    """Promise: a rule that is broken names the file and the line, once for each offending name."""
    (found,) = broken(named(start), path, uses(source, path))
    assert found.startswith(f"{path}:{line}: ")
    assert named(start).name in found


def test_every_rule_has_been_seen_to_be_broken() -> None:
    """Promise: no rule stands in the table that could not fail."""
    assert {named(start) for start, *_ in PLANTED} == set(RULES)


ALLOWED = [
    ("stormproof/core/call.py", "import random\n\n\ndef f(rng: random.Random, time): rng.random(), time\n"),
    ("stormproof/core/call.py", "from . import policy\nfrom .balancers import base\n"),
    ("stormproof/core/call.py", "import stormproof.core.load\nstormproof.core.load.x\n"),
    ("stormproof/core/breaker.py", "class Breaker:\n    def open(self): return self.open()\n"),
    ("stormproof/channel.py", "import threading, time, grpc\nthreading.Thread(target=time.sleep)\n"),
    ("stormproof/checkpoints.py", "import sqlite3\nfrom threading import Lock\nx = Lock()\n"),
    ("harness/history.py", "import random\nfrom datetime import timedelta\nx = random.Random(7)\n"),
    ("harness/fleet/sim.py", "import stormproof.core.load as l\nl.x\nfrom stormproof.core import call\n"),
    ("harness/fleet/sim/driver.py", "import random\nfrom stormproof.core.call import Call\nx = random.Random(1)\n"),
    ("harness/fleet/local.py", "import time, socket, subprocess\nfrom stormproof import Channel\n"),
    ("suites/test_slow_server.py", "from faults import Latency\nfrom harness import Scenario\n"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "source"), ALLOWED)
def test_what_is_allowed_breaks_no_rule(path: str, source: str) -> None:
    """Promise: seeded randomness, locks, local names that look like modules, and the right arrows pass."""
    assert [line for rule in RULES for line in broken(rule, path, uses(source, path))] == []
