"""The corpus: what was found is met again, and nothing is run as something else."""

from __future__ import annotations

import json
from importlib import metadata

import pytest

from faults import Errors, during, named
from harness import Client, NoStrays, Scenario, Servers, Steady
from harness.explore.corpus import SCHEMA, Corpus
from harness.explore.found import Found
from harness.guarantees import Verdict
from stormproof import Policy

VERSION = metadata.version("stormproof")
DAY = Scenario(
    servers=Servers(2),
    client=Client(policy=Policy(timeout=1.0)),
    workload=Steady(rate=100, seconds=6.0),
    faults=[during(0.5, 1.0, Errors(), on=named("server-0"))],
    guarantees=[NoStrays()],
)
VERDICT = Verdict(guarantee="NoStrays()", verdict="broken", measured="1 of 600", bound="none", why=("worst: call 7",))
FOUND = Found(scenario=DAY, seed=8, verdict=VERDICT, kind="NoStrays")


def test_what_was_kept_is_read_as_it_was(tmp_path):
    """Promise: scenario and seed come back equal; the file also says to people what was broken."""
    corpus = Corpus(folder=tmp_path / "corpus")
    file = corpus.keep(FOUND)
    entries, told = corpus.read()
    assert [(e.file, e.scenario, e.seed) for e in entries] == [(file, DAY, 8)]
    assert told == []
    data = json.loads(file.read_text())
    assert {key: data[key] for key in ("schema", "stormproof", "seed", "guarantee", "message")} == {
        "schema": 1, "stormproof": VERSION, "seed": 8, "guarantee": "NoStrays()", "message": "1 of 600\nworst: call 7",
    }  # fmt: skip


def test_the_same_day_is_one_entry_and_another_is_another(tmp_path):
    """Promise: found twice is kept once; the same day of another seed is another day."""
    corpus = Corpus(folder=tmp_path)
    other = Found(scenario=DAY, seed=9, verdict=VERDICT, kind="NoStrays")
    names = {corpus.keep(found).name for found in (FOUND, FOUND, other)}
    assert len(names) == 2
    assert {file.name for file in tmp_path.iterdir()} == names
    assert all(name.startswith("nostrays-") for name in names)


def test_a_corpus_that_is_not_there_is_empty(tmp_path):
    """Promise: nothing is made before something is found."""
    corpus = Corpus(folder=tmp_path / "corpus")
    assert corpus.read() == ([], [])
    assert not corpus.folder.exists()


def damaged(how):
    """An entry's text, after something has been done to it."""

    def change(text):
        data = json.loads(text)
        how(data)
        return json.dumps(data)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (damaged(lambda d: d.update(stormproof="0.0.9")), "was found by stormproof 0.0.9, schema 1, and this is"),
        (damaged(lambda d: d.update(schema=SCHEMA + 1)), f"was found by stormproof {VERSION}, schema 2, and this is"),
        (damaged(lambda d: d.update(seed=7)), "is not what was written (its checksum differs)"),
        (damaged(lambda d: d["scenario"]["servers"].update(count=3)), "is not what was written (its checksum differs)"),
        (damaged(lambda d: d.pop("scenario")), "tells of no scenario (KeyError: 'scenario')"),
        (lambda text: text[: len(text) // 2], "cannot be read ("),
        (lambda _: "[1, 2]", "is no bad day of stormproof explore"),
        (lambda _: '{"mine": 1}', "is no bad day of stormproof explore"),
    ],
    ids=["version", "schema", "seed", "day", "half a record", "half a file", "a list", "somebody else's"],
)
def test_an_entry_that_is_not_ours_to_run_is_named_and_not_run(tmp_path, change, says):
    """Promise: of another version, damaged or foreign: it is told by its name, left where it is, and the others are read."""
    corpus = Corpus(folder=tmp_path)
    good = corpus.keep(Found(scenario=DAY, seed=9, verdict=VERDICT, kind="NoStrays"))
    bad = corpus.keep(FOUND)
    bad.write_text(change(bad.read_text()))
    entries, told = corpus.read()
    assert [entry.file for entry in entries] == [good]
    assert len(told) == 1
    assert told[0].startswith(f"{bad}: {says}"), told
    assert bad.exists()
