"""The saboteurs: each is found by the guarantee that names it, its clean twin is not blamed, and none is missing."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from harness import Poisson
from harness.cli import app
from harness.fleet.local import LocalFleet
from harness.guarantees import GUARANTEES, Fast
from harness.runner import run
from harness.saboteurs import SABOTEURS, planted
from harness.saboteurs.page import PAGE, start
from harness.saboteurs.published import ELSEWHERE, PUBLISHED
from harness.saboteurs.retries import NOISE, GoesBack
from harness.selftest import Row, Trial, chosen, rows, summary, trials
from harness.values import from_json, to_json

NAMES = [saboteur.name for saboteur in SABOTEURS]
#: The page has the figures of 20; each seed costs 10 s of a core.
SEEDS = (1, 2)


@pytest.fixture(scope="module")
def found():
    """Every saboteur with each seed, by its name."""
    return {row.saboteur.name: row for row in rows(SABOTEURS, list(trials(SABOTEURS, SEEDS, jobs=1)))}


@pytest.mark.parametrize("name", NAMES)
def test_a_saboteur_is_found_and_its_clean_twin_is_not_blamed(found, name):
    """Its guarantee is broken with each seed, and all guarantees of the day hold without its defect."""
    assert list(found[name].problems()) == []
    assert (found[name].found, found[name].held, len(found[name].trials)) == (2, 2, 2)


def test_every_guarantee_has_a_saboteur():
    """A guarantee that finds nothing proves nothing; there are forty saboteurs at least, each with a name of its own."""
    assert {saboteur.found_by for saboteur in SABOTEURS} == set(GUARANTEES)
    assert len(NAMES) >= 40
    assert [name for name, count in Counter(NAMES).items() if count > 1] == []


def test_every_published_mistake_has_a_saboteur_or_a_test():
    """But for 24, half a message, which gRPC itself must refuse."""
    covered = {number for saboteur in SABOTEURS for number in saboteur.published} | set(ELSEWHERE)
    assert sorted(set(PUBLISHED) - covered) == [24]


def test_the_page_is_current():
    """docs/saboteurs.md names every saboteur, its defect and its guarantee: `python -m harness.saboteurs.page`."""
    text = PAGE.read_text()
    table = re.findall(r"^(\| .* \| .* \| `\w+\(.*\)` \|) (\d+) of 20 \| (\d+) of 20 \|", text, re.MULTILINE)
    assert [row for row, _, _ in table] == [start(saboteur) for saboteur in SABOTEURS]
    assert {(found, held) for _, found, held in table} == {("20", "20")}


@pytest.mark.parametrize("saboteur", SABOTEURS, ids=NAMES)
def test_a_saboteur_is_a_value(saboteur):
    """Its client goes to another process as JSON, and is the same there; it differs from its twin by itself alone."""
    assert from_json(to_json(saboteur.client)) == saboteur.client
    assert saboteur.sabotaged == replace(saboteur.day, client=saboteur.client)


def test_a_saboteur_without_a_guarantee_or_without_a_defect_is_refused():
    """All that is wrong is told together."""
    one = chosen(["half-open-crowd"])[0]
    with pytest.raises(ValueError, match="found_by must be a guarantee of its day; got Fast") as refused:
        replace(one, found_by=Fast, client=one.day.client, published=(77,))
    assert "client must differ from the clean twin" in str(refused.value)
    assert "published must be numbers of PUBLISHED; got [77]" in str(refused.value)


def test_an_unknown_name_lists_the_near_ones():
    """What contains it, then what is spelled alike; all, if nothing is."""
    with pytest.raises(
        ValueError, match="no saboteur 'hedge'; near are hedges-without-cap, hedge-losers-not-cancelled"
    ):
        chosen(["hedge"])
    with pytest.raises(ValueError, match="no saboteur 'half-open-croud'; near are half-open-crowd"):
        chosen(["half-open-croud"])
    with pytest.raises(ValueError, match="no saboteur 'xyzzy'; docs/saboteurs.md lists all"):
        chosen(["xyzzy"])


def harmless():
    """A saboteur without a defect: its client has another timeout than its twin, and is as good."""
    (one,) = chosen(["retries-never"])
    return replace(one, client=replace(one.day.client, policy=replace(one.day.client.policy, timeout=1.5)))


def test_who_is_not_found_or_blamed_without_a_defect_is_told():
    """A client that is as good as its twin, and a twin that cannot keep what its day promises."""
    (one,) = chosen(["retries-never"])
    strict = replace(one, name="strict", day=replace(one.day, guarantees=[*one.day.guarantees, Fast(max=0.001)]))
    both = [harmless(), strict]
    missed, blamed = rows(both, list(trials(both, [1], jobs=1)))
    assert list(missed.problems()) == [f"retries-never, seed 1: Available is held: {missed.measured}"]
    (told,) = blamed.problems()
    assert told.startswith("strict, seed 1: its clean twin did not hold: Fast(max=0.001)  broken: max was 0.")
    assert summary([missed, blamed], 1) == (
        "✗ 1 of 2 saboteurs found with 1 of 1 seeds, 1 of 2 clean twins held with 1 of 1"
    )


def test_what_cannot_be_told_is_neither_found_nor_held():
    """A verdict of unknown, as of a run that came to nothing, counts against the self-test."""
    trial = Trial(name="retries-never", seed=1, verdict="unknown", measured="", twin="unknown", complaint="")
    row = Row(saboteur=harmless(), trials=(trial,))
    assert (row.found, row.held, row.good) == (0, 0, False)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--only=always-the-first", "--only=checkpoint-torn"], 0, "✓ 2 of 2 saboteurs found with 1 of 1 seeds"),
        (["--only=nobody"], 2, "there is no saboteur 'nobody'; near are "),
        (["--seeds=0"], 2, "0 is not in the range 1<=x<=1000|greater than or equal to 1"),
        (["--seeds=1001"], 2, "1001 is not in the range 1<=x<=1000|less than or equal to 1000"),
    ],
)
def test_the_command_ends_with_a_status_and_says_why(arguments, status, says):
    """0: all found, and nobody blamed; 2: what was asked for makes no sense, and why."""
    done = CliRunner().invoke(app, ["selftest", "--jobs=1", "--seeds=1", *arguments])
    assert done.exit_code == status, done.output
    assert re.search(says, done.output)


def test_a_saboteur_that_is_missed_ends_the_command_with_1(monkeypatch):
    """And the seed is named, and what the guarantee measured."""
    monkeypatch.setattr("harness.selftest.chosen", lambda _: (harmless(),))
    done = CliRunner().invoke(app, ["selftest", "--jobs=1", "--seeds=1"])
    assert done.exit_code == 1, done.output
    assert "✗ retries-never, seed 1: Available is held: " in done.output


@pytest.mark.parametrize(
    ("raised", "says"),
    [(OSError("no more processes"), "OSError: no more processes"), (KeyboardInterrupt(), "a signal")],
)
def test_a_self_test_that_cannot_run_to_its_end_ends_with_2(monkeypatch, raised, says):
    """It has proved nothing, and refuted nothing."""

    def fails(*_):
        raise raised

    monkeypatch.setattr("harness.selftest.tried", fails)
    done = CliRunner().invoke(app, ["selftest", "--jobs=1", "--seeds=1"])
    assert done.exit_code == 2
    assert re.search(f"could not be run to its end: .*{says}", done.output)


def test_several_processes_tell_the_same():
    """`jobs=2`: the same trials, whatever their order."""
    some = chosen(["always-the-first", "checkpoint-torn"])
    assert set(trials(some, [1, 2], jobs=2)) == set(trials(some, [1, 2], jobs=1))


def test_a_defect_shows_in_real_processes_too():
    """A planted pool decides in the client of a local fleet: its retries go back, and its clean twin's do not."""
    day = replace(NOISE, workload=Poisson(rate=150, seconds=4), guarantees=NOISE.guarantees[2:3])
    with LocalFleet() as fleet:
        sabotaged = run(replace(day, client=planted(GoesBack, day.client)), fleet, seed=1, name="a saboteur")
        clean = run(day, fleet, seed=1, name="its clean twin")
    assert (sabotaged.broken, clean.broken) == (["RetriesElsewhere"], [])
