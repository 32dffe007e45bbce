"""What servers report of their load, and the weights that follow: gRFC A58, weighted round robin on the client's side.

A server that does much at little utilization has room for more: weight = qps / (utilization + eps / qps * penalty).
Nothing here chooses an endpoint; whoever does multiplies or replaces weights by what is decided here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stormproof.core.check import LARGEST, complain, number, seconds

#: What a report may say at most, and a weight be: nobody serves more, so it is nonsense.
MOST = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What a server says of its load: xds.data.orca.v3.OrcaLoadReport. 0 and {} stand for "not said".

    cpu_utilization, mem_utilization   fraction of the CPU and memory that it may use; CPU may be over 1.
    application_utilization   fraction of whatever limits it first, by its own reckoning; may be over 1. It is preferred
                     to `cpu_utilization`.
    qps, eps         calls and errors a second, of the whole server.
    utilization, request_cost, named_metrics   by name: fractions of other resources, what this one call cost, anything.
                     The weight does not depend on them; they are for your own use.

    Raises ValueError that names all that is no number, infinite, over 1e12, or negative (which costs and named metrics may
    be).
    """

    cpu_utilization: float = 0.0
    mem_utilization: float = 0.0
    application_utilization: float = 0.0
    qps: float = 0.0
    eps: float = 0.0
    utilization: Mapping[str, float] = field(default_factory=dict)
    request_cost: Mapping[str, float] = field(default_factory=dict)
    named_metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self._is_plain():
            return
        problems = number("cpu_utilization", self.cpu_utilization, 0, MOST, unit="fraction")
        problems += number("mem_utilization", self.mem_utilization, 0, MOST, unit="fraction")
        problems += number("application_utilization", self.application_utilization, 0, MOST, unit="fraction")
        problems += number("qps", self.qps, 0, MOST, unit="calls a second")
        problems += number("eps", self.eps, 0, MOST, unit="errors a second")
        for name, low in (("utilization", 0.0), ("request_cost", -LARGEST), ("named_metrics", -LARGEST)):
            metrics = getattr(self, name)
            if not isinstance(metrics, Mapping):
                problems.append(f"{name} must be a dict of numbers by name; got {metrics!r}")
            elif metrics:
                for key, value in metrics.items():
                    problems += number(f"{name}[{key!r}]", value, low, unit="by name")
        complain(self, problems)

    def _is_plain(self) -> bool:
        """Whether there is nothing to complain of, seen at a glance: one is made for each answer of a server."""
        numbers = (self.cpu_utilization, self.mem_utilization, self.application_utilization, self.qps, self.eps)
        for value in numbers:
            if type(value) not in (float, int) or not 0.0 <= value <= MOST:
                return False
        return self.utilization == self.request_cost == self.named_metrics == {}

    @property
    def used(self) -> float:
        """The utilization that counts: the application's own, or that of the CPU where it says none (gRFC A58)."""
        return self.application_utilization or self.cpu_utilization


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReports:
    """Endpoints are weighed by the load that their servers report with each answer (`stormproof.server.LoadReporter`).

    blackout       seconds for which an endpoint must have reported before its reports count (default 10): what a server
                   says in its first moments is no measure of it. 0: they count at once.
    expiry         seconds after which its last report counts no more, and the next one begins a new blackout (default 180).
    period         seconds between two adjustments of the weights (0.1 or more; default 1).
    error_penalty  how much utilization an error rate of 1 is worth (default 1): a server that fails all its calls, quickly
                   and at no cost, must not look idle. 0: errors do not count.

    Endpoints whose reports do not count have the mean weight of the others; with fewer than two that count, all are equal.
    The weight given to an `Endpoint` multiplies its reported one: 0 is still "never while another can serve", and 0.1 a
    tenth of what the server could bear. Defaults and rules are those of gRFC A58, whose names for them are
    blackout_period, weight_expiration_period, weight_update_period and error_utilization_penalty.
    """

    blackout: float = 10.0
    expiry: float = 180.0
    period: float = 1.0
    error_penalty: float = 1.0

    def __post_init__(self) -> None:
        problems = seconds("blackout", self.blackout) + seconds("expiry", self.expiry, low=0.001)
        problems += seconds("period", self.period, low=0.1)
        complain(
            self, problems + number("error_penalty", self.error_penalty, 0, 1e6, unit="utilization per error rate")
        )


class ReportedWeight:
    """What the reports of one endpoint say of its weight."""

    __slots__ = ("_config", "_last", "_since", "_weight")

    def __init__(self, config: LoadReports) -> None:
        self._config = config
        self._weight = 0.0
        self._since: float | None = None  # of the blackout; None: the next report begins one
        self._last = -math.inf

    def reported(self, report: LoadReport, now: float) -> None:
        """The endpoint reported. One that says no qps or no utilization is no report: what was known stays known."""
        used = report.used
        if report.qps <= 0.0 or used <= 0.0:
            return
        weight = report.qps / (used + report.eps / report.qps * self._config.error_penalty)
        if not 0.0 < weight <= MOST:  # the least of floats, or a utilization of next to nothing
            return
        if self._since is None or self._expired(now):
            self._since = now
        self._weight = weight
        self._last = now

    def returned(self) -> None:
        """The endpoint serves again after it could not: its next report begins a blackout, and until then none counts."""
        self._since = None

    def weight(self, now: float) -> float | None:
        """Its weight by its reports, over 0; None while they do not count."""
        if self._since is None or self._expired(now) or now - self._since < self._config.blackout:
            return None
        return self._weight

    def _expired(self, now: float) -> bool:
        return now - self._last >= self._config.expiry


def effective_weights(reported: Sequence[float | None], static: Sequence[float]) -> list[float]:
    """The weights to pick by, in the same order: of each endpoint its reported weight, if it has one, times its static one.

    Those without have the mean of the others' reported weights. With fewer than two reported all count as 1, so that
    the static ones remain.
    """
    known = [weight for weight in reported if weight is not None]
    if len(known) < 2:
        return list(static)
    mean = math.fsum(known) / len(known)
    return [(mean if weight is None else weight) * own for weight, own in zip(reported, static, strict=True)]
