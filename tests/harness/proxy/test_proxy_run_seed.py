"""The seed of a run reaches the built-in proxy: who is hit repeats, though proxies and ports are new in each run."""

from __future__ import annotations

import socket

import requests

from harness import Servers
from harness.fleet.local import LocalFleet

CONNECTIONS = 20


def hit(fleet: LocalFleet, port: int, seed: int) -> list[bool]:
    """Which connections to the server of a run a toxic with toxicity 0.5 takes: they end before gRPC's first words."""
    with fleet.deploy(Servers(1, service_time=0.0), seed=seed) as deployment:
        server = deployment.servers["server-0"]
        body = {"type": "limit_data", "toxicity": 0.5, "attributes": {"bytes": 0}}
        url = f"http://127.0.0.1:{port}/proxies/{server.proxy}/toxics"
        assert requests.post(url, json=body, timeout=20).status_code == 200
        host, _, at = server.address.rpartition(":")
        found = []
        for _ in range(CONNECTIONS):
            with socket.create_connection((host, int(at)), 20) as client:
                found.append(client.recv(100) == b"")
        return found


def test_two_runs_with_one_seed_hit_the_same_connections(monkeypatch):
    """Another seed hits others (the same with 2 ** -20), and each hits some and not all."""
    monkeypatch.setenv("STORMPROOF_TOXIPROXY", "builtin")
    monkeypatch.delenv("STORMPROOF_TOXIPROXY_URL", raising=False)
    with LocalFleet() as fleet:
        port = int(fleet.control.url.rpartition(":")[2])
        hits = [hit(fleet, port, seed) for seed in (5, 5, 6)]
    assert hits[0] == hits[1] != hits[2]
    assert all(0 < sum(some) < CONNECTIONS for some in hits)
