"""What the docs say is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import reference

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]


def test_the_reference_is_current():
    """docs/reference.md is made from the docstrings: run `python -m harness.reference` after changing one."""
    assert reference.PAGE.read_text() == reference.page()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page):
    """Links and paths in the docs lead somewhere."""
    text = page.read_text()
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    paths = re.findall(r"`((?:stormproof|harness|faults|suites|tests|examples|protos|docs)/[\w/]+\.\w+)`", text)
    missing = [name for name in links if not (page.parent / name).exists()]
    missing += [name for name in paths if not (ROOT / name).exists()]
    assert missing == []


def test_the_code_on_observing_is_the_example():
    """docs/observing.md shows a part of examples/observed.py, which tests/test_examples.py runs."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/observing.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    assert blocks[0] in (ROOT / "examples/observed.py").read_text()


def test_the_scenario_of_the_readme_is_the_suite():
    """The first screen shows what really runs."""
    shown = re.search(r"SLOW_SERVER = Scenario\(\n(.*?)\n\)", (ROOT / "README.md").read_text(), re.DOTALL)
    suite = re.search(
        r"SLOW_SERVER = Scenario\(\n(.*?)\n\)", (ROOT / "suites/test_slow_server.py").read_text(), re.DOTALL
    )
    assert shown is not None
    assert suite is not None
    assert shown.group(1) == suite.group(1)
