"""docs/explore.md does what it says: the test that it shows is run."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "explore.md"


def test_the_test_of_the_page_passes():
    """Promise: pasted as it stands it meets its fifty days, and none of them breaks a promise."""
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "@given" in b]
    names: dict[str, object] = {}
    exec(compile(block, str(PAGE), "exec"), names)
    names["test_no_day_breaks_a_promise"]()
