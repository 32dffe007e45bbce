"""docker-compose.yml as the compose command reads it: accepted, confined, and published on loopback only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.fleet.docker.compose import _program
from harness.fleet.docker.labels import ROLE
from harness.fleet.errors import FleetError

ROOT = Path(__file__).parents[4]
FILE = (ROOT / "docker-compose.yml").read_text()


def services() -> dict[str, str]:
    """The text of each service, with what it takes from the common part."""
    _, _, rest = FILE.partition("\nservices:\n")
    parts = re.split(r"^  (\w+):\n", rest, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_compose_command_takes_the_file():
    """`docker compose config`, or docker-compose 1.29."""
    try:
        program = _program()
    except FleetError as error:
        pytest.skip(f"no container engine's compose command: {error}")
    done = subprocess.run([*program, "config", "-q"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_service_is_confined():
    """Not root, on a root file system that is read-only, without capabilities."""
    assert list(services()) == ["hello", "toxiproxy", "chaos"]
    common = FILE.partition("x-confined: &confined\n")[2].partition("\nservices:")[0]
    assert 'user: "65532:65532"' in common
    assert "read_only: true" in common
    assert "cap_drop: [ALL]" in common
    for service in services().values():
        assert "<<: *confined" in service
        assert not re.search(r'user: "?(0|root)', service)


def test_what_is_published_is_published_on_loopback():
    """Each mapping of a port begins with the address of this machine for itself."""
    mappings = [line for text in services().values() for line in re.findall(r'^ +- "([^"]*:\d+)"$', text, re.MULTILINE)]
    assert mappings == ["127.0.0.1:${STORMPROOF_TOXIPROXY_PORT:-8474}:8474"]
    assert FILE.count("ports:") == 1
    assert "network_mode" not in FILE


def test_servers_and_toxiproxy_are_found_by_their_labels():
    """The roles that the fleet looks for."""
    assert re.findall(rf"{ROLE}: (\w+)", FILE) == ["server", "toxiproxy"]


def test_without_any_compose_command_the_way_out_is_told(monkeypatch):
    """Somebody else's file cannot be brought up then."""
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    with pytest.raises(FleetError, match="neither is installed: install one, or bring it up elsewhere"):
        _program()


def test_the_scripts_of_ci_are_sound():
    """They can be run, and bash can read them."""
    for name in ("run", "docker"):
        assert os.access(ROOT / ".ci" / name, os.X_OK)
        assert subprocess.run(["bash", "-n", str(ROOT / ".ci" / name)], check=False).returncode == 0
