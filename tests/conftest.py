"""STORMPROOF_REQUIRE=toxiproxy,docker: what must be there, so that a test which is skipped for want of it fails instead."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

#: What a skip says that is for want of it.
WANT = {"toxiproxy": "Toxiproxy", "docker": "container engine"}
REQUIRED = [name for name in os.environ.get("STORMPROOF_REQUIRE", "").split(",") if name]


def pytest_configure() -> None:
    if unknown := sorted(set(REQUIRED) - set(WANT)):
        raise pytest.UsageError(f"STORMPROOF_REQUIRE may name {' and '.join(WANT)}; got {', '.join(unknown)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        for name in REQUIRED:
            if WANT[name] in reason:
                report.outcome = "failed"
                report.longrepr = f"STORMPROOF_REQUIRE names {name}, and: {reason}"
    return report
