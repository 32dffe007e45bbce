"""Greeters for the tests of both drivers."""

from __future__ import annotations

import pytest
from greeters import Servers


@pytest.fixture
def three():
    servers = Servers(3)
    yield servers
    servers.stop()


@pytest.fixture
def one():
    servers = Servers(1)
    yield servers
    servers.stop()
