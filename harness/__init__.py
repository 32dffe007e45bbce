"""Starts a fleet, breaks it on purpose, and proves what a gRPC client's policies promise."""

from harness.client import Client, GrpcClient
from harness.guarantees import (
    AtMostOnce,
    Available,
    AvoidsFaulty,
    EvenShare,
    Fast,
    NoRetryStorm,
    NothingLost,
    Recovers,
    Resumes,
    WeightedShare,
    WithinDeadline,
)
from harness.scenario import Scenario, Servers
from harness.workload import Batch, Closed, Poisson, Steady

__all__ = [
    "Scenario", "Servers", "Client", "GrpcClient",
    "Poisson", "Steady", "Closed", "Batch",
    "Available", "Fast", "WithinDeadline", "EvenShare", "WeightedShare", "NoRetryStorm", "AtMostOnce", "NothingLost",
    "Recovers", "AvoidsFaulty", "Resumes",
]  # fmt: skip
