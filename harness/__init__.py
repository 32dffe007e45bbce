"""Starts a fleet, breaks it on purpose, and proves what a gRPC client's policies promise.

These names are imported when somebody asks for one: every pytest session loads the plugin that lies in this package,
and one that uses nothing of stormproof must not wait for grpc and scipy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.client import Client, GrpcClient
    from harness.greetings import GREETINGS
    from harness.guarantees import (
        AtMostOnce,
        Available,
        AvoidsFaulty,
        EvenShare,
        Fast,
        HealthyShare,
        NoRetryStorm,
        NoStrays,
        NothingLost,
        Recovers,
        Resumes,
        RetriesElsewhere,
        SpreadsRetries,
        StopsWork,
        Uncut,
        WeightedShare,
        WithinBudget,
        WithinDeadline,
    )
    from harness.scenario import Scenario, Servers
    from harness.service_time import LogNormal, Normal, Pareto, Trace
    from harness.workload import Batch, Closed, Poisson, Steady, Streams
else:

    def __getattr__(name):
        for home in _HOMES if name in __all__ else ():
            if hasattr(found := import_module(home), name):
                return getattr(found, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


#: Where the names are defined: see above, for type checkers.
_HOMES = (
    "harness.client", "harness.greetings", "harness.guarantees", "harness.scenario", "harness.service_time",
    "harness.workload",
)  # fmt: skip

__all__ = [
    "Scenario", "Servers", "Client", "GrpcClient",
    "Poisson", "Steady", "Closed", "Batch", "Streams", "GREETINGS", "Normal", "LogNormal", "Pareto", "Trace",
    "Available", "Fast", "WithinDeadline", "EvenShare", "WeightedShare", "NoRetryStorm", "AtMostOnce", "NothingLost",
    "Recovers", "AvoidsFaulty", "Resumes", "HealthyShare", "RetriesElsewhere", "SpreadsRetries", "StopsWork", "Uncut",
    "WithinBudget", "NoStrays",
]  # fmt: skip
