"""Which endpoints a channel may use: when one is ejected, which tier and zone serves, and when all are used after all."""

from __future__ import annotations

from dataclasses import dataclass

from stormproof.core.check import complain, instance, number, seconds
from stormproof.core.health import HealthCheck
from stormproof.core.slow_start import SlowStart


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """When an endpoint is ejected, for how long, and who serves then. When all are ejected, all are used (panic), not none.

    consecutive   failures in a row that eject (1 to 1000; default 5), more where the other endpoints fail often, too.
    rate          failure rate that ejects (over 0 to 1), among at least `minimum` calls in the last 5 to 10 seconds, if
                  the other endpoints fail so much less that chance does not explain it.
    minimum       calls below which the rate says nothing (1 or more).
    base          seconds of the first ejection. Each further one in a row doubles it, up to `cap` seconds; each is
                  shortened by up to a fifth at random, so that clients do not come back together.
    max_ejected   fraction of the endpoints that may be ejected at once (0 to 1; default 1). One always may.
    zone          where this client is: endpoints of the same zone serve before others of their priority. "": no matter.
    spill         fraction of a tier that must be well for it to serve alone; below, a part of the calls goes to the next
                  tier (default 0: only when nobody is left; Envoy's overprovisioning factor of 1.4 is 1 / 1.4).
    panic         fraction of a tier that must be well for the ejected ones to be left out; below, unless the other tiers
                  can serve all the calls, the whole tier is used (default 0: only when nobody is left; Envoy's is 0.5).

    health        each endpoint is asked whether it can serve; one that cannot is left before a call fails on it. None: no.
    slow_start    an endpoint that joins the others, or comes back, gets its share little by little. None: at once.

    `cap` is short because a trial is one call only, and a healed server should have its share again within 2 s. Of equally
    good endpoints, whatever share of their calls fails, at most 1 in 10,000 is ejected wrongly in 10 s (at 100 calls and
    more each), and 99 in 100 that fail half their calls are found within 20 s: benchmarks/ejection.py measures it. Sources:
    Envoy's outlier detection, priority levels and panic threshold; gRFC A50.
    """

    consecutive: int = 5
    rate: float = 0.4
    minimum: int = 20
    base: float = 0.5
    cap: float = 1.5
    max_ejected: float = 1.0
    zone: str = ""
    spill: float = 0.0
    panic: float = 0.0
    health: HealthCheck | None = None
    slow_start: SlowStart | None = None

    def __post_init__(self) -> None:
        problems = number("consecutive", self.consecutive, 1, 1000, unit="failures in a row", whole=True)
        problems += number("rate", self.rate, 0.01, 1, unit="fraction of calls")
        problems += number("minimum", self.minimum, 1, unit="calls", whole=True)
        problems += seconds("base", self.base, low=0.001) + seconds("cap", self.cap, low=0.001)
        for name in ("max_ejected", "spill", "panic"):
            problems += number(name, getattr(self, name), 0, 1, unit="fraction of the endpoints")
        if not isinstance(self.zone, str):
            problems.append(f"zone must be a text, such as 'eu-1a', or '' for no matter; got {self.zone!r}")
        if self.health is not None:
            problems += instance("health", self.health, HealthCheck, "HealthCheck(), or None for none")
        if self.slow_start is not None:
            problems += instance("slow_start", self.slow_start, SlowStart, "SlowStart(window=30), or None for none")
        complain(self, problems)
