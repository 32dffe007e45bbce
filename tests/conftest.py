"""What holds for all tests: what must be there, and that what Hypothesis generates is the same each time.

STORMPROOF_REQUIRE=toxiproxy,docker names what must be there: a test that is skipped for want of it fails instead.
STORMPROOF_RANDOM=1 lets Hypothesis look elsewhere each time, as `make differential` does: that is for finding what is not
known, and a change is not to fail for it.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

#: What a skip says that is for want of it.
WANT = {"toxiproxy": "Toxiproxy", "docker": "container engine"}
REQUIRED = [name for name in os.environ.get("STORMPROOF_REQUIRE", "").split(",") if name]


settings.register_profile("the same each time", derandomize=True, database=None)
if not os.environ.get("STORMPROOF_RANDOM"):
    settings.load_profile("the same each time")


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
