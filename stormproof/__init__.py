"""A gRPC client channel that keeps working on bad days."""

from stormproof.channel import Channel
from stormproof.checkpoint_store import CheckpointError, CheckpointStore, StoreInUse
from stormproof.checkpoints import checkpointed, checkpointed_stream
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
from stormproof.core.budget import RetryBudget
from stormproof.core.endpoint import Endpoint
from stormproof.core.failover import Failover
from stormproof.core.health import HealthCheck
from stormproof.core.ledger import Mark
from stormproof.core.outcome import Code, Evidence, Outcome
from stormproof.core.policy import Backoff, Checkpoint, Hedge, Policy, Retry
from stormproof.core.reports import LoadReports
from stormproof.core.slow_start import SlowStart
from stormproof.errors import CallError
from stormproof.resolver import Dns, File, Polled, Resolver, Subset
from stormproof.service_config import from_service_config

__all__ = [
    "Channel", "ChannelConfig", "from_service_config", "Endpoint", "Resolver", "Dns", "File", "Polled", "Subset",
    "CallError", "Code", "Evidence", "Outcome",
    "Policy", "Retry", "Backoff", "Hedge", "Checkpoint", "RetryBudget", "Failover",
    "HealthCheck", "LoadReports", "SlowStart",
    "Balancer", "Picker", "RoundRobin", "RandomChoice", "LeastRequest", "PeakEwma", "Adaptive",
    "ConsistentHash", "Keyed", "KeyedPicker",
    "CheckpointStore", "CheckpointError", "StoreInUse", "Mark", "checkpointed", "checkpointed_stream",
]  # fmt: skip
