"""What a history comes to in numbers: pure functions from a `History` to the figures of report.json."""

from __future__ import annotations

import math
from array import array
from collections import Counter

from harness.history import History

#: The quantiles that a report tells, by name. The last is the slowest call.
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}


def latency(history: History) -> dict[str, float | None]:
    """The quantiles of the calls' latency in seconds: each the shortest that no more than the rest exceeded.

    So does the guarantee Fast. A call that never ended counts as infinite; None stands for infinite, and for
    all of them if there was no call.
    """
    waited = array("d", sorted(math.inf if call.latency is None else call.latency for call in history.operations))
    if not waited:
        return dict.fromkeys(QUANTILES)
    found = {name: waited[_place(quantile, len(waited))] for name, quantile in QUANTILES.items()}
    return {name: None if math.isinf(value) else value for name, value in found.items()}


def _place(quantile: float, count: int) -> int:
    # A hair less, or 0.999 * 1000 (999.0000000000001 or so) would be one place too far.
    return max(0, math.ceil(quantile * count - 1e-6) - 1)


def codes(history: History) -> dict[str, int]:
    """Calls by their status, the most frequent first."""
    counts = Counter(operation.code for operation in history.operations)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def attempts(history: History) -> int:
    """Tries of all calls; if the client tells of none, those that arrived at a server."""
    return sum(1 for _ in history.attempts()) or len(history.executions)


def shares(history: History) -> dict[str, int]:
    """By server: the attempts that may have reached it; if the client tells of none, those that arrived.

    A server that nobody asked is there with 0; one that the fleet does not know comes last.
    """
    counts = dict.fromkeys((server.name for server in history.servers), 0)
    if any(operation.attempts for operation in history.operations):
        reached = (attempt.server for _, attempt in history.attempts() if attempt.sent)
    else:
        reached = (execution.server for execution in history.executions)
    for server in reached:
        counts[server] = counts.get(server, 0) + 1
    return counts
