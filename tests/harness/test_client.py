"""The client's process: what it calls and when, and what its journal tells of it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from harness import Closed, EvenShare, GrpcClient, Scenario, Servers, Steady, client
from harness.client import Calls, Recorder, read_journal
from harness.history import Attempt, Operation
from harness.report.summary import shares
from protos.hello_pb2 import HelloReply
from protos.hello_pb2_grpc import HelloServicer, add_HelloServicer_to_server
from stormproof import Channel, Code, Endpoint, Evidence, Outcome, Policy
from stormproof.core.call import Cause
from stormproof.core.outcome import OK
from stormproof.observer import AttemptBegan, AttemptEnded, CallBegan, CallEnded

JOURNAL = """\
{"e":"start","pid":11}
{"e":"invoke","id":0,"due":0.0,"t":0.001,"item":null,"repeat":false}
{"e":"attempt","id":0,"n":1,"sent":1,"server":"server-0","t":0.002}
{"e":"attempt_end","id":0,"n":1,"code":"UNAVAILABLE","evidence":"never sent","t":0.003}
{"e":"invoke","id":1,"due":0.01,"t":0.011,"item":7,"repeat":true}
{"e":"attempt","id":0,"n":2,"sent":1,"server":"server-1","t":0.004}
{"e":"attempt_end","id":0,"n":2,"code":"OK","evidence":"answered","t":0.02}
{"e":"end","id":0,"t":0.021,"result":"ok","code":"OK","detail":""}
{"e":"attempt","id":1,"n":1,"sent":1,"server":"server-1","t":0.012}
"""

OPERATIONS = (
    Operation(
        id=0, due=0.0, invoked=0.001, ended=0.021, result="ok", code="OK",
        attempts=(
            Attempt(number=1, server="server-0", started=0.002, ended=0.003, code="UNAVAILABLE", sent=0),
            Attempt(number=2, server="server-1", started=0.004, ended=0.02, code="OK", sent=1),
        ),
    ),
    Operation(
        id=1, due=0.01, invoked=0.011, ended=None, result="info", code="UNKNOWN", item=7, repeat=True,
        attempts=(Attempt(number=1, server="server-1", started=0.012, lost=True),),
    ),
)  # fmt: skip


@pytest.fixture
def journal(tmp_path) -> Path:
    return tmp_path / "client.jsonl"


def test_a_journal_tells_each_operation_with_its_attempts(journal):
    """In the order of their beginning; one that never left was not sent, one without an end may have been done."""
    journal.write_text(JOURNAL)
    assert read_journal(journal) == (OPERATIONS, 1)


def test_the_loser_of_a_race_is_journaled_although_its_call_is_over(journal):
    """A hedged call: its second attempt answers, the call ends, then the first one's end comes; nothing is kept after it."""
    recorder = Recorder(journal, {"a:1": "server-0", "b:1": "server-1"}, 0)
    a, b, gone = Endpoint("a:1"), Endpoint("b:1"), Outcome(Code.CANCELLED, Evidence.LOST)
    for event in (
        CallBegan(9, 1.0, "/hello.Hello/SayHello", ((client.CALL, "3"),)),
        AttemptBegan(9, 1.0, 1, 1, a, Cause.FIRST),
        AttemptBegan(9, 1.1, 2, 2, b, Cause.HEDGE),
        AttemptEnded(9, 1.2, 2, OK),
        CallEnded(9, 1.2, 2, OK),
        AttemptEnded(9, 1.3, 1, gone),
    ):
        recorder.observed(event)
    assert [line.split('"e":"')[1].split('"')[0] for line in journal.read_text().splitlines()] == [
        "start", "attempt", "attempt", "attempt_end", "attempt_end",
    ]  # fmt: skip
    assert recorder._operations == {}


@pytest.mark.parametrize(
    "torn", ['{"e":"end","id":1,"t":0.0', "{", '{"e":"end","id":1,"t":0.02,"result":"ok","code":"OK","detail":""}']
)
def test_a_torn_last_line_is_no_record(journal, torn):
    """What was not written to its end was not told: the operation stays without an end."""
    journal.write_text(JOURNAL + torn)
    assert read_journal(journal) == (OPERATIONS, 1)


def test_a_client_that_was_killed_in_a_line_goes_on_in_the_next(journal):
    """The half line goes, its operation stays one that nobody can know of, and the numbers of the next start are its own."""
    journal.write_text(JOURNAL + '{"e":"end","id":1,"t":0.0')
    recorder = Recorder(journal, {}, generation=1)
    assert recorder.first == 1_000_000_000
    assert read_journal(journal) == (OPERATIONS, 2)


def test_a_line_that_is_no_record_is_named(journal):
    """Anywhere but at the end it means that the journal was damaged, and proves nothing."""
    journal.write_text(JOURNAL + "half\n" + JOURNAL)
    with pytest.raises(ValueError, match=r"client.jsonl, line 10 is not a record of a client's journal"):
        read_journal(journal)


def test_an_empty_journal_tells_of_nothing(journal):
    """A client that was killed before its first line."""
    journal.write_text("")
    assert read_journal(journal) == ((), 0)


@contextmanager
def calling(fleet, journal: Path, timeout: float | None = None) -> Iterator[Calls]:
    """Calls on a plain channel to the one server of `fleet`, recorded in `journal`."""
    with grpc.insecure_channel(fleet.addresses["server-0"]) as channel:
        grpc.channel_ready_future(channel).result(5.0)
        yield Calls(channel, Recorder(journal, {}, generation=0), timeout)


@pytest.mark.servers(Servers(1, service_time=0.1))
def test_a_call_that_waits_for_a_place_counts_from_when_it_was_due(fleet, journal, monkeypatch):
    """No coordinated omission: with every worker stuck, calls begin late, and their waiting is part of their latency."""
    monkeypatch.setattr(client, "CONCURRENCY", 1)
    with calling(fleet, journal) as calls:
        client._open(calls, [0.0, 0.01, 0.02, 0.03], patience=5.0)
    operations, _ = read_journal(journal)
    assert [operation.due for operation in operations] == [0.0, 0.01, 0.02, 0.03]
    for place, operation in enumerate(operations):
        assert operation.invoked >= place * 0.1
        assert operation.latency >= (place + 1) * 0.1 - operation.due


@pytest.mark.servers(Servers(1, service_time=0.0))
def test_an_open_workload_begins_nothing_early(fleet, journal):
    """Each call at its time, whatever became of the one before."""
    due = [0.0, 0.02, 0.021, 0.1]
    with calling(fleet, journal) as calls:
        client._open(calls, due, patience=5.0)
    operations, _ = read_journal(journal)
    assert sorted(operation.due for operation in operations) == due
    assert all(operation.invoked >= operation.due for operation in operations)


@pytest.mark.servers(Servers(1, service_time=0.02))
def test_closed_callers_wait_for_their_answer_and_then_think(fleet, journal):
    """Three callers: never more than three calls at once, each due when it begins, none begun after the time is up."""
    with calling(fleet, journal) as calls:
        client._closed(calls, Closed(callers=3, seconds=0.3, think=0.03), patience=5.0)
    operations, _ = read_journal(journal)
    assert len(operations) >= 6
    assert {operation.result for operation in operations} == {"ok"}
    assert all(operation.due == operation.invoked < 0.3 for operation in operations)
    for operation in operations:
        under_way = [o for o in operations if o.invoked <= operation.invoked < o.ended]
        thinking = [o for o in operations if o.ended <= operation.invoked < o.ended + 0.03]
        assert len(under_way) + len(thinking) <= 3


@pytest.mark.servers(Servers(1, service_time=60.0))
def test_calls_that_never_end_are_broken_off_after_the_patience(fleet, journal):
    """They end as cancelled, and nobody can know whether they were done."""
    with calling(fleet, journal) as calls:
        client._open(calls, [0.0, 0.01], patience=0.1)
    operations, _ = read_journal(journal)
    assert [(operation.result, operation.code) for operation in operations] == [("info", "CANCELLED")] * 2
    assert all(operation.ended < 5.0 for operation in operations)


@pytest.mark.servers(Servers(1, service_time=60.0))
@pytest.mark.parametrize("ours", [True, False], ids=["Channel", "grpc"])
def test_a_call_past_its_deadline_is_one_that_nobody_can_know_of(fleet, journal, ours):
    """By our channel's word or by grpc's: it was sent, and no answer came."""
    recorder = Recorder(journal, {address: name for name, address in fleet.addresses.items()}, generation=0)
    address = fleet.addresses["server-0"]
    policy = Policy(timeout=0.2)
    with (
        Channel([address], policy=policy, observer=recorder.observed)
        if ours
        else grpc.insecure_channel(address) as channel
    ):
        assert Calls(channel, recorder, timeout=None if ours else 0.2).one(item=3) is False
    ((operation,), _) = read_journal(journal)
    assert (operation.result, operation.code, operation.item) == ("info", "DEADLINE_EXCEEDED", 3)
    assert [(a.number, a.server, a.sent, a.lost) for a in operation.attempts] == (
        [(1, "server-0", 1, True)] if ours else []
    )


def test_a_call_to_nobody_surely_failed(journal):
    """No connection could be made: the work was not done, and not one attempt was sent."""
    recorder = Recorder(journal, {"127.0.0.1:9": "server-0"}, generation=0)
    with Channel(["127.0.0.1:9"], policy=Policy(timeout=1.0, retry=None), observer=recorder.observed) as channel:
        assert Calls(channel, recorder, timeout=None).one() is False
    ((operation,), _) = read_journal(journal)
    assert (operation.result, operation.code) == ("fail", "UNAVAILABLE")
    assert {attempt.sent for attempt in operation.attempts} == {0}


def test_an_answer_to_somebody_else_is_not_ok(journal):
    """A reply counts only if it is the right one; whether the work was done, a wrong one does not say."""

    class Liar(HelloServicer):
        def SayHello(self, request, context):  # noqa: N802
            return HelloReply(message="Hello, somebody else!")

    server = grpc.server(futures.ThreadPoolExecutor(1))
    add_HelloServicer_to_server(Liar(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert Calls(channel, Recorder(journal, {}, generation=0), timeout=5.0).one() is False
    server.stop(0)
    ((operation,), _) = read_journal(journal)
    assert (operation.result, operation.code) == ("info", "WRONG_ANSWER")
    assert operation.detail == "the answer was 'Hello, somebody else!'"


def test_grpcs_own_channel_is_a_client(run):
    """GrpcClient: its attempts are not seen, and the servers' journals tell where they went."""
    result = run(
        Scenario(
            servers=Servers(2),
            client=GrpcClient(timeout=1.0),
            workload=Steady(rate=400, seconds=0.5),
            guarantees=[EvenShare()],
        )
    )
    result.check()
    assert [(o.result, o.attempts) for o in result.history.operations] == [("ok", ())] * 200
    found = shares(result.history)
    assert (list(found), sum(found.values()), min(found.values()) > 50) == (["server-0", "server-1"], 200, True), found
