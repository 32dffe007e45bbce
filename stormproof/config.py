"""A channel's whole configuration as one value, which goes to JSON and back.

It holds what is data. What is not (credentials, compression, the observer) is given when the channel is made of it.
The import of gRPC's own format, the service config, is stormproof.service_config.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import grpc
import msgspec

from stormproof import aio
from stormproof.channel import Channel
from stormproof.core.balancers import Balancer, LeastRequest
from stormproof.core.budget import RetryBudget
from stormproof.core.check import complain
from stormproof.core.endpoint import Endpoint
from stormproof.core.failover import Failover
from stormproof.core.policy import Policy
from stormproof.core.reports import LoadReports
from stormproof.observer import Observer
from stormproof.resolver import Resolver
from stormproof.shared import configuration, endpoints_of
from stormproof.values import Codec

#: The version of the JSON. It grows when a field is removed or changes its meaning, not when one is added.
SCHEMA = 1
_CODEC = Codec("stormproof")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelConfig:
    """Everything that a `Channel` is made of and that is data. Its fields are the arguments of `Channel`, of the same names.

    `endpoints`, unless it is a `Resolver`, becomes a tuple of `Endpoint`s and `options` one of pairs; an option's value is
    a text or a whole number. A balancer or resolver of one's own is a dataclass at the top of its module. Raises
    ValueError that names every bad argument.
    """

    endpoints: Sequence[Endpoint | str] | Resolver
    balancer: Balancer = field(default_factory=LeastRequest)
    policy: Policy = field(default_factory=Policy)
    methods: Mapping[str, Policy] = field(default_factory=dict)
    failover: Failover | None = field(default_factory=Failover)
    budget: RetryBudget = field(default_factory=RetryBudget)
    load_reports: LoadReports | None = None
    options: Sequence[tuple[str, str | int]] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        fixed, problems = endpoints_of(self.endpoints)
        methods = self.methods if isinstance(self.methods, Mapping) else {}
        if methods is not self.methods:
            problems.append(f"methods must be a dict of policies by method; got {self.methods!r}")
        problems += configuration(
            balancer=self.balancer,
            policy=self.policy,
            methods=methods,
            failover=self.failover,
            budget=self.budget,
            load_reports=self.load_reports,
        )
        problems += _options(self.options)
        if self.seed is not None and (not isinstance(self.seed, int) or isinstance(self.seed, bool)):
            problems.append(f"seed must be a whole number, or None for another one each time; got {self.seed!r}")
        complain(self, problems)
        if not isinstance(self.endpoints, Resolver):
            object.__setattr__(self, "endpoints", tuple(fixed))
        object.__setattr__(self, "methods", dict(methods))
        object.__setattr__(self, "options", tuple((name, value) for name, value in self.options))

    def channel(
        self,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        compression: grpc.Compression | None = None,
        observer: Observer | None = None,
    ) -> Channel:
        """A new `Channel` of this configuration; the arguments are those of `Channel`, None its defaults."""
        return Channel(**self._arguments(), credentials=credentials, compression=compression, observer=observer)

    def aio_channel(
        self,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        compression: grpc.Compression | None = None,
        observer: Observer | None = None,
    ) -> aio.Channel:
        """The same for asyncio: a new `stormproof.aio.Channel`."""
        return aio.Channel(**self._arguments(), credentials=credentials, compression=compression, observer=observer)

    def _arguments(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def to_json(self) -> str:
        """JSON text that `from_json` makes an equal value of. TypeError for a part that is no data (a function, say)."""
        data = {"schema": SCHEMA, **_CODEC.to_json(self)}
        return msgspec.json.format(msgspec.json.encode(data), indent=2).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> ChannelConfig:
        """The configuration that `text` tells of; fields that it leaves out have their defaults.

        One ValueError names every problem: path, value and way out. A class of one's own is found if its module has been
        imported; nothing is imported here. Texts of an earlier schema are understood, of a later one refused.
        """
        try:
            data = msgspec.json.decode(text)
        except (ValueError, TypeError) as error:
            raise ValueError(f"ChannelConfig: not a JSON text; {error}") from error
        return _read(data)


def _read(data: Any) -> ChannelConfig:
    if not isinstance(data, dict):
        raise ValueError(f"ChannelConfig: must be a JSON object, as to_json writes it; got {data!r}")
    problems = _header(data)
    complain("ChannelConfig", problems)
    body = {"type": ChannelConfig.__name__, **{key: value for key, value in data.items() if key != "schema"}}
    config = _CODEC.from_json(body)
    assert isinstance(config, ChannelConfig)
    return config


def _header(data: dict[str, Any]) -> list[str]:
    """What is wrong with the fields that say what this text is."""
    problems = []
    schema, kind = data.get("schema"), data.get("type", ChannelConfig.__name__)
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        problems.append(f"schema must be the number of this format's version, {SCHEMA} today; got {schema!r}")
    elif schema > SCHEMA:
        problems.append(
            f"schema must be {SCHEMA} or less; got {schema} (a newer stormproof wrote it: upgrade, or write it with this one)"
        )
    if kind != ChannelConfig.__name__:
        problems.append(f"type must be '{ChannelConfig.__name__}'; got {kind!r}")
    return problems


def _options(options: object) -> list[str]:
    """What is wrong with the options of a channel that are to be data."""
    if isinstance(options, str) or not isinstance(options, Sequence):
        return [f"options must be a list of pairs, such as ('grpc.keepalive_time_ms', 10000); got {options!r}"]
    return [
        f"options[{index}] must be a name and a text or whole number, such as ('grpc.keepalive_time_ms', 10000); got {pair!r}"
        for index, pair in enumerate(options)
        if not _pair(pair)
    ]


def _pair(pair: object) -> bool:
    match pair:
        case [str(), str() | int()]:
            return True
    return False
