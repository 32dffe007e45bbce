"""A deployment: every fault acts on real servers, a plain grpc stub sees it, and it is healed whatever happens."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from faults import (
    Bandwidth,
    Blackhole,
    ColdStart,
    CpuHog,
    Drain,
    Errors,
    Fault,
    FileDescriptors,
    Hang,
    Kill,
    Latency,
    MemoryHog,
    Overload,
    PacketLoss,
    Partition,
    Pause,
    Refuse,
    Reset,
    Restart,
    Slice,
    SlowClose,
    StaleHealth,
    Toxic,
    Truncate,
    WrongAnswer,
)
from harness import Servers
from harness.fleet import local_server, misbehaviour
from harness.fleet.deployment import Deployment
from harness.fleet.errors import FleetError
from harness.fleet.local import LocalFleet
from harness.proxy.errors import ToxiproxyError
from harness.proxy.install import installed
from protos.hello_pb2 import HelloRequest
from protos.hello_pb2_grpc import HelloStub

ONE = pytest.mark.servers(Servers(1, service_time=0.0))
OPTIONS = [
    ("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 500), ("grpc.max_reconnect_backoff_ms", 100),
]  # fmt: skip


@dataclass
class Answer:
    """How one call ended, and how many seconds it took."""

    code: str
    took: float


class Caller:
    """A plain grpc channel to one server, through its proxy."""

    def __init__(self, deployment: Deployment, name: str = "server-0"):
        self.channel = grpc.insecure_channel(deployment.addresses[name], options=OPTIONS)
        self.stub = HelloStub(self.channel)

    def ask(self, name: str = "Ada", timeout: float = 5.0, wait_for_ready: bool = False) -> Answer:
        began = time.monotonic()
        try:
            self.stub.SayHello(HelloRequest(name=name), timeout=timeout, wait_for_ready=wait_for_ready)
            code = "OK"
        except grpc.RpcError as error:
            code = error.code().name
        return Answer(code, time.monotonic() - began)


@pytest.fixture
def open_caller() -> Iterator:
    with ExitStack() as stack:

        def open_caller(deployment: Deployment, name: str = "server-0") -> Caller:
            caller = Caller(deployment, name)
            stack.callback(caller.channel.close)
            assert caller.ask(wait_for_ready=True).code == "OK"
            return caller

        yield open_caller


@pytest.fixture(scope="module", params=["builtin", "real"])
def behind(request) -> Iterator[LocalFleet]:
    """A fleet behind each proxy in turn."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("STORMPROOF_TOXIPROXY", request.param)
        patch.delenv("STORMPROOF_TOXIPROXY_URL", raising=False)
        if request.param == "real" and installed() is None and shutil.which("toxiproxy-server") is None:
            pytest.skip("the real Toxiproxy is not installed: run `stormproof toxiproxy install` (needs Go)")
        yield stack.enter_context(LocalFleet())


@pytest.fixture(scope="module")
def one(behind) -> Iterator[Deployment]:
    """One server behind each proxy in turn; what a test does to it must be healed by its end."""
    with behind.deploy(Servers(1, service_time=0.0)) as deployment:
        yield deployment


NETWORK = [
    # The fault, and how a call goes while it acts: its request, its status, and the least seconds that it takes.
    pytest.param(Latency(0.15), "Ada", "OK", 0.15, id="Latency"),
    pytest.param(Blackhole(), "Ada", "DEADLINE_EXCEEDED", 0.2, id="Blackhole"),
    pytest.param(Partition(), "Ada", "DEADLINE_EXCEEDED", 0.2, id="Partition"),
    pytest.param(Refuse(), "Ada", "UNAVAILABLE", 0.0, id="Refuse"),
    pytest.param(Reset(), "Ada", "UNAVAILABLE", 0.0, id="Reset"),
    # 1000 bytes there, and as many back.
    pytest.param(Bandwidth(10_000), "A" * 1000, "OK", 0.15, id="Bandwidth"),
    # 1000 bytes of answer in four pieces.
    pytest.param(Slice(300, delay=0.05, towards="client"), "A" * 1000, "OK", 0.14, id="Slice"),
    # The answer is torn; and a new connection does not come as far as an answer.
    pytest.param(Truncate(20), "Ada", "UNAVAILABLE", 0.0, id="Truncate"),
]


class Boom(Exception):
    """What a test's own code may raise."""


def until_received(journal: Path, count: int) -> None:
    """Waits until the server has received so many calls, 5 s at most."""
    deadline = time.monotonic() + 5.0
    while journal.read_text().count('"received"') < count:
        assert time.monotonic() < deadline, "the call never arrived"
        time.sleep(0.005)


def soon_quick(caller: Caller, name: str = "Ada") -> bool:
    """Whether calls are answered at once, within 5 s from now: the first may have to connect again."""
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        answer = caller.ask(name, wait_for_ready=True)
        if answer.code == "OK" and answer.took < 0.1:
            return True
    return False


@pytest.mark.parametrize(("fault", "name", "code", "least"), NETWORK)
def test_a_network_fault_acts_and_is_healed_although_the_block_raises(one, open_caller, fault, name, code, least):
    """A caller sees it while the block runs; after it, whatever ended it, calls are quick again."""
    caller = open_caller(one)
    with suppress(Boom), one.fault(fault, on="server-0"):
        seen = caller.ask(name, timeout=0.2 if isinstance(fault, Blackhole | Partition) else 5.0)
        assert (seen.code, seen.took >= least) == (code, True), seen
        raise Boom
    assert soon_quick(caller, name)


@pytest.mark.parametrize(("fault", "name", "code", "least"), NETWORK)
def test_equal_network_faults_overlap(one, open_caller, fault, name, code, least):
    """Two that are equal act together on one server; the first to be healed leaves the other, and then nothing is left."""
    seen = []
    one.apply(fault, "server-0")
    one.apply(fault, "server-0")
    for _ in range(2):
        with ExitStack() as stack:  # a new connection each time: an old one may wait before it tries again
            caller = Caller(one)
            stack.callback(caller.channel.close)
            seen.append(caller.ask(name, timeout=0.2 if isinstance(fault, Blackhole | Partition) else 5.0))
        one.heal(fault, "server-0")
    both, alone = seen
    assert (both.code, both.took >= 2 * least if isinstance(fault, Latency) else True) == (code, True), both
    assert (alone.code, alone.took >= least) == (code, True), alone
    assert soon_quick(open_caller(one), name)


def test_what_a_block_raises_comes_through(one):
    """Healing does not swallow it."""
    with pytest.raises(Boom), one.fault(Latency(0.3), on="server-0"):
        raise Boom


def test_overlapping_faults_are_healed_each_by_itself(one, open_caller):
    """0.1 s and 0.2 s of the same toxic add up, and each takes its own part with it, in whatever order."""
    caller = open_caller(one)
    one.apply(Latency(0.1), "server-0")
    one.apply(Latency(0.2), "server-0")
    assert caller.ask().took >= 0.3
    one.heal(Latency(0.1), "server-0")
    assert 0.2 <= caller.ask().took < 0.3
    one.heal(Latency(0.2), "server-0")
    assert soon_quick(caller)


def test_faults_from_many_threads_leave_nothing_behind(one, open_caller):
    """As the nemesis does it: many at once, of every kind that a proxy knows."""

    def one_deed(number: int) -> None:
        with one.fault([Refuse(), Latency(0.01), Blackhole(), Latency(0.01)][number % 4], on="server-0"):
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one_deed, range(40)))
    assert soon_quick(open_caller(one))


def test_healing_what_does_not_act_does_nothing(one, open_caller):
    """A fault that could not be applied is healed all the same, and must not end another."""
    caller = open_caller(one)
    with one.fault(Refuse(), on="server-0"):
        one.heal(Latency(0.3), "server-0")
        assert caller.ask().code == "UNAVAILABLE"


def test_a_proxy_counts_each_fault_by_itself(one, open_caller):
    """One that met no bytes is not taken for touched because another was. The real Toxiproxy counts nothing."""
    caller = open_caller(one)
    with one.fault(Latency(0.01), on="server-0"):
        caller.ask()
        with one.fault(Blackhole(), on="server-0"):
            counted = one.touched(Latency(0.01), "server-0"), one.touched(Blackhole(), "server-0")
        assert one.touched(Blackhole(), "server-0") is None
    real = counted == (None, None)
    assert real or (counted[0] >= 1 and counted[1] == 0), counted


def test_a_tag_tells_toxics_apart():
    """It ends the toxic's name, and without one the name is what it was."""
    assert Toxic(type="latency", stream="upstream").name == "stormproof_latency_upstream"
    assert Toxic(type="latency", stream="upstream", tag="7").name == "stormproof_latency_upstream_7"


@pytest.mark.servers(Servers(2, service_time=0.0))
def test_a_killed_server_is_gone_and_comes_back_at_its_address(fleet, open_caller):
    """The others answer meanwhile; the one that was killed answers again, in a new process, also if the block raises."""
    killed, other = open_caller(fleet), open_caller(fleet, "server-1")
    address, pid = fleet.addresses["server-0"], fleet.servers["server-0"].process.pid
    with suppress(Boom), fleet.fault(Kill(), on="server-0"):
        assert not fleet.servers["server-0"].process.alive
        assert fleet.servers["server-0"].process.wait() == -signal.SIGKILL
        assert (killed.ask().code, other.ask().code) == ("UNAVAILABLE", "OK")
        raise Boom
    assert killed.ask(wait_for_ready=True).code == "OK"
    assert fleet.addresses["server-0"] == address
    assert fleet.servers["server-0"].process.pid != pid


@pytest.mark.servers(Servers(1, service_time=0.2))
@pytest.mark.parametrize(("grace", "code", "status"), [(5.0, "OK", 0), (0.05, "UNAVAILABLE", -signal.SIGKILL)])
def test_a_drained_server_finishes_its_calls_within_the_grace(fleet, open_caller, grace, code, status):
    """A call of 0.2 s that is under way ends well, or is cut with the server; no other is taken until it is healed."""
    caller, server = open_caller(fleet), fleet.servers["server-0"]
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(caller.ask)
        until_received(server.journal, 2)
        with suppress(Boom), fleet.fault(Drain(grace=grace), on="server-0"):
            assert server.process.wait(0) == status
            assert call.result(5.0).code == code
            assert caller.ask().code == "UNAVAILABLE"
            raise Boom
    assert caller.ask(wait_for_ready=True).code == "OK"
    assert fleet.ended_by_themselves(0.0) == ()


@ONE
def test_a_paused_server_stands_still_and_goes_on(fleet, open_caller):
    """Its connections stay, nothing answers; healed, it is the same process."""
    caller = open_caller(fleet)
    process = psutil.Process(fleet.servers["server-0"].process.pid)
    with suppress(Boom), fleet.fault(Pause(), on="server-0"):
        assert process.status() == psutil.STATUS_STOPPED
        assert caller.ask(timeout=0.3).code == "DEADLINE_EXCEEDED"
        raise Boom
    assert caller.ask(wait_for_ready=True).code == "OK"
    assert fleet.servers["server-0"].process.pid == process.pid


@pytest.mark.servers(Servers(1, service_time=0.2))
@pytest.mark.parametrize(("graceful", "code"), [(True, "OK"), (False, "UNAVAILABLE")])
def test_a_restart_ends_calls_in_flight_by_its_manner(fleet, open_caller, graceful, code):
    """A graceful one lets them finish, the other breaks them; in both cases a new process answers afterwards."""
    caller, pid = open_caller(fleet), fleet.servers["server-0"].process.pid
    journal = fleet.servers["server-0"].journal
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(caller.ask)
        until_received(journal, 2)
        with fleet.fault(Restart(graceful=graceful), on="server-0"):
            assert fleet.servers["server-0"].process.pid != pid
        assert call.result().code == code
    assert caller.ask(wait_for_ready=True).code == "OK"


@ONE
def test_errors_are_answered_and_end(fleet, open_caller):
    """With the status that was asked for, counted by the server itself, and no longer once healed."""
    caller = open_caller(fleet)
    with suppress(Boom), fleet.fault(Errors(1.0, code="INTERNAL"), on="server-0"):
        assert [caller.ask().code for _ in range(3)] == ["INTERNAL"] * 3
        assert fleet.touched(Errors(1.0, code="INTERNAL"), "server-0") == 3
        raise Boom
    assert caller.ask().code == "OK"


@ONE
def test_an_overloaded_server_is_slow_and_refuses(fleet, open_caller):
    """Of two calls at once under a limit of one, the first takes its delay and the other is refused."""
    caller = open_caller(fleet)
    with suppress(Boom), fleet.fault(Overload(1, delay=0.2), on="server-0"), ThreadPoolExecutor(2) as pool:
        answers = sorted(pool.map(lambda _: caller.ask(), range(2)), key=lambda answer: answer.code)
        assert [answer.code for answer in answers] == ["OK", "RESOURCE_EXHAUSTED"]
        assert answers[0].took >= 0.2
        raise Boom
    assert soon_quick(caller)


def test_a_lossy_connection_loses_calls_where_the_proxy_can_do_it(behind, one, open_caller):
    """Behind the built-in proxy answers vanish, are counted, and come again once it is healed; the real one says that it
    has no such toxic, and nothing is left of it."""
    caller, lossy = open_caller(one), PacketLoss(1.0, towards="client")
    if "stormproof" in behind.proxy:
        with suppress(Boom), one.fault(lossy, on="server-0"):
            assert caller.ask(timeout=0.3).code == "DEADLINE_EXCEEDED"
            assert one.touched(lossy, "server-0") > 0
            raise Boom
    else:
        with pytest.raises(ToxiproxyError, match="invalid toxic type"), one.fault(lossy, on="server-0"):
            pytest.fail("the block ran")
    assert soon_quick(open_caller(one))


@ONE
def test_calls_that_hang_are_counted_and_end(fleet, open_caller):
    """They are taken, and nobody answers; healed, those that come are answered."""
    caller = open_caller(fleet)
    with suppress(Boom), fleet.fault(Hang(), on="server-0"):
        assert caller.ask(timeout=0.3).code == "DEADLINE_EXCEEDED"
        assert fleet.touched(Hang(), "server-0") == 1
        raise Boom
    assert caller.ask().code == "OK"


@ONE
def test_a_wrong_answer_has_status_ok(fleet, open_caller):
    """It greets somebody else, as often as the server says; healed, it greets who asked."""
    caller = open_caller(fleet)
    with suppress(Boom), fleet.fault(WrongAnswer(), on="server-0"):
        assert caller.stub.SayHello(HelloRequest(name="Ada")).message == "Hello, somebody else!"
        assert fleet.touched(WrongAnswer(), "server-0") == 1
        raise Boom
    assert caller.stub.SayHello(HelloRequest(name="Ada")).message == "Hello, Ada!"


@ONE
def test_a_cold_server_is_slow_at_first_and_again_after_a_restart(fleet, open_caller):
    """It takes up to so much longer, less from call to call, and all of it again when its process is a new one."""
    caller, cold = open_caller(fleet), ColdStart(0.4, lasting=60.0)
    with suppress(Boom), fleet.fault(cold, on="server-0"):
        assert caller.ask().took > 0.3
        fleet.apply(Restart(), "server-0")
        assert caller.ask(wait_for_ready=True).took > 0.3
        assert fleet.touched(cold, "server-0") == 2
        raise Boom
    assert soon_quick(caller)


@ONE
@pytest.mark.parametrize(("lie", "said"), [(StaleHealth(), 2), (StaleHealth(serving=True), 1)], ids=str)
def test_a_stale_health_service_lies(fleet, open_caller, lie, said):
    """It says what it is told, to those who ask and to those who watch; calls are served all the same."""
    caller = open_caller(fleet)
    health = health_pb2_grpc.HealthStub(caller.channel)
    watched = health.Watch(health_pb2.HealthCheckRequest(), timeout=10)
    assert next(watched).status == 1
    with suppress(Boom), fleet.fault(lie, on="server-0"):
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=5).status == said
        if said != 1:
            assert next(watched).status == said
            assert fleet.touched(lie, "server-0") >= 1
        assert caller.ask().code == "OK"
        raise Boom
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1
    watched.cancel()


@ONE
def test_a_memory_hog_holds_its_bytes_and_gives_them_back(fleet, open_caller):
    """The process of the server is so much larger, and no longer once it is healed."""
    caller, size = open_caller(fleet), 100_000_000
    process = psutil.Process(fleet.servers["server-0"].process.pid)
    before = process.memory_info().rss
    with suppress(Boom), fleet.fault(MemoryHog(size), on="server-0"):
        assert process.memory_info().rss - before > 0.9 * size
        assert caller.ask().code == "OK"
        assert fleet.touched(MemoryHog(size), "server-0") == 1
        raise Boom
    assert process.memory_info().rss - before < 0.1 * size


@ONE
def test_a_cpu_hog_leaves_slices_of_time(fleet, open_caller):
    """The process is stopped most of the time, never for good, and not at all once it is healed."""
    caller = open_caller(fleet)
    process = psutil.Process(fleet.servers["server-0"].process.pid)
    with suppress(Boom), fleet.fault(CpuHog(0.9), on="server-0"):
        seen = []
        while len(seen) < 200:
            seen.append(process.status() == psutil.STATUS_STOPPED)
            time.sleep(0.005)
        assert 100 < sum(seen) < 200
        assert caller.ask().code == "OK"
        with fleet.fault(Pause(), on="server-0"):
            assert caller.ask(timeout=0.5).code == "DEADLINE_EXCEEDED"
        assert caller.ask(wait_for_ready=True).code == "OK"
        raise Boom
    assert process.status() != psutil.STATUS_STOPPED
    assert soon_quick(caller)


@ONE
def test_a_process_without_descriptors_takes_no_new_client(fleet, open_caller):
    """Who is connected is served, who comes anew waits, and both are served once it is healed."""
    caller = open_caller(fleet)
    with suppress(Boom), fleet.fault(FileDescriptors(), on="server-0"), ExitStack() as stack:
        anew = Caller(fleet)
        stack.callback(anew.channel.close)
        assert anew.ask(timeout=0.5).code in ("DEADLINE_EXCEEDED", "UNAVAILABLE")
        assert caller.ask().code == "OK"
        raise Boom
    assert open_caller(fleet).ask(wait_for_ready=True).code == "OK"


def test_whose_end_comes_late_is_believed_to_be_there(one, open_caller):
    """A killed server's end reaches its client `delay` seconds later than it would: a call meanwhile goes to nobody."""
    caller = open_caller(one)
    with one.fault(SlowClose(2.0), on="server-0"), one.fault(Kill(), on="server-0"):
        began = time.monotonic()
        assert caller.ask(timeout=0.3).code == "DEADLINE_EXCEEDED"
        assert time.monotonic() - began < 2.0
    assert open_caller(one).ask(wait_for_ready=True).code == "OK"


@ONE
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Hang(), "DEADLINE_EXCEEDED"),
        (CpuHog(0.99), None),
        (FileDescriptors(), None),
        (MemoryHog(1000), None),
        (Kill(), "UNAVAILABLE"),
        (Drain(), "UNAVAILABLE"),
        (Pause(), "DEADLINE_EXCEEDED"),
        (Errors(code="ABORTED"), "ABORTED"),
        (Overload(0, delay=0.4), "DEADLINE_EXCEEDED"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Fault) else "",
)
def test_equal_faults_of_process_and_server_overlap(fleet, open_caller, fault, code):
    """The first to be healed leaves the other; each was seen to begin after it was applied."""
    caller = open_caller(fleet)
    fleet.apply(fault, "server-0")
    between = time.monotonic()
    assert fleet.apply(fault, "server-0") >= between
    fleet.heal(fault, "server-0")
    assert code is None or caller.ask(timeout=0.3).code == code
    fleet.heal(fault, "server-0")
    assert caller.ask(wait_for_ready=True).code == "OK"


@ONE
def test_errors_at_two_rates_are_both_made(fleet, open_caller):
    """Half of the calls, and half of the rest: between the two, never fewer than the one alone (N 400, alpha below 1e-6)."""
    caller = open_caller(fleet)
    with fleet.fault(Errors(0.5), on="server-0"), fleet.fault(Errors(0.5), on="server-0"):
        failed = sum(caller.ask().code == "UNAVAILABLE" for _ in range(400))
    assert 250 <= failed <= 350


@ONE
def test_a_server_can_answer_with_one_error_at_a_time(fleet):
    """A second code is refused in words, and the first one goes on undisturbed."""
    with fleet.fault(Errors(code="INTERNAL"), on="server-0"):
        with pytest.raises(
            FleetError, match="server-0 can answer with one error at a time; it was told ABORTED and INTERNAL"
        ):
            fleet.apply(Errors(code="ABORTED"), "server-0")
        fleet.heal(Errors(code="ABORTED"), "server-0")


@ONE
def test_a_server_that_comes_back_misbehaves_as_before(fleet, open_caller):
    """A fault inside a server outlives a kill; what it did before and what it does after are one count."""
    caller = open_caller(fleet)
    with fleet.fault(Errors(code="ABORTED"), on="server-0"):
        assert [caller.ask().code for _ in range(3)] == ["ABORTED"] * 3
        with fleet.fault(Kill(), on="server-0"):
            assert fleet.touched(Errors(code="ABORTED"), "server-0") == 3
        assert caller.ask(wait_for_ready=True).code == "ABORTED"
        fleet.apply(Restart(), "server-0")
        assert caller.ask(wait_for_ready=True).code == "ABORTED"
        assert fleet.touched(Errors(code="ABORTED"), "server-0") == 5
    assert caller.ask().code == "OK"


@ONE
@pytest.mark.parametrize("other", [Kill(), Pause()], ids=str)
def test_a_misbehaviour_that_ends_while_its_server_cannot_hear_is_over(fleet, open_caller, other):
    """A server that comes back, or goes on, is a good one; nobody waits for one that is paused."""
    caller = open_caller(fleet)
    fleet.apply(Errors(code="ABORTED"), "server-0")
    assert caller.ask().code == "ABORTED"
    with fleet.fault(other, on="server-0"):
        began = time.monotonic()
        assert fleet.touched(Errors(code="ABORTED"), "server-0") == (1 if isinstance(other, Kill) else None)
        fleet.heal(Errors(code="ABORTED"), "server-0")
        assert time.monotonic() - began < misbehaviour.ORDER
    assert caller.ask(wait_for_ready=True).code == "OK"


@ONE
def test_a_server_that_ends_by_itself_is_told_apart_from_one_that_is_killed(fleet):
    """With its status and when, also if a fault has brought it back since; each end once."""
    server = fleet.servers["server-0"]
    with fleet.fault(Kill(), on="server-0"), fleet.fault(Kill(), on="server-0"):
        assert fleet.ended_by_themselves(0.0) == ()
    origin = time.monotonic() - 7.0
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(5.0)
    seen = fleet.ended_by_themselves(origin)
    fleet.apply(Restart(), "server-0")
    assert server.process.alive
    assert fleet.ended_by_themselves(origin) == seen
    assert re.fullmatch(r"server-0 ended by itself at 7\.\d s with status -9", seen[0])
    assert len(seen) == 1


@ONE
def test_a_paused_server_that_is_restarted_stays_paused(fleet, open_caller):
    """And a killed one stays down over a restart: what still acts goes on."""
    caller = open_caller(fleet)
    with fleet.fault(Pause(), on="server-0"):
        fleet.apply(Restart(graceful=False), "server-0")
        assert caller.ask(timeout=0.3, wait_for_ready=True).code == "DEADLINE_EXCEEDED"
    assert caller.ask(wait_for_ready=True).code == "OK"
    with fleet.fault(Kill(), on="server-0"):
        fleet.apply(Restart(), "server-0")
        assert caller.ask().code == "UNAVAILABLE"
    assert caller.ask(wait_for_ready=True).code == "OK"


@ONE
def test_a_server_that_is_not_there_is_a_clear_error(fleet):
    """By hand a fault names its server; the message says which there are. The client has none here."""
    for on in ("server-7", "client"):
        with pytest.raises(FleetError, match=rf"no server is named '{on}'; there are server-0 \(Kill\(\)\)"):
            with fleet.fault(Kill(), on=on):
                pytest.fail("the block ran")


@ONE
def test_a_server_that_is_down_takes_no_order(fleet):
    """A misbehaviour that cannot be told is an error in one line, not a traceback of gRPC's."""
    with (
        fleet.fault(Kill(), on="server-0"),
        pytest.raises(FleetError, match=r"^server-0 took no order: it is down$"),
    ):
        fleet.apply(Errors(), "server-0")


COMMAND = (sys.executable, "-m", "harness.node", "--port", "{port}", "--service-time", "0")


@pytest.mark.servers(Servers(1, command=COMMAND))
def test_somebody_elses_server_can_be_killed_but_not_told_to_fail(fleet, open_caller):
    """Network and process faults act on any server; a fault inside needs one that serves control.proto."""
    caller = open_caller(fleet)
    with fleet.fault(Kill(), on="server-0"):
        assert caller.ask().code == "UNAVAILABLE"
    assert caller.ask(wait_for_ready=True).code == "OK"
    with pytest.raises(
        FleetError, match=r"Errors\(1\) needs a server that serves control.proto, and these are started by"
    ):
        fleet.apply(Errors(), "server-0")


def command(script: str) -> Servers:
    return Servers(1, command=("sh", "-c", script, "{port}"))


def test_a_command_that_ends_at_once_is_told_with_its_last_words(behind):
    """At once: nobody waits for a server that has ended."""
    began = time.monotonic()
    with pytest.raises(FleetError) as told, behind.deploy(command("echo 'no config file' >&2; exit 3")):
        pytest.fail("it was deployed")
    assert time.monotonic() - began < 5.0
    assert str(told.value).startswith("server-0 ended with status 3 and does not listen on port ")
    assert str(told.value).endswith("(sh); its last words: no config file")


def test_a_command_that_never_listens_is_given_up(behind, monkeypatch):
    """After a deadline, with its last words; and it is not left running."""
    monkeypatch.setattr(local_server, "READY", 0.2)
    with pytest.raises(
        FleetError, match=r"server-0 did not listen within 0.2 s on port \d+ \(sh\); its last words: warming up"
    ):
        with behind.deploy(command("echo warming up; sleep 1000")):
            pytest.fail("it was deployed")
    deadline = time.monotonic() + 5.0
    while "sleep" in [process.name() for process in psutil.Process(os.getpid()).children(recursive=True)]:
        assert time.monotonic() < deadline, "the child of the command is still running"
        time.sleep(0.01)


def test_a_program_that_is_not_there_is_told(behind):
    """By its name, as it was written."""
    with pytest.raises(FleetError, match="cannot start my-server: no program 'my-server' on PATH"):
        with behind.deploy(Servers(1, command=("my-server", "{port}"))):
            pytest.fail("it was deployed")
