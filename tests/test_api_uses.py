"""tests/api_uses.py is type-checked by `make check`; here it is held to be complete."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

import faults
import harness
import stormproof

ROOT = Path(__file__).parents[1]
USES = ROOT / "tests" / "api_uses.py"


@pytest.mark.parametrize("package", [stormproof, faults, harness], ids=lambda package: package.__name__)
def test_every_public_name_is_used(package):
    """A new public name needs a use that a user's code could have: an import alone is none."""
    used = {node.id for node in ast.walk(ast.parse(USES.read_text())) if isinstance(node, ast.Name)}
    assert sorted(set(package.__all__) - used) == []


def test_it_is_checked_and_not_run():
    """mypy without arguments reads it, and pytest does not collect it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert "tests/api_uses.py" in settings["mypy"]["files"]
    assert not USES.name.startswith("test_")
