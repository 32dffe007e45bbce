"""What a history comes to: figures against values worked out by hand, and the verdict on all of it."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from harness.guarantees.base import Verdict
from harness.history import Execution, History
from harness.report import Report, ScenarioReport, summary
from harness.report.schema import OBJECTS, schema_table

STARTED = "2026-01-31T12:00:00Z"
HELD = Verdict(guarantee="G", verdict="held", measured="", bound="")


def scenario(history: History, *verdicts: Verdict, name: str = "x") -> ScenarioReport:
    return ScenarioReport.of(history, verdicts, name=name, doc="", again="", started=STARTED)


def test_a_quantile_is_a_latency_that_no_more_than_the_rest_exceeded(calm):
    """Of 1, 2 ... 10 ms the median is the fifth, p90 the ninth, everything beyond the tenth."""
    assert summary.latency(calm) == pytest.approx(
        {"p50": 0.005, "p90": 0.009, "p99": 0.010, "p999": 0.010, "max": 0.010}
    )


def test_a_call_that_never_ended_is_slower_than_any(stormy):
    """Of 0.25, 0.5, 1 s and one without an end the median is 0.5 s, and p90 is no number."""
    assert summary.latency(stormy) == {"p50": 0.5, "p90": None, "p99": None, "p999": None, "max": None}


def test_without_calls_there_is_no_latency_and_nothing_fails(calm):
    """A run that died before its first call is still reported."""
    told = scenario(replace(calm, operations=(), executions=()), HELD)
    assert (told.calls, told.attempts, told.codes, told.shares) == (0, 0, {}, {"a": 0, "b": 0, "c": 0})
    assert told.latency.p50 is told.latency.max is None


def test_shares_count_what_was_sent_and_name_idle_servers(stormy, calm):
    """An attempt that never left the client is an attempt, but of no server's share."""
    assert summary.shares(calm) == {"a": 5, "b": 5, "c": 0}
    first = stormy.operations[0]
    unsent = replace(first, attempts=(replace(first.attempts[0], sent=0),))
    history = replace(stormy, operations=(unsent, *stormy.operations[1:]))
    assert summary.shares(history) == {"a": 4, "b": 2}
    assert summary.attempts(history) == 7


def test_the_journals_speak_where_the_client_tells_of_no_attempts(calm):
    """A client of somebody else's knows nothing of attempts; the servers do."""
    silent = tuple(replace(operation, attempts=()) for operation in calm.operations)
    arrived = tuple(Execution(server="ccb"[n], operation=n, sent=1, received=1.0) for n in range(3))
    history = replace(calm, operations=silent, executions=arrived)
    assert summary.attempts(history) == 3
    assert summary.shares(history) == {"a": 0, "b": 1, "c": 2}


def test_the_three_results_add_up_to_the_calls(stormy):
    """ok, fail and info are all there is; the statuses are listed by frequency."""
    told = scenario(stormy, HELD)
    assert (told.outcomes.ok, told.outcomes.fail, told.outcomes.info, told.calls) == (2, 1, 1, 4)
    assert list(told.codes.items()) == [("OK", 2), ("DEADLINE_EXCEEDED", 1), ("UNAVAILABLE", 1)]


def test_a_history_with_problems_never_holds(calm):
    """Whatever its guarantees say: a history that cannot be trusted proves nothing."""
    assert scenario(calm, HELD).verdict == "held"
    assert scenario(replace(calm, problems=("the journal was lost",)), HELD).verdict == "unknown"


def test_a_scenario_without_guarantees_is_unknown(calm):
    """Nothing was promised, so nothing was proved."""
    assert scenario(calm).verdict == "unknown"


def test_an_empty_report_is_unknown(empty):
    """No scenario ran: that is not success."""
    assert empty.verdict == "unknown"


def test_one_broken_scenario_breaks_the_report(report):
    """held, broken and unknown together are broken."""
    assert [told.verdict for told in report.scenarios] == ["held", "broken", "unknown"]
    assert report.verdict == "broken"


def test_runs_that_share_a_name_keep_their_own_histories(calm):
    """Also where only signs that files may not have, or upper case, tell two names apart."""
    told = [scenario(calm, HELD, name=name) for name in ("t/x.py::a[B]", "t/x.py::a[b]", "t/x.py::a(b)", "\x00")]
    found = Report.of(told, fleet="sim", proxy="", seed=1, started=STARTED, seconds=1.0)
    assert [one.history for one in found.scenarios] == [
        "history/t-x.py-a-B.jsonl.gz",
        "history/t-x.py-a-b-2.jsonl.gz",
        "history/t-x.py-a-b-3.jsonl.gz",
        "history/scenario.jsonl.gz",
    ]


@pytest.mark.parametrize("started", ["2026-01-31T12:00:00", "2026-01-31T12:00:00+01:00", "yesterday"])
def test_a_time_that_is_not_utc_is_refused(started):
    """The message says what is expected."""
    with pytest.raises(ValueError, match=re.escape("such as 2026-01-31T12:00:00Z; got '" + started)):
        Report.of([], fleet="sim", proxy="", seed=1, started=started, seconds=1.0)


def test_the_documentation_is_current():
    """docs/report.md ends with the tables that the model's annotations give."""
    page = Path(__file__).parents[3] / "docs" / "report.md"
    assert page.read_text(encoding="utf-8").endswith("\n\n" + schema_table()), (
        "docs/report.md is stale: replace its tables by the output of python -m harness.report.schema"
    )


def test_every_field_of_the_report_is_documented():
    """Six objects; a field in any of them has a row with a type that JSON knows and a meaning."""
    rows = [line.split(" | ") for line in schema_table().splitlines() if line.startswith("| `")]
    assert [
        "| `from`",
        "number or null",
        "s",
        "when it was seen to act; null: it could not be applied |",
    ] in rows
    assert ["| `why`", "list of text", "", "lines that say what happened, when and where |"] in rows
    assert all(len(row) == 4 and row[1] and row[3] for row in rows)
    assert len(rows) == sum(len(fields(kind)) for kind in OBJECTS) == 50
