"""A real engine with our images, or a skip that says what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from docker.errors import ImageNotFound

from harness.fleet.docker.engine import connect
from harness.fleet.docker.home import IMAGE, TOXIPROXY
from harness.fleet.errors import FleetError


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """A client of the engine, which has the images."""
    try:
        client = connect()
    except FleetError as error:
        pytest.skip(str(error))
    for image in (IMAGE, TOXIPROXY):
        try:
            client.images.get(image)
        except ImageNotFound:
            pytest.skip(f"the container engine has no image {image}: `make images`")
    yield client
    client.close()
