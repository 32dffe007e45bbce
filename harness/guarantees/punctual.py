"""Whether the harness kept the workload's rate: what it did not, no client may be blamed for.

Latency counts from when a call was due, so a call that began late is a slow one. Rightly so where the client let it
wait: its workers (`CONCURRENCY` of them) were all held by calls without an answer. But where one of them was free, the
process of the client was short of processor time, and the figures are the machine's. Both are seen in the history: how
many calls were under way at a moment can be counted. Closed callers and batches are due when they begin, never late;
and only batches meet a client that is stopped or killed.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from harness.history import Operation

#: Seconds by which a call may begin late: more than schedulers and collectors of garbage take on a busy machine.
LATE = 0.1
#: The fraction of the calls that may: what is late cannot break the strictest quantile that is promised, p99.
FEW = 0.01


def late_starts(operations: Sequence[Operation]) -> list[str]:
    """One reason for doubt if more than `FEW` of the operations began more than `LATE` seconds late by the harness."""
    late = [o for o in operations if o.invoked - o.due > LATE]
    if len(late) <= FEW * len(operations):
        return []
    late = _unexcused(late, _full(operations))
    if len(late) <= FEW * len(operations):
        return []
    worst = max(o.invoked - o.due for o in late)
    return [
        f"the harness could not keep the rate: {len(late)} of {len(operations)} calls began more than {LATE:g} s late, "
        f"the worst by {worst:.3f} s, though the client had workers free; use a lower rate or more cores"
    ]


def _full(operations: Sequence[Operation]) -> list[tuple[float, float]]:
    """When all workers of the client were held by calls, from and to, in order."""
    from harness.client import CONCURRENCY  # the programs of the client's process; few histories need to know

    steps = [(o.invoked, 1) for o in operations]
    steps += [(math.inf if o.ended is None else o.ended, -1) for o in operations]
    spans: list[tuple[float, float]] = []
    under_way, since = 0, math.inf
    for time, step in sorted(steps):
        under_way += step
        if step > 0 and under_way == CONCURRENCY:
            since = time
        elif step < 0 and under_way == CONCURRENCY - 1:
            spans.append((since, time))
    return spans


def _unexcused(late: Sequence[Operation], full: Sequence[tuple[float, float]]) -> list[Operation]:
    """Those of the `late` operations that found a worker free at all times from when they were due."""
    starts = [start for start, _ in full]

    def waited(operation: Operation) -> bool:
        place = bisect_right(starts, operation.invoked)
        return place > 0 and full[place - 1][1] >= operation.due

    return [operation for operation in late if not waited(operation)]
