"""An address that can serve calls."""

from __future__ import annotations

from dataclasses import dataclass

from stormproof.core.check import complain, number


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address to call, "host:port" or anything else that gRPC resolves to one server ("unix:/path").

    `weight` is its share relative to the others (0: never while another can serve). `priority` is its tier: an endpoint
    of priority 1 serves only when none of priority 0 can (Failover(spill=) makes that gradual). `zone` is where it is, for
    clients that prefer what is near (Failover(zone=)). Raises ValueError for an empty address, a negative or infinite
    weight, a negative priority.
    """

    address: str
    weight: float = 1.0
    priority: int = 0
    zone: str = ""

    def __post_init__(self) -> None:
        problems = []
        if not isinstance(self.address, str) or ":" not in self.address:
            problems.append(f"address must be a text such as '10.0.0.1:50051'; got {self.address!r}")
        problems += number("weight", self.weight, 0, 1e12, unit="share relative to the other endpoints")
        problems += number("priority", self.priority, 0, 1000, unit="tier, 0 serves first", whole=True)
        if not isinstance(self.zone, str):
            problems.append(f"zone must be a text, such as 'eu-1a', or '' for none; got {self.zone!r}")
        complain(self, problems)

    @staticmethod
    def of(value: Endpoint | str) -> Endpoint:
        """`value` itself, or an endpoint of weight 1 and priority 0 for an address."""
        return value if isinstance(value, Endpoint) else Endpoint(value)
