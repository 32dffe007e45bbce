"""The text format of Prometheus: how the built-in proxy writes its counters, and how `control` reads
anybody's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

RECEIVED = "toxiproxy_proxy_received_bytes_total"
SENT = "toxiproxy_proxy_sent_bytes_total"
CONNECTIONS = "stormproof_proxy_connections_total"
ACTED = "stormproof_toxic_acted_total"

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)\{(.*)\} (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
_ESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One value of the counter `name`."""

    name: str
    labels: Mapping[str, str]
    value: int


def render(name: str, about: str, samples: Iterable[Sample]) -> str:
    """The lines of one counter; its head is there even when it has no sample, and says that it is counted."""
    lines = [f"# HELP {name} {about}", f"# TYPE {name} counter"]
    for sample in samples:
        labels = ",".join(f'{key}="{_escape(text)}"' for key, text in sample.labels.items())
        lines.append(f"{name}{{{labels}}} {sample.value}")
    return "\n".join(lines) + "\n"


def counts(text: str, name: str) -> bool:
    """Whether the counter `name` is kept at all by whoever wrote `text`."""
    return f"# TYPE {name} counter" in text.splitlines()


def parse(text: str, *names: str) -> Iterator[Sample]:
    """The samples of the counters `names`; what has no labels or is no number is passed over."""
    for line in text.splitlines():
        found = _SAMPLE.match(line)
        if found is None or found[1] not in names:
            continue
        labels = {key: re.sub(r"\\.", _unescape, value) for key, value in _LABEL.findall(found[2])}
        yield Sample(name=found[1], labels=labels, value=int(float(found[3])))


def _escape(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)


def _unescape(found: re.Match[str]) -> str:
    return _ESCAPED.get(found[0], found[0])
