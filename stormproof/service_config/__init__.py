"""A gRPC service config as a `ChannelConfig`, so that a team can bring what it has.

It reads gRPC's JSON (grpc.service_config.ServiceConfig; gRFC A2, A6, A48, A50) and accepts what gRPC accepts. What a
channel of ours does in another way is not passed over: each difference is a note that names the place and what is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from stormproof.config import ChannelConfig
from stormproof.core.budget import RetryBudget
from stormproof.core.check import complain
from stormproof.core.endpoint import Endpoint
from stormproof.service_config.balancers import balancer_of
from stormproof.service_config.fields import Fields, Findings
from stormproof.service_config.methods import policies_of
from stormproof.shared import endpoints_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The configuration, and what could not be carried over exactly: one line each, JSON path first."""

    config: ChannelConfig
    notes: tuple[str, ...]


def from_service_config(
    service_config: str | bytes | Mapping[str, Any],
    endpoints: Sequence[Endpoint | str],
    *,
    idempotent: bool = False,
) -> Imported:
    """The `ChannelConfig` that does what this gRPC service config (JSON text, or what it decodes to) asks for.

    endpoints   whom to call: a service config does not say.
    idempotent  gRPC repeats an attempt that may have been executed, whatever the method does. True: so do we, for the
                methods that have a `retryPolicy`. False (default): we do not, and a note says so.

    A method has the timeout and the retries that the service config gives it, and none that it does not. Raises one
    ValueError that names every problem: JSON path, value, bound.
    """
    root = _root(service_config)
    known, problems = endpoints_of(endpoints)
    root.findings.problems.extend(problems)
    balancer, members = balancer_of(root, known)
    default, methods = policies_of(root, idempotent)
    budget = _budget(root, repeats=any(policy.retry or policy.hedge for policy in (default, *methods.values())))
    root.drop("healthCheckConfig", "not carried over; Failover() ejects endpoints by how their calls end")
    root.rest()
    complain("service config", root.findings.problems)
    config = ChannelConfig(endpoints=members, balancer=balancer, policy=default, methods=methods, budget=budget)
    return Imported(config=config, notes=root.findings.notes)


def _root(service_config: str | bytes | Mapping[str, Any]) -> Fields:
    data: Any = service_config
    if isinstance(service_config, str | bytes):
        try:
            data = msgspec.json.decode(service_config)
        except ValueError as error:
            raise ValueError(f"service config: not a JSON text; {error}") from error
    if isinstance(data, list):
        raise ValueError("service config: this is a list of choices (gRFC A2): give the 'serviceConfig' of one of them")
    if not isinstance(data, Mapping):
        raise ValueError(f"service config: must be a JSON object, such as {{'methodConfig': [...]}}; got {data!r}")
    return Fields("", data, Findings())


def _budget(root: Fields, *, repeats: bool) -> RetryBudget:
    """The nearest to gRPC's tokens: of those it spends only what is above the half."""
    usual = RetryBudget()
    told = root.object("retryThrottling")
    if told is None:
        if repeats:
            root.note("retryThrottling", f"not there, where gRPC never stops retrying; {usual} is used")
        return usual
    tokens, ratio = told.whole("maxTokens", 1), told.positive("tokenRatio")
    told.rest()
    budget = RetryBudget(ratio=min(1.0, ratio), per_second=min(1e6, tokens / 2 / usual.window), window=usual.window)
    told.note(
        "",
        f"approximated by {budget}: a success earns as much, and the reserve is the same, but here it is retries "
        f"that cost, not failures, and the reserve refills in {budget.window:g} s, also while nothing succeeds",
    )
    return budget
