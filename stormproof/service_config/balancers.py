"""Who is called: `loadBalancingConfig`, or the old `loadBalancingPolicy`, as a balancer and the endpoints it needs.

To add one: a function from gRPC's settings to the balancer, and its name in `BALANCERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from stormproof.core.balancers import Balancer, LeastRequest, RoundRobin
from stormproof.core.endpoint import Endpoint
from stormproof.service_config.fields import Fields

Choice = tuple[Balancer, Sequence[Endpoint]]


def balancer_of(root: Fields, endpoints: Sequence[Endpoint]) -> Choice:
    """gRFC A2 and A24: the first of the list that is known; the old text only where there is no list."""
    name, choices = root.text("loadBalancingPolicy"), root.objects("loadBalancingConfig")
    if choices:
        return _first_known("loadBalancingConfig", choices, endpoints)
    if name.lower() in BALANCERS:
        return BALANCERS[name.lower()](Fields("loadBalancingPolicy", {}, root.findings), endpoints)
    if name:
        root.note("loadBalancingPolicy", f"{name} is not known here; LeastRequest() is used")
    else:
        root.note("loadBalancingConfig", "not there, where gRPC calls the first endpoint only; LeastRequest() is used")
    return LeastRequest(), endpoints


def _first_known(path: str, choices: Sequence[Fields], endpoints: Sequence[Endpoint]) -> Choice:
    for choice in choices:
        names = choice.names
        if len(names) != 1:
            choice.bad("", "the name of one balancer with its settings, such as {'round_robin': {}}", names)
            continue
        settings = choice.object(names[0])
        if settings is not None and names[0] in BALANCERS:
            return BALANCERS[names[0]](settings, endpoints)
        choice.note("", f"{names[0]} is not known here, and passed over")
    choices[0].findings.note(path, "none of them is known here; LeastRequest() is used")
    return LeastRequest(), endpoints


def _pick_first(settings: Fields, endpoints: Sequence[Endpoint]) -> Choice:
    if settings.flag("shuffleAddressList"):
        settings.note("shuffleAddressList", "not carried over: give the endpoints in another order to each client")
    settings.rest()
    settings.note("", "one tier for each endpoint, in their order; when an earlier one is back, calls go back to it")
    tiers = enumerate(sorted(endpoints, key=lambda endpoint: endpoint.priority))
    return RoundRobin(), [replace(endpoint, priority=min(tier, 1000)) for tier, endpoint in tiers]


def _round_robin(settings: Fields, endpoints: Sequence[Endpoint]) -> Choice:
    settings.rest()
    return RoundRobin(), endpoints


def _weighted_round_robin(settings: Fields, endpoints: Sequence[Endpoint]) -> Choice:
    settings.note("", "the weights are those of the endpoints, not of their load reports")
    return RoundRobin(), endpoints


def _least_request(settings: Fields, endpoints: Sequence[Endpoint]) -> Choice:
    choices = settings.whole("choiceCount", 2, default=2)
    settings.rest()
    return LeastRequest(min(choices, 10)), endpoints  # gRFC A48, as implemented: more than 10 are 10


def _outlier_detection(settings: Fields, endpoints: Sequence[Endpoint]) -> Choice:
    settings.note("", "its settings are not carried over; Failover() ejects endpoints by how their calls end")
    children = settings.objects("childPolicy")
    return _first_known(settings.at("childPolicy"), children, endpoints) if children else (LeastRequest(), endpoints)


#: gRPC's names of the balancers that have a counterpart here.
BALANCERS: Mapping[str, Callable[[Fields, Sequence[Endpoint]], Choice]] = {
    "pick_first": _pick_first,
    "round_robin": _round_robin,
    "weighted_round_robin": _weighted_round_robin,
    "least_request_experimental": _least_request,
    "outlier_detection_experimental": _outlier_detection,
}
