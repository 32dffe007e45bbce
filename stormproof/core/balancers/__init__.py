"""How one of the eligible endpoints is chosen: one idea a file, each a configuration and its running picker."""

from stormproof.core.balancers.adaptive import Adaptive
from stormproof.core.balancers.base import Balancer, Keyed, KeyedPicker, Picker
from stormproof.core.balancers.consistent_hash import ConsistentHash
from stormproof.core.balancers.least_request import LeastRequest
from stormproof.core.balancers.peak_ewma import PeakEwma
from stormproof.core.balancers.random_choice import RandomChoice
from stormproof.core.balancers.round_robin import RoundRobin

__all__ = [
    "Balancer", "Picker", "Keyed", "KeyedPicker",
    "Adaptive", "ConsistentHash", "LeastRequest", "PeakEwma", "RandomChoice", "RoundRobin",
]  # fmt: skip
