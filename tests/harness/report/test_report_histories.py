"""A history on disk is the history."""

from __future__ import annotations

import gzip
import json

import pytest

from harness.report import histories, write_all


@pytest.mark.parametrize("name", ["calm", "stormy", "evil"])
def test_a_history_comes_back_equal(name, request, tmp_path):
    """Every record, every None, every odd character."""
    history = request.getfixturevalue(name)
    path = histories.write(history, tmp_path / "history" / "x.jsonl.gz")
    assert histories.read(path) == history


def test_equal_histories_are_equal_files(calm, tmp_path):
    """Byte for byte, whenever and wherever they were written."""
    paths = [histories.write(calm, tmp_path / name) for name in ("one.gz", "two.gz")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_each_line_is_json_that_names_its_kind(calm, tmp_path):
    """zcat and jq are enough to read one."""
    with gzip.open(histories.write(calm, tmp_path / "x.gz"), "rt") as lines:
        records = [json.loads(line) for line in lines]
    assert [record["kind"] for record in records] == [
        "history", *["server"] * 3, *["operation"] * 10, "execution", "carried",
    ]  # fmt: skip
    assert records[0] == {
        "kind": "history",
        "schema": 1,
        "scenario": "calm",
        "fleet": "local",
        "proxy": "toxiproxy 2.12.0",
        "seed": 7,
        "seconds": 10.0,
        "client_starts": 1,
        "items": None,
        "problems": [],
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"kind":"operation"}', "is not a history of stormproof"),
        ('{"kind":"history","schema":2}', "was written by a later stormproof"),
    ],
)
def test_what_is_no_history_is_refused(line, message, tmp_path):
    """The message says whose fault it is."""
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(line.encode()))
    with pytest.raises(ValueError, match=message):
        histories.read(path)


def test_a_report_folder_holds_all_that_the_report_speaks_of(report, histories, tmp_path):
    """Five kinds of files, nothing half-written beside them, and each history where report.json says."""
    read = [scenario.history for scenario in report.scenarios]
    written = write_all(report, histories, tmp_path / "deep" / "out")
    there = {path for path in (tmp_path / "deep" / "out").rglob("*") if path.is_file()}
    assert set(written) == there
    names = {str(path.relative_to(tmp_path / "deep" / "out")) for path in there}
    assert names == {"report.json", "report.html", "report.md", "junit.xml", *read}


def test_a_report_without_its_histories_is_refused(report, tmp_path):
    """Before anything is written."""
    with pytest.raises(ValueError, match=r"must be as many as the report's scenarios, 3, .* got 0"):
        write_all(report, [], tmp_path)
    assert list(tmp_path.iterdir()) == []
