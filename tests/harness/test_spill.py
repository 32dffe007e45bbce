"""A run that is too long for memory: its records go to disk, and nothing else about it changes."""

from __future__ import annotations

import gzip
import tracemalloc
from collections import Counter
from dataclasses import replace

import pytest

from faults import Errors, Kill, Latency, during, named
from harness import (
    AtMostOnce,
    Available,
    AvoidsFaulty,
    Client,
    EvenShare,
    Fast,
    NoRetryStorm,
    NothingLost,
    Poisson,
    Recovers,
    Scenario,
    Servers,
    Steady,
    WithinDeadline,
)
from harness.fleet.sim import books
from harness.fleet.sim.fleet import SimFleet
from harness.guarantees.check import check_all
from harness.history import Counts, Operation, reconcile, touching
from harness.report import histories
from harness.report.model import ScenarioReport
from harness.report.picture import draw
from harness.scenario import Plan
from harness.spill import BLOCK, Spill, Spilled
from stormproof import Policy, Retry, RoundRobin

OPERATIONS = tuple(
    Operation(id=number, due=number / 10, invoked=number / 10, ended=None, result="info", code="UNKNOWN")
    for number in range(2 * BLOCK + 3)
)


def spilled(records=OPERATIONS):
    spill = Spill("operation", Operation)
    spill.add(records)
    return spill.sealed()


def test_what_is_on_disk_reads_like_a_tuple():
    """Promise: length, order, each index from either end, slices, and twice over."""
    found = spilled()
    assert len(found) == 2 * BLOCK + 3
    assert tuple(found) == tuple(found) == OPERATIONS
    for place in (0, BLOCK - 1, BLOCK, 2 * BLOCK + 2, -1, -BLOCK):
        assert found[place] == OPERATIONS[place]
    assert found[BLOCK - 1 : BLOCK + 2] == OPERATIONS[BLOCK - 1 : BLOCK + 2]
    with pytest.raises(IndexError, match="there are 10003 records; got 10003"):
        found[2 * BLOCK + 3]
    assert tuple(spilled(())) == ()


def test_its_blocks_are_a_gzip_file_of_lines():
    """Promise: zcat reads them; so they go into a report as they are."""
    lines = gzip.decompress(b"".join(spilled().blocks())).splitlines()
    assert len(lines) == len(OPERATIONS)
    assert lines[7].startswith(b'{"kind":"operation","id":7,')


def test_counts_are_exact_and_sparse_numbers_cost_a_page_each():
    """Promise: any whole number may come, -1 too, for a request that nobody owns."""
    counts = Counts([-1, 0, 5, 5, 1023, 1024, 10**12, 10**12, 10**12])
    assert [counts[number] for number in (-2, -1, 0, 5, 1023, 1024, 10**12)] == [0, 1, 1, 2, 1, 1, 3]
    assert (counts.of(bool), counts.of(lambda times: times > 1)) == (6, 2)


LONG_DAY = Scenario(
    servers=Servers(4),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, idempotent=True, retry=Retry(attempts=3))),
    workload=Poisson(rate=300, seconds=20),
    faults=[
        during(2, 4, Kill(), on=named("server-0")),
        during(5, 9, Errors(0.3, code="INTERNAL"), on=named("server-1")),
        during(10, 12, Latency(0.3), on=named("server-2")),
    ],
    guarantees=[
        Available(0.9999), Fast(p90=0.001), WithinDeadline(0.2), EvenShare(), NoRetryStorm(attempts_per_call=1.01),
        AtMostOnce(), NothingLost(), Recovers(within=2.0), AvoidsFaulty(within=0.3),
    ],
)  # fmt: skip


def lived(scenario=LONG_DAY, seed=3):
    return SimFleet().run(scenario, Plan.draw(scenario, seed), name="a long day", watch=lambda _: None)


@pytest.fixture
def both(monkeypatch):
    """One run of 6,000 calls, as it is kept in memory, and as it is put on disk."""
    kept = lived()
    monkeypatch.setattr(books, "KEEP", 1000)
    return kept, lived()


def told(history):
    """What a report says of it."""
    verdicts = check_all(touching(history), LONG_DAY.guarantees)
    report = ScenarioReport.of(history, verdicts, name="a", doc="", again="", started="2026-01-31T12:00:00Z")
    return verdicts, report, draw(history)


def test_a_run_on_disk_is_the_same_run(both):
    """Promise: every call and every line of every server's journal, the verdicts with their words, the report, the picture."""
    kept, put = both
    assert isinstance(put.operations, Spilled)
    assert isinstance(put.executions, Spilled)
    assert tuple(put.operations) == kept.operations
    for server in kept.servers:
        of_it = [[e for e in history.executions if e.server == server.name] for history in both]
        assert of_it[0] == of_it[1]
    assert reconcile(put) == ()
    assert told(put) == told(kept)
    assert Counter(verdict.verdict for verdict in told(put)[0])["broken"] >= 4  # they have something to tell
    assert (put.seconds, put.faults) == (kept.seconds, kept.faults)


def test_its_file_is_read_back_without_holding_it(both, tmp_path, monkeypatch):
    """Promise: what was written from disk is read into memory if it is short, and onto disk if it is not."""
    kept, put = both
    path = histories.write(put, tmp_path / "put.jsonl.gz")
    read = histories.read(path)
    assert read.operations == kept.operations
    assert replace(read, executions=()) == replace(kept, executions=())
    monkeypatch.setattr("harness.spill.KEEP", 1000)
    long = histories.read(path)
    assert isinstance(long.operations, Spilled)
    assert tuple(long.operations) == kept.operations
    assert Counter(long.executions) == Counter(kept.executions)


def peak(calls):
    """The most memory, in bytes, that a simulated run of so many calls takes."""
    scenario = replace(LONG_DAY, workload=Steady(rate=1000, seconds=calls / 1000), faults=())
    tracemalloc.start()
    history = lived(scenario)
    verdicts = check_all(
        touching(history), [Available(0.99), EvenShare(), NoRetryStorm(attempts_per_call=1.1), AtMostOnce()]
    )
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [verdict.verdict for verdict in verdicts] == ["held"] * 4
    return most


def test_memory_does_not_grow_with_the_calls(monkeypatch):
    """Promise: 10,000 more calls take less than 150 bytes each (for when they are due), where they would take 1,700."""
    monkeypatch.setattr(books, "KEEP", 1000)
    peak(1_500)  # what is imported on the way must not count
    assert (peak(16_000) - peak(6_000)) / 10_000 < 150
