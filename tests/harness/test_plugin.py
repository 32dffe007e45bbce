"""The pytest plugin: options, fixtures, and what the report says of tests that pass and tests that fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from harness import Servers

# The sessions that are tested run in processes of their own: each has its own fleet.
pytest_plugins = ["pytester"]

DAY = '''
import pytest

from harness import Servers
from faults import Kill, Refuse, during, named
from harness import Client, Scenario, Servers, Steady, WithinDeadline
from stormproof import Policy

def day(bound):
    """Thirty calls, which take more than a millisecond and less than five seconds."""
    return Scenario(
        servers=Servers(1),
        client=Client(policy=Policy(timeout=4.0)),
        workload=Steady(rate=300, seconds=0.1),
        guarantees=[WithinDeadline(bound)],
    )

HELD, BROKEN = day(5.0), day(0.001)
'''

SUITE = (
    DAY
    + '''
def test_held(run):
    """All is well.

    This is not told.
    """
    run(HELD).check()

def test_broken(run):
    run(BROKEN).check()

def test_never_looks(run):
    run(BROKEN)

def test_comes_to_nothing(run):
    raise RuntimeError("no scenario was run")

def test_expects_it(run):
    assert run(BROKEN).broken == ["WithinDeadline"]

def test_fails_by_itself(run):
    found = run(HELD)
    assert len(found.history.operations) == 31, "thirty-one calls were due"

def test_two_days(run):
    run(HELD).check()
    run(BROKEN).check()

@pytest.mark.xfail(reason="known")
def test_known_to_fail(run):
    run(BROKEN).check()

def test_left_early(run):
    if run(BROKEN).broken:
        pytest.skip("not on this machine")

@pytest.fixture
def yesterday(run):
    return run(HELD)

def test_of_a_fixture(yesterday):
    yesterday.check()

@pytest.fixture
def bad_yesterday(run):
    run(BROKEN).check()

def test_of_a_bad_fixture(bad_yesterday):
    pass

def test_of_nothing():
    pass
'''
)


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> tuple[dict, str]:
    """The report on SUITE by the name of the test, and what pytest said."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "test_days.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--report=out", "--seed=7", "test_days.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    report = json.loads((folder / "out" / "report.json").read_text())
    assert not list((folder / "out" / "history").glob("*.partial*"))
    found: dict[str, list] = {}
    for scenario in report["scenarios"]:
        found.setdefault(scenario["name"].removeprefix("test_days.py::test_"), []).append(scenario)
    return found, done.stdout


def rows(scenario: dict) -> list[tuple[str, str, str]]:
    """Guarantee, verdict, and the first line of why."""
    return [(row["name"], row["verdict"], "".join(row["why"][:1])) for row in scenario["guarantees"]]


def test_a_report_is_written_although_tests_fail(reported):
    """Every scenario is in it, once for each time that it ran, with its seed and the first paragraph of its test's words."""
    found, said = reported
    assert {name: len(scenarios) for name, scenarios in found.items()} == {
        "held": 1, "broken": 1, "expects_it": 1, "fails_by_itself": 1, "two_days": 2, "known_to_fail": 1,
        "left_early": 1, "of_a_fixture": 1, "of_a_bad_fixture": 1, "never_looks": 1, "comes_to_nothing": 1,
    }  # fmt: skip
    assert (found["held"][0]["doc"], found["held"][0]["seed"], found["held"][0]["calls"]) == ("All is well.", 7, 30)
    assert "stormproof: 12 scenarios, fleet local, " in said
    assert "stormproof: report in out/report.html" in said
    assert "4 failed, 5 passed, 1 skipped, 1 xfailed, 1 error" in said


def test_what_a_check_finds_is_told_as_it_is(reported):
    """Held is held and broken is broken, and the failure shows the message and how to see it again."""
    found, said = reported
    assert rows(found["held"][0]) == [("WithinDeadline(5.0)", "held", "")]
    [(name, verdict, _)] = rows(found["broken"][0])
    assert (name, verdict) == ("WithinDeadline(0.001)", "broken")
    assert "test_days.py::test_broken: 1 of 1 guarantees broken (local, seed 7, " in said
    assert "again: stormproof replay --fleet=local --seed=7 test_days.py::test_broken" in said


def test_what_a_test_expects_is_held(reported):
    """A test that passes although a guarantee was broken expected that; so does one that is known to fail."""
    found, _ = reported
    expected = [("WithinDeadline(0.001)", "held", "broken, as this test expects")]
    assert rows(found["expects_it"][0]) == rows(found["known_to_fail"][0]) == expected
    assert found["expects_it"][0]["verdict"] == "held"


def test_a_pass_that_never_looked_proves_nothing(reported):
    """`run(day)` without `.check()`: pytest passes it, the report and the summary do not."""
    found, said = reported
    assert found["never_looks"][0]["verdict"] == "broken"
    assert "the test passed without a look at this: end it with run(...).check()" in said


def test_a_test_that_came_to_nothing_is_not_left_out(reported):
    """A test of a scenario that died before it ran one: the report names it, and claims nothing."""
    [scenario] = reported[0]["comes_to_nothing"]
    assert scenario["verdict"] == "unknown"
    assert "no scenario was run" in scenario["problems"][0]


def test_a_test_that_fails_by_itself_breaks_its_scenario(reported):
    """The guarantees held, and yet something is wrong: the report has a row for it, with the words of the failure."""
    found, _ = reported
    scenario = found["fails_by_itself"][0]
    assert rows(scenario) == [("WithinDeadline(5.0)", "held", ""), ("the test itself", "broken", "")]
    assert scenario["verdict"] == "broken"
    assert scenario["guarantees"][1]["measured"].startswith("thirty-one calls were due")


def test_of_two_runs_in_a_test_only_the_broken_one_is_broken(reported):
    """A failure is told where it was found."""
    found, _ = reported
    assert [scenario["verdict"] for scenario in found["two_days"]] == ["held", "broken"]
    assert [row["name"] for row in found["two_days"][0]["guarantees"]] == ["WithinDeadline(5.0)"]


def test_a_test_that_is_left_early_expects_nothing(reported):
    """What it had run is told as it was found."""
    found, _ = reported
    assert found["left_early"][0]["verdict"] == "broken"


def test_what_a_fixture_runs_belongs_to_its_test(reported):
    """Also if the fixture fails, and the test never runs."""
    found, _ = reported
    assert found["of_a_fixture"][0]["verdict"] == "held"
    assert found["of_a_bad_fixture"][0]["verdict"] == "broken"


def test_a_test_that_runs_no_scenario_is_told_as_unknown(pytester):
    """It asks for the fixture and passes without a call of it: its promise was not looked at. A skip claims nothing."""
    body = "def test_never(run): pass\ndef test_skipped(run): pytest.skip('not here')\ndef test_held(run): run(HELD).check()\n"
    pytester.makepyfile(DAY + body)
    done = pytester.runpytest_subprocess("--fleet=sim", "--report=out", timeout=30)
    done.assert_outcomes(passed=2, skipped=1)
    report = json.loads((pytester.path / "out" / "report.json").read_text())
    told = [(s["name"].split("::")[1], s["verdict"], s["problems"]) for s in report["scenarios"]]
    assert told == [
        ("test_never", "unknown", ["the test ran no scenario: call its fixture run"]),
        ("test_held", "held", []),
    ]


def test_what_is_no_scenario_is_refused_in_words(pytester):
    """The message says what `run` takes."""
    pytester.makepyfile("def test_one(run): run(42)\n")
    done = pytester.runpytest_subprocess("--fleet=sim", timeout=30)
    done.stdout.fnmatch_lines(
        ["*TypeError: run takes a Scenario, as in run(Scenario(servers=Servers(3), ...)); got 42"]
    )


def test_a_fleet_that_does_not_exist_stops_the_session_with_one_message(pytester):
    """The next test would fare no better; there is no traceback."""
    pytester.makepyfile(DAY + "def test_one(run): run(HELD)\ndef test_two(run): run(HELD)\n")
    done = pytester.runpytest_subprocess("--fleet=moon", "-r", "N", timeout=30)
    assert done.ret == pytest.ExitCode.INTERRUPTED
    said = [line for line in done.outlines if "--fleet must be local" in line]
    assert said == ["--fleet must be local, sim or docker; got 'moon'"]
    done.assert_outcomes(failed=1)
    done.stdout.no_fnmatch_line("*Traceback*")
    done.stdout.no_fnmatch_line("*Error*")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--seed=x", "ERROR: --seed must be a whole number, 0 or more; got 'x'"),
        ("--seed=-1", "ERROR: --seed must be a whole number, 0 or more; got '-1'"),
        ("--report=test_a.py", "ERROR: --report must be a folder, which need not be there yet; test_a.py is none"),
    ],
)
def test_a_bad_option_is_a_usage_error(pytester, option, says):
    """In one line, before anything is collected."""
    pytester.makepyfile(test_a="def test_one(): pass")
    done = pytester.runpytest_subprocess(option, timeout=30)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in done.errlines if line] == [says]


def test_a_session_without_stormproof_is_not_slowed(pytester):
    """Whoever has stormproof installed and does not use it does not import it, nor what it needs."""
    pytester.makeconftest("""
        import sys

        def pytest_unconfigure():
            heavy = {"grpc", "scipy", "numpy", "msgspec", "jinja2", "rich", "typer", "psutil", "stormproof", "faults"}
            ours = {name for name in sys.modules if name.startswith("harness")}
            print("imported", sorted(heavy & set(sys.modules) | ours))
    """)
    pytester.makepyfile("def test_one(): pass\ndef test_two(): assert False\n")
    done = pytester.runpytest_subprocess("--report=out", timeout=30)
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["imported [[]'harness', 'harness.pytest_plugin'[]]"])
    assert not (pytester.path / "out").exists()


def test_the_names_of_the_harness_are_there_when_asked_for():
    """`from harness import ...` works as ever for every name it promises, and says which it does not have."""
    named = "getattr(getattr(harness, name), '__name__', name) == name"
    script = f"import harness; print(all({named} for name in harness.__all__)); harness.Posson"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "True\n"
    assert done.stderr.splitlines()[-1].startswith("AttributeError: module 'harness' has no attribute 'Posson'")


@pytest.mark.servers(Servers(2))
def test_the_fixture_fleet_starts_what_its_marker_says(fleet):
    """Servers by name, with addresses to call."""
    assert list(fleet.addresses) == ["server-0", "server-1"]
    assert all(address.startswith("127.0.0.1:") for address in fleet.addresses.values())


def test_the_fixture_fleet_starts_three_servers_by_itself(fleet):
    """Without a marker."""
    assert list(fleet.addresses) == ["server-0", "server-1", "server-2"]


BY_HAND = """
import grpc
import pytest

from harness import Servers
from faults import Refuse
from harness import Servers

@pytest.mark.servers(Servers(1))
def test_refused(fleet):
    with fleet.fault(Refuse(), on="server-0"), grpc.insecure_channel(fleet.addresses["server-0"]) as channel:
        with pytest.raises(grpc.FutureTimeoutError):
            grpc.channel_ready_future(channel).result(0.1)

@pytest.mark.servers(Servers(1))
def test_fails(fleet):
    assert list(fleet.addresses) == []

@pytest.mark.servers(Servers(1, command=("sh", "-c", "echo no licence; exit 3", "{port}")))
def test_cannot_start(fleet):
    pass
"""


@pytest.mark.parametrize(
    ("only", "status", "says"),
    [
        ("refused", 0, "✓ held  0 scenarios, 1 tests by hand, fleet local, "),
        ("fails", 1, "✗ broken  0 scenarios, 1 tests by hand, fleet local, "),
        ("cannot_start", 2, "(sh); its last words: no licence"),
    ],
)
def test_tests_by_hand_have_an_exit_status(tmp_path, only, status, says):
    """`stormproof run` on tests that use the fixture `fleet`: 0 passed, 1 failed, 2 could not run."""
    (tmp_path / "test_by_hand.py").write_text(BY_HAND)
    command = [sys.executable, "-m", "harness.cli", "run", "test_by_hand.py", "-k", only]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, says in done.stdout) == (status, True), done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
