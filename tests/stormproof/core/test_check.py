"""What is said of bad arguments."""

from __future__ import annotations

import pytest

from stormproof import Policy


def test_a_very_long_value_is_not_repeated_whole():
    """The message keeps its beginning, which says what is wrong, and its end; the other problems are told as well."""
    with pytest.raises(ValueError, match="timeout must be a number") as caught:
        Policy(timeout="z" * 1_000_000, attempt_timeout=-1)
    assert len(str(caught.value)) < 1500
    assert "zzz ... zzz" in str(caught.value)
    assert "attempt_timeout must be a number" in str(caught.value)
