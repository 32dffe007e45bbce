"""Load reports as bytes: what others write is read, what is written others can read, and garbage harms nobody."""

from __future__ import annotations

import struct
import subprocess
import sys

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from stormproof.core.reports import LoadReport
from stormproof.orca import COPY, TRAILER, decode, encode, report_in, trailers

#: A user's own copy of the message, with the field numbers of cncf/xds, in the pool of the process.
XDS = """
name: "xds/data/orca/v3/orca_load_report.proto"  package: "xds.data.orca.v3"  syntax: "proto3"
message_type { name: "OrcaLoadReport"
  field { name: "cpu_utilization" number: 1 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
  field { name: "mem_utilization" number: 2 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
  field { name: "rps" number: 3 type: TYPE_UINT64 label: LABEL_OPTIONAL }
  field { name: "request_cost" number: 4 type: TYPE_MESSAGE type_name: "A" label: LABEL_REPEATED }
  field { name: "utilization" number: 5 type: TYPE_MESSAGE type_name: "A" label: LABEL_REPEATED }
  field { name: "rps_fractional" number: 6 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
  field { name: "eps" number: 7 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
  field { name: "named_metrics" number: 8 type: TYPE_MESSAGE type_name: "A" label: LABEL_REPEATED }
  field { name: "application_utilization" number: 9 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
  nested_type { name: "A"
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_DOUBLE label: LABEL_OPTIONAL } } }
"""


@pytest.fixture(scope="module")
def theirs():
    """The message class of a user who has generated the xds protos."""
    from google.protobuf import text_format

    file = text_format.Parse(XDS, descriptor_pb2.FileDescriptorProto())
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("xds.data.orca.v3.OrcaLoadReport"))


def double(field: int, value: float) -> bytes:
    """One field on the wire."""
    return bytes([field << 3 | 1]) + struct.pack("<d", value)


@pytest.mark.guarantee(18)
def test_the_fields_have_the_standards_numbers():
    """Written out by hand, byte for byte: CPU 1, memory 2, qps 6, eps 7, application 9; cost 4, utilization 5, named 8."""
    data = double(1, 0.5) + double(2, 0.25) + double(6, 120.5) + double(7, 2.0) + double(9, 0.75)
    data += b"".join(
        bytes([n << 3 | 2, 12, 0x0A, 1]) + b"a" + double(2, value) for n, value in ((4, -7), (5, 0.5), (8, 9))
    )
    report = LoadReport(
        cpu_utilization=0.5,
        mem_utilization=0.25,
        qps=120.5,
        eps=2.0,
        application_utilization=0.75,
        request_cost={"a": -7.0},
        utilization={"a": 0.5},
        named_metrics={"a": 9.0},
    )
    assert decode(data) == report
    assert decode(encode(report)) == report


def test_a_program_with_xds_protos_of_its_own_understands_and_is_understood(theirs):
    """Both definitions live in one process, and mean the same; its deprecated `rps` and what is new are skipped."""
    written = theirs(cpu_utilization=0.5, rps=7, rps_fractional=8.5, eps=0.5)
    assert decode(written.SerializeToString()) == LoadReport(cpu_utilization=0.5, qps=8.5, eps=0.5)
    read = theirs.FromString(encode(LoadReport(application_utilization=1.5, qps=3.0, named_metrics={"queue": 4.0})))
    assert (read.application_utilization, read.rps_fractional, read.rps) == (1.5, 3.0, 0)
    assert {(entry.key, entry.value) for entry in read.named_metrics} == {("queue", 4.0)}


def test_the_library_puts_no_names_into_the_pool_of_the_process():
    """After a report and a health check's messages were used, both names are free for a user's own generated modules."""
    program = (
        "from google.protobuf.descriptor_pool import Default\n"
        "import stormproof.health_checks, stormproof.orca, stormproof.server\n"
        "stormproof.orca.decode(b''), stormproof.health_checks._status(b'')\n"
        "for name in ('xds.data.orca.v3.OrcaLoadReport', 'grpc.health.v1.HealthCheckRequest'):\n"
        "    try:\n"
        "        Default().FindMessageTypeByName(name)\n"
        "    except KeyError:\n"
        "        print('free')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.split() == ["free", "free"]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"report",
        double(1, 0.5)[:-1],
        double(1, float("nan")),
        double(6, float("inf")),
        double(7, -1.0),
        double(9, 1e13),
        bytes([8 << 3 | 2, 9]) + double(2, float("nan")),
    ],
)
def test_garbage_is_no_report(data):
    """No bytes of a message, torn ones, NaN, infinite, negative, absurd: None, and nothing is raised."""
    assert decode(data) is None


@given(st.binary(max_size=64))
def test_whatever_comes_nothing_is_raised(data):
    """For every bytes: a report, or None."""
    assert decode(data) is None or isinstance(decode(data), LoadReport)


def test_it_is_found_in_the_trailing_metadata():
    """Under either name, among others; none where there is none, or where it is a text."""
    report = LoadReport(qps=5.0)
    assert [key for key, _ in trailers(report)] == ["endpoint-load-metrics-bin", "x-endpoint-load-metrics-bin"]
    for name in (TRAILER, COPY):
        assert report_in((("a", "b"), (name, encode(report)))) == report
    assert [report_in(trailing) for trailing in (None, (), (("a", "b"),), ((COPY, "text"),))] == [None] * 4
