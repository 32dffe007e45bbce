"""A gRPC client channel that keeps working on bad days."""

from stormproof.channel import Channel
from stormproof.checkpoints import CheckpointError, CheckpointStore, Mark, StoreInUse, checkpointed
from stormproof.core.balancers import Balancer, LeastRequest, PeakEwma, Picker, RandomChoice, RoundRobin
from stormproof.core.breaker import Failover
from stormproof.core.budget import RetryBudget
from stormproof.core.endpoint import Endpoint
from stormproof.core.outcome import Code, Evidence, Outcome
from stormproof.core.policy import Backoff, Policy, Retry
from stormproof.errors import CallError

__all__ = [
    "Channel", "Endpoint", "CallError", "Code", "Evidence", "Outcome",
    "Policy", "Retry", "Backoff", "RetryBudget", "Failover",
    "Balancer", "Picker", "RoundRobin", "RandomChoice", "LeastRequest", "PeakEwma",
    "CheckpointStore", "CheckpointError", "StoreInUse", "Mark", "checkpointed",
]  # fmt: skip
