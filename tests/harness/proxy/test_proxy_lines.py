"""Generated lines through both servers: the same bytes arrive, and at the same times, whatever toxics act on them.

STORMPROOF_LINES says how many batches of 20 lines are played (5). Toxics change only while nothing is held, and toxicity is
0 or 1: what holds beyond that is in test_proxy_differences.py and, for chance, in test_proxy_timing.py.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lines import ENDS, Script, Step, differing, put, send

BATCHES = int(os.environ.get("STORMPROOF_LINES", "5"))
#: Seconds of a phase: its sends are done by 0.2, and what toxics hold is through by then.
PHASE = 1.0

# The times of toxics add up to nothing that is a multiple of 0.1 s, at which all else happens: no photo finish.
KINDS: dict[str, list[dict[str, int]]] = {
    "latency": [{"latency": 20}, {"latency": 120}],
    "bandwidth": [{"rate": 50}, {"rate": 1000}],
    "slow_close": [{"delay": 60}, {"delay": 160}],
    "timeout": [{"timeout": 270}, {"timeout": 0}],
    "slicer": [
        {"average_size": 500, "size_variation": 100, "delay": 2000},
        {"average_size": 64, "size_variation": 0, "delay": 0},
    ],
    "limit_data": [{"bytes": 700}, {"bytes": 6000}],
    "noop": [{}],
}
STREAMS = st.sampled_from(["upstream", "downstream"])
SIZES = st.sampled_from([1, 100, 700, 4000])


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """Phases: toxics change, then bytes are sent both ways; in the end one end closes, or not."""
    steps: list[Step] = []
    there: dict[str, str] = {}
    phases = draw(st.integers(1, 2))
    for phase in range(phases):
        start = phase * PHASE
        for number in range(draw(st.integers(0, 2))):
            kind = draw(st.sampled_from(sorted(KINDS)))
            attributes = draw(st.sampled_from(KINDS[kind]))
            name = f"{kind}-{phase}-{number}"
            toxicity = 1 if kind == "timeout" else draw(st.sampled_from([1, 1, 1, 0]))
            steps.append(put(start if phase else -1, kind, draw(STREAMS), name=name, toxicity=toxicity, **attributes))
            there[name] = kind
        if phase and there:
            name = draw(st.sampled_from(sorted(there)))
            if draw(st.booleans()):
                steps.append(Step(at=start, do="remove", name=name))
            else:
                more = draw(st.sampled_from(KINDS[there[name]]))
                steps.append(Step(at=start, do="edit", name=name, body={"attributes": more}))
        for at in (0.1, 0.2):
            for later, end in enumerate(ENDS):  # not both at once: what ends the connection must come first or last
                if draw(st.booleans()):
                    steps.append(send(start + at + 0.05 * later, end, draw(SIZES)))
    last = phases * PHASE - 0.4
    how = draw(st.sampled_from(["", "shut", "close"]))
    if how:
        steps.append(Step(at=last, do=how, at_end=draw(st.sampled_from(ENDS))))
    return Script(steps=tuple(steps), seconds=phases * PHASE)


PLAYED: list[int] = []


@pytest.fixture(scope="module", autouse=True)
def _count():
    """Says in the end how many lines were compared."""
    yield
    print(f"\n{sum(PLAYED)} lines through each server")


# Not shrunk: a batch takes seconds, and the scripts that differ are few and short as they are.
@settings(max_examples=BATCHES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(batch=st.lists(scripts(), min_size=20, max_size=20))
def test_generated_lines_carry_the_same_at_the_same_times(builtin, real, batch):
    """Bytes agree exactly, times within TOLERANCE; a difference counts when it shows in each of four plays."""
    found = differing((builtin.port, real.port), batch)
    assert not found, "\n".join(f"{script}\n  {why}" for script, why in found)
    PLAYED.append(len(batch))
