"""Load reports and the weights that follow from them, as timetables: gRFC A58."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormproof.core.reports import LoadReport, LoadReports, ReportedWeight, effective_weights

HALF = LoadReport(cpu_utilization=0.5, qps=100.0)  # weight 200
FULL = LoadReport(cpu_utilization=1.0, qps=100.0)  # weight 100
AT_ONCE = LoadReports(blackout=0.0)


def weight_of(report: LoadReport, config: LoadReports = AT_ONCE) -> float | None:
    """The weight of an endpoint that has reported this once."""
    state = ReportedWeight(config)
    state.reported(report, 0.0)
    return state.weight(0.0)


@pytest.mark.guarantee(18)
@pytest.mark.parametrize(
    ("report", "weight"),
    [
        (LoadReport(qps=100, cpu_utilization=0.5), 200.0),
        (LoadReport(qps=100, cpu_utilization=0.5, eps=25), 100 / 0.75),
        (LoadReport(qps=100, cpu_utilization=0.5, eps=100), 100 / 1.5),
        (LoadReport(qps=100, cpu_utilization=2.0), 50.0),
        (LoadReport(qps=100, cpu_utilization=0.5, application_utilization=0.8), 125.0),
        (LoadReport(qps=100, application_utilization=0.8), 125.0),
        (LoadReport(qps=100, cpu_utilization=0.5, mem_utilization=0.9, named_metrics={"queue": 9}), 200.0),
        (LoadReport(qps=0, cpu_utilization=0.5), None),
        (LoadReport(qps=100), None),
        (LoadReport(qps=100, mem_utilization=0.9, utilization={"disk": 0.3}), None),
        (LoadReport(), None),
    ],
)
def test_a_report_gives_a_weight(report, weight):
    """qps / (utilization + eps / qps): the application's own utilization before the CPU's; no qps or no use: no weight."""
    assert weight_of(report) == weight


@pytest.mark.guarantee(18)
def test_errors_cost_as_much_as_they_are_said_to():
    """A quarter of the calls fail at half utilization: penalties 0, 1 and 4."""
    report = LoadReport(qps=100, eps=25, cpu_utilization=0.5)
    weights = [weight_of(report, LoadReports(blackout=0.0, error_penalty=penalty)) for penalty in (0, 1, 4)]
    assert weights == [200.0, 100 / 0.75, 100 / 1.5]


@pytest.mark.guarantee(18)
def test_a_server_that_fails_quickly_does_not_look_idle():
    """All its calls fail and cost it nothing: it weighs less than a healthy server under load."""
    failing = weight_of(LoadReport(qps=100, eps=100, cpu_utilization=0.01))
    healthy = weight_of(LoadReport(qps=100, cpu_utilization=0.9))
    assert failing < healthy


@pytest.mark.guarantee(18)
def test_nothing_counts_in_the_blackout_and_nothing_after_the_expiry():
    """Reports each second from 5 to 20: none counts before 15, the last one counts until 200; then a blackout again."""
    state = ReportedWeight(LoadReports())
    weights = {}
    for now in range(401):
        if 5 <= now <= 20 or 300 <= now <= 310:
            state.reported(HALF if now < 300 else FULL, float(now))
        weights[now] = state.weight(float(now))
    assert {now for now, weight in weights.items() if weight == 200.0} == set(range(15, 200))
    assert {now for now, weight in weights.items() if weight == 100.0} == set(range(310, 401))
    assert {weights[now] for now in (*range(15), *range(200, 310))} == {None}


@pytest.mark.guarantee(18)
def test_the_blackout_does_not_depend_on_who_asks_when():
    """Silent for longer than the expiry, and nobody asked for its weight meanwhile: a new blackout all the same."""
    state = ReportedWeight(LoadReports())
    state.reported(HALF, 0.0)
    state.reported(HALF, 180.0)
    assert [state.weight(now) for now in (180.0, 189.9, 190.0)] == [None, None, 200.0]


@pytest.mark.guarantee(18)
def test_a_report_that_says_nothing_changes_nothing():
    """The weight stays, and expires 180 s after the last report that said something."""
    state = ReportedWeight(AT_ONCE)
    state.reported(HALF, 0.0)
    state.reported(LoadReport(qps=0, cpu_utilization=0.1), 100.0)
    state.reported(LoadReport(qps=50), 100.0)
    assert [state.weight(now) for now in (100.0, 179.9, 180.0)] == [200.0, 200.0, None]


@pytest.mark.guarantee(18)
def test_an_endpoint_that_comes_back_begins_with_a_blackout():
    """It was away: what it said before does not count, and what it says now only after ten seconds."""
    state = ReportedWeight(LoadReports())
    for now in (0.0, 10.0):
        state.reported(HALF, now)
    assert state.weight(10.0) == 200.0
    state.returned()
    assert state.weight(11.0) is None
    for now in (12.0, 22.0):
        state.reported(FULL, now)
    assert [state.weight(now) for now in (12.0, 21.9, 22.0)] == [None, None, 100.0]


@pytest.mark.guarantee(18)
@pytest.mark.parametrize(
    ("reported", "static", "effective"),
    [
        ([200.0, 100.0, 50.0], [1, 1, 1], [200.0, 100.0, 50.0]),
        ([200.0, None, 100.0, None], [1, 1, 1, 1], [200.0, 150.0, 100.0, 150.0]),
        ([200.0, None, None], [1, 1, 1], [1, 1, 1]),
        ([None, None], [1, 1], [1, 1]),
        ([200.0], [1], [1]),
        ([200.0, 100.0, None], [1, 0.5, 2], [200.0, 50.0, 300.0]),
        ([200.0, 100.0], [1, 0], [200.0, 0.0]),
        ([200.0, None], [3, 1], [3, 1]),
        ([], [], []),
    ],
)
def test_those_who_do_not_report_weigh_the_mean_of_those_who_do(reported, static, effective):
    """With fewer than two reports all are equal. The weights given to endpoints multiply; the mean is taken without them."""
    assert effective_weights(reported, static) == effective


numbers = st.floats(0, 1e12)


@pytest.mark.guarantee(18)
@given(
    st.lists(st.tuples(st.builds(LoadReport, qps=numbers, eps=numbers, cpu_utilization=numbers), st.floats(0, 400))),
    st.builds(LoadReports, blackout=st.floats(0, 20), error_penalty=st.floats(0, 100)),
)
def test_whatever_a_server_says_a_weight_is_a_number_over_0(reports, config):
    """No report makes a weight that is infinite, 0 or negative."""
    state = ReportedWeight(config)
    now = 0.0
    for report, pause in reports:
        now += pause
        state.reported(report, now)
        weight = state.weight(now)
        assert weight is None or 0.0 < weight <= 1e12


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: LoadReports(blackout=-1), "LoadReports: blackout must be a number, from 0 to 1e.09 .seconds.; got -1"),
        (lambda: LoadReports(expiry=0, period=0.05), "expiry must be a number.*; period must be a number, from 0.1"),
        (lambda: LoadReports(error_penalty=-0.5), "error_penalty must be a number, from 0 to 1e.06"),
        (lambda: LoadReports(blackout=float("nan")), "blackout must be a number"),
        (lambda: LoadReport(qps=-1, eps=float("inf")), "LoadReport: qps must be .*; got -1; eps must be .*; got inf"),
        (lambda: LoadReport(cpu_utilization=float("nan")), "cpu_utilization must be a number.*; got nan"),
        (lambda: LoadReport(mem_utilization="half"), "mem_utilization must be a number.*; got 'half'"),
        (lambda: LoadReport(utilization={"disk": -0.1}), r"utilization\['disk'\] must be a number, 0 or more"),
        (lambda: LoadReport(named_metrics={"x": float("nan")}), r"named_metrics\['x'\] must be a number"),
        (lambda: LoadReport(request_cost=3), "request_cost must be a dict of numbers by name; got 3"),
    ],
)
def test_bad_values_say_what_is_wrong(build, says):
    """One ValueError that names them all."""
    with pytest.raises(ValueError, match=says):
        build()
