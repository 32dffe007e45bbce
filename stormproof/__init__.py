"""A gRPC client channel that keeps working on bad days."""

from stormproof.channel import Channel
from stormproof.checkpoints import CheckpointError, CheckpointStore, Mark, StoreInUse, checkpointed
from stormproof.config import ChannelConfig
from stormproof.core.balancers import (
    Adaptive,
    Balancer,
    ConsistentHash,
    Keyed,
    KeyedPicker,
    LeastRequest,
    PeakEwma,
    Picker,
    RandomChoice,
    RoundRobin,
)
from stormproof.core.breaker import Failover
from stormproof.core.budget import RetryBudget
from stormproof.core.endpoint import Endpoint
from stormproof.core.outcome import Code, Evidence, Outcome
from stormproof.core.policy import Backoff, Checkpoint, Hedge, Policy, Retry
from stormproof.errors import CallError
from stormproof.service_config import from_service_config

__all__ = [
    "Channel", "ChannelConfig", "from_service_config", "Endpoint", "CallError", "Code", "Evidence", "Outcome",
    "Policy", "Retry", "Backoff", "Hedge", "Checkpoint", "RetryBudget", "Failover",
    "Balancer", "Picker", "RoundRobin", "RandomChoice", "LeastRequest", "PeakEwma", "Adaptive",
    "ConsistentHash", "Keyed", "KeyedPicker",
    "CheckpointStore", "CheckpointError", "StoreInUse", "Mark", "checkpointed",
]  # fmt: skip
