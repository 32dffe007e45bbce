"""The journal: what was written survives the death of its writer, and reads back as executions."""

from __future__ import annotations

import os
import signal

import grpc
import pytest

from harness.history import Execution
from harness.node.journal import Journal, read_journal
from protos.hello_pb2 import HelloRequest

ADA = HelloRequest(name="Ada")


def test_a_kill_in_the_middle_of_a_call_leaves_what_was_done(start):
    """The finished call was executed, the one in work was received, and no more (guarantee 113)."""
    server = start(service_time=0.3)
    server.hello.SayHello(ADA, metadata=(("stormproof-call", "1"),))
    call = server.hello.SayHello.future(ADA, metadata=(("stormproof-call", "2"),))
    server.wait_for(lambda told: len(told) == 2)
    server.process.signal(signal.SIGKILL)
    assert server.process.wait(5.0) == -signal.SIGKILL
    assert call.code() is grpc.StatusCode.UNAVAILABLE
    first, second = server.executions()
    assert (first.operation, first.code) == (1, "OK")
    assert first.executed is not None
    assert (second.operation, second.executed, second.ended, second.code) == (2, None, None, None)


def test_a_kill_in_the_middle_of_a_stream_leaves_what_was_sent(start):
    """The journal tells of each message that a caller has heard, and of one more at most; the stream was not done."""
    server = start(service_time=0.02)
    stream = server.hello.SayHelloToEach(HelloRequest(name="A" * 100), metadata=(("stormproof-call", "1"),))
    heard = [next(stream).number for _ in range(3)]
    server.process.signal(signal.SIGKILL)
    with pytest.raises(grpc.RpcError):
        heard += [message.number for message in stream]
    assert server.process.wait(5.0) == -signal.SIGKILL
    (execution,) = server.executions()
    assert heard == list(range(1, len(heard) + 1))
    assert execution.messages in (len(heard), len(heard) + 1)
    assert (execution.executed, execution.code) == (None, None)


def test_what_a_caller_was_told_is_in_the_journal(start):
    """A kill straight after each reply finds its execution journaled, 20 times of 20."""
    server = start()
    for operation in range(20):
        server.hello.SayHello(ADA, metadata=(("stormproof-call", str(operation)),), wait_for_ready=True)
        server.process.close()
        assert server.executions()[-1].operation == operation
        assert server.executions()[-1].executed is not None
        server = start(port=server.ready.port)


def test_incarnations_share_a_file_without_mixing_their_attempts(tmp_path):
    """Both count their attempts from 1; here they even have the same pid, as if it had been used again."""
    path = tmp_path / "journal.jsonl"
    first, second = Journal(path), Journal(path)
    number = first.received(operation=1)
    first.executed(number)
    number = second.received(operation=2)
    second.ended(number, "CANCELLED")
    one, two = read_journal(path, server="server-0", origin=0.0)
    assert (one.operation, one.executed is None, one.code) == (1, False, None)
    assert (two.operation, two.executed is None, two.code) == (2, True, "CANCELLED")


def test_times_count_from_the_origin(tmp_path):
    """Arrival at 101.5, done at 101.75, ended at 102 on a clock on which the run began at 100."""
    path = tmp_path / "journal.jsonl"
    path.write_text(
        '{"event":"received","pid":7,"number":1,"at":101.5,"operation":3,"sent":2,"remaining":0.5}\n'
        '{"event":"executed","pid":7,"number":1,"at":101.75}\n'
        '{"event":"ended","pid":7,"number":1,"at":102.0,"code":"OK"}\n'
    )
    expected = Execution(
        server="server-4",
        operation=3,
        sent=2,
        received=1.5,
        executed=1.75,
        ended=2.0,
        code="OK",
        remaining=0.5,
    )
    assert read_journal(path, server="server-4", origin=100.0) == (expected,)


def test_a_torn_last_record_is_as_if_it_had_not_been_written(tmp_path):
    """Reading leaves it out; the next incarnation cuts it off and goes on behind the last whole one."""
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.received(operation=1)
    journal.received(operation=2)
    os.truncate(path, path.stat().st_size - 10)
    assert [e.operation for e in read_journal(path, server="server-0", origin=0.0)] == [1]
    Journal(path).received(operation=3)
    assert [e.operation for e in read_journal(path, server="server-0", origin=0.0)] == [1, 3]


def test_a_damaged_record_is_an_error_that_names_its_line(tmp_path):
    """A journal that cannot be read whole proves nothing, so it must not be read in part."""
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.received(operation=1)
    path.write_bytes(b'{"event":"recei\n' + path.read_bytes())
    with pytest.raises(ValueError, match="line 1 is not a record"):
        read_journal(path, server="server-0", origin=0.0)


def test_a_lost_journal_is_not_an_empty_one(tmp_path):
    """A server whose file is gone cannot be said to have done nothing."""
    with pytest.raises(FileNotFoundError):
        read_journal(tmp_path / "journal.jsonl", server="server-0", origin=0.0)
