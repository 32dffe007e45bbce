"""junit.xml: one test case for each guarantee of each scenario, as CI systems read it.

broken is a failure and unknown an error: a guarantee that could not be checked must not look like one that
held. What is unknown without any guarantee that says so (nothing was promised, nothing ran) gets a test case
of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

from harness.report.files import write_text
from harness.report.model import GuaranteeReport, Report, ScenarioReport
from harness.report.text import found

#: The XML element that stands for a verdict; a test case without one has passed.
_ELEMENTS = {"broken": "failure", "unknown": "error"}


def write(report: Report, folder: Path) -> Path:
    """Writes `report` to junit.xml in `folder`. The time of a case is its whole scenario's, in seconds."""
    cases = [case for scenario in report.scenarios for case in _cases(scenario)]
    if not report.scenarios:
        cases.append(_unchecked("stormproof", 0.0, "no scenario ran"))
    counts: dict[str, Any] = {
        "tests": str(len(cases)),
        "failures": str(sum(1 for case in cases if case.find("failure") is not None)),
        "errors": str(sum(1 for case in cases if case.find("error") is not None)),
        "time": f"{report.seconds:.3f}",
    }
    root = Xml.Element("testsuites", name="stormproof", **counts)
    # JUnit's schema knows no time zone.
    timestamp = f"{datetime.fromisoformat(report.started):%Y-%m-%dT%H:%M:%S}"
    suite = Xml.SubElement(root, "testsuite", name="stormproof", timestamp=timestamp, skipped="0", **counts)
    suite.append(_properties(report))
    suite.extend(cases)
    Xml.indent(root)
    text = Xml.tostring(root, encoding="unicode")
    return write_text(folder / "junit.xml", f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')


def _properties(report: Report) -> Xml.Element:
    properties = Xml.Element("properties")
    for name in ("stormproof", "fleet", "proxy", "seed", "verdict"):
        Xml.SubElement(properties, "property", name=name, value=str(getattr(report, name)))
    return properties


def _cases(scenario: ScenarioReport) -> Iterable[Xml.Element]:
    for guarantee in scenario.guarantees:
        yield _case(scenario, guarantee)
    told = any(guarantee.verdict == "unknown" for guarantee in scenario.guarantees)
    if scenario.verdict == "unknown" and not told:
        reason = "; ".join(scenario.problems) or "no guarantee was checked"
        yield _unchecked(scenario.name, scenario.seconds, reason)


def _case(scenario: ScenarioReport, guarantee: GuaranteeReport) -> Xml.Element:
    case = Xml.Element("testcase", classname=scenario.name, name=guarantee.name, time=f"{scenario.seconds:.3f}")
    if guarantee.verdict in _ELEMENTS:
        message = f"{guarantee.verdict}: {found(guarantee.measured, guarantee.bound)}"
        bad = Xml.SubElement(case, _ELEMENTS[guarantee.verdict], type=guarantee.verdict, message=message)
        again = (f"again: {scenario.again}",) if scenario.again else ()
        bad.text = "\n".join((*scenario.problems, *guarantee.why, *again))
    return case


def _unchecked(classname: str, seconds: float, reason: str) -> Xml.Element:
    case = Xml.Element("testcase", classname=classname, name="the run itself", time=f"{seconds:.3f}")
    Xml.SubElement(case, "error", type="unknown", message=f"unknown: {reason}")
    return case
