"""Answer streams of the client's process: what it reads, and what its journal tells of it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from harness import GREETINGS, Client, Servers
from harness.client import Calls, Recorder, read_journal
from harness.client_streams import Durable, read, still_due
from harness.greetings import greeted
from harness.history import Piece
from protos.hello_pb2 import HelloReply
from protos.hello_pb2_grpc import HelloServicer, add_HelloServicer_to_server
from stormproof import CheckpointStore, Endpoint, Policy

JOURNAL = """\
{"e":"start","pid":11}
{"e":"invoke","id":0,"due":0.0,"t":0.001,"item":7,"repeat":false,"messages":5}
{"e":"heard","id":0,"m":1,"n":1}
{"e":"heard","id":0,"m":2,"n":1}
{"e":"heard","id":0,"m":3,"n":2,"repeat":true}
{"e":"heard","id":0,"m":4,"n":2}
{"e":"heard","id":0,"m":4,"n":2}
{"e":"heard","id":0,"m":5,"n":2}
"""


@pytest.fixture
def journal(tmp_path) -> Path:
    return tmp_path / "client.jsonl"


@contextmanager
def calling(fleet, journal: Path, policy: Policy, generation: int = 0) -> Iterator[Calls]:
    """Calls of a `Client` to the one server of `fleet`, recorded in `journal`."""
    [(name, address)] = fleet.addresses.items()
    recorder = Recorder(journal, {address: name}, generation)
    with Client(policy=policy).channel([Endpoint(address)], seed=1, observer=recorder.observed) as channel:
        yield Calls(channel, recorder, timeout=None)


def test_a_journal_tells_in_which_order_messages_were_heard(journal):
    """As pieces of messages that followed one another, each of one attempt and with or without a mark."""
    journal.write_text(JOURNAL)
    ((operation,), _) = read_journal(journal)
    assert (operation.item, operation.messages, operation.heard_messages) == (7, 5, 6)
    assert operation.heard == (
        Piece(first=1, last=2, attempt=1),
        Piece(first=3, last=3, attempt=2, repeat=True),
        Piece(first=4, last=4, attempt=2),
        Piece(first=4, last=5, attempt=2),
    )


@pytest.mark.servers(Servers(1, service_time=0.001))
def test_a_stream_is_read_to_its_end(fleet, journal):
    """Twenty messages, heard in one attempt; the server says that it sent as many."""
    with calling(fleet, journal, Policy(checkpoint=GREETINGS)) as calls:
        assert read(calls, 3, 0.0, messages=20, durable=None)
        assert calls.recorder.attempts == {}
    ((operation,), _) = read_journal(journal)
    assert (operation.result, operation.item, operation.messages) == ("ok", 3, 20)
    assert operation.heard == (Piece(first=1, last=20, attempt=1),)
    [execution] = fleet.executions(0.0)
    assert (execution.operation, execution.item, execution.messages) == (0, 3, 20)


@pytest.mark.servers(Servers(1, service_time=0.001))
def test_grpcs_own_channel_reads_streams_too(fleet, journal):
    """A client of somebody else's tells of no attempt."""
    with grpc.insecure_channel(fleet.addresses["server-0"]) as channel:
        assert read(Calls(channel, Recorder(journal, {}, 0), 5.0), 3, 0.0, messages=4, durable=None)
    ((operation,), _) = read_journal(journal)
    assert operation.heard == (Piece(first=1, last=4),)


@pytest.mark.servers(Servers(1, service_time=0.020))
def test_a_streams_timeout_is_for_the_whole_of_it(fleet, journal):
    """The harness's client has one policy, which is that of the stream's method, too: 100 messages do not fit into 0.3 s."""
    with calling(fleet, journal, Policy(timeout=0.3)) as calls:
        assert not read(calls, 0, 0.0, messages=100, durable=None)
    ((operation,), _) = read_journal(journal)
    assert (operation.result, operation.code) == ("info", "DEADLINE_EXCEEDED")
    assert 0 < operation.heard_messages < 16
    assert operation.ended - operation.invoked < 2.0


@pytest.mark.servers(Servers(1, service_time=0.020))
def test_a_durable_stream_goes_on_in_the_next_process(fleet, journal, tmp_path):
    """Broken off by its timeout, then read on by a client that was started again: each message once, and it is finished."""
    for generation, timeout in enumerate([0.3, 10.0]):
        with (
            CheckpointStore(tmp_path / "store") as store,
            calling(fleet, journal, Policy(timeout=timeout, checkpoint=GREETINGS), generation) as calls,
        ):
            durable = Durable(store=store, checkpoint=GREETINGS, every=5, seed=1)
            assert [item for item, _ in still_due([0.0, 0.0], durable.finished, 0.0)] == [0, 1]
            assert read(calls, 0, 0.0, messages=30, durable=durable) == (generation == 1)
            assert durable.finished(0) == (generation == 1)
    (first, second), starts = read_journal(journal)
    assert (first.result, second.result, starts) == ("info", "ok", 2)
    last = first.heard[-1].last
    [*again, (begin, end)] = [(piece.first, piece.last) for piece in second.heard]
    assert again in ([], [(last, last)])  # at most the one in hand, marked
    assert (begin, end) == (last + 1, 30)
    assert all(piece.repeat for piece in second.heard[:-1])


def test_a_stream_is_due_when_there_is_somebody_to_read_it():
    """A client that was killed at 1 s and is back at 2 s: what was due before is due now, what it has read is not."""
    due = still_due([0.5, 1.5, 1.6, 3.0], lambda item: item == 1, 2.0)
    assert list(due) == [(0, 2.0), (2, 2.0), (3, 3.0)]


@pytest.mark.parametrize(
    ("item", "messages", "name"), [(7, 1, "7"), (7, 5, "00007"), (123, 2, "23"), (123, 3, "123"), (0, 4, "0000")]
)
def test_a_stream_greets_a_name_as_long_as_it_is(item, messages, name):
    """The server greets it once for each character."""
    assert greeted(item, messages) == name


def test_a_message_for_somebody_else_is_not_ok(journal):
    """The stream is broken off there; what was right before it has been heard."""

    class Liar(HelloServicer):
        def SayHelloToEach(self, request, context):  # noqa: N802
            yield HelloReply(message=f"Hello, {request.name}!", number=1)
            yield HelloReply(message="Hello, somebody else!", number=2)

    server = grpc.server(futures.ThreadPoolExecutor(1))
    add_HelloServicer_to_server(Liar(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert not read(Calls(channel, Recorder(journal, {}, 0), 5.0), 3, 0.0, messages=4, durable=None)
    server.stop(0)
    ((operation,), _) = read_journal(journal)
    assert (operation.result, operation.code) == ("info", "WRONG_ANSWER")
    assert operation.detail == "the answer was 'Hello, somebody else!'"
    assert operation.heard == (Piece(first=1, last=1),)
