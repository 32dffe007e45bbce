"""junit.xml as a CI system reads it."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

from harness.report import junit


def test_every_guarantee_is_a_test_case(report, tmp_path):
    """Four guarantees: two held, one broken, one unknown; each with the time of its scenario."""
    suite = ElementTree.parse(junit.write(report, tmp_path)).getroot().find("testsuite")
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "time", "timestamp")} == {
        "tests": "4",
        "failures": "1",
        "errors": "1",
        "time": "31.500",
        "timestamp": "2026-01-31T12:00:00",
    }
    cases = [(case.get("classname"), case.get("name"), case.get("time")) for case in suite.iter("testcase")]
    assert cases[:3] == [
        ("calm", "Available(0.9)", "10.000"),
        ("stormy", "Available(0.9)", "20.000"),
        ("stormy", "Fast(p99=0.050)", "20.000"),
    ]


def test_a_failure_says_what_was_found_and_how_to_see_it_again(report, tmp_path):
    """The message holds measure and bound, the text the reasons and the command."""
    failure = ElementTree.parse(junit.write(report, tmp_path)).getroot().find(".//failure")
    assert failure.get("message") == "broken: never (bound: 0.050 s)"
    assert failure.text == "worst: call 3\nagain: replay 8"


def test_odd_characters_leave_the_file_readable(report, tmp_path):
    """What XML cannot carry is replaced; the rest comes back as it was."""
    error = ElementTree.parse(junit.write(report, tmp_path)).getroot().find(".//error")
    assert "<script>alert(1)</script> a|b\n``` @all \ufffd\ufffd & 'x' \"y\"" in error.text


def test_unknown_for_no_stated_reason_is_an_error_of_its_own(report, empty, tmp_path):
    """No guarantee, a history that cannot be trusted, no scenario at all: none of them may look green."""
    bare = replace(report.scenarios[0], verdict="unknown", guarantees=())
    lost = replace(report.scenarios[0], verdict="unknown", problems=("the journal was lost",))
    told = replace(report, scenarios=(bare, lost))
    messages = [
        error.get("message")
        for one in (told, empty)
        for error in ElementTree.parse(junit.write(one, tmp_path)).getroot().iter("error")
    ]
    assert messages == [
        "unknown: no guarantee was checked",
        "unknown: the journal was lost",
        "unknown: no scenario ran",
    ]
