"""Mistakes that others made and published, by number: which of them the saboteurs stand for, and where the rest is tested.

The facts are those of the sources; the numbers are ours, and stay.
"""

#: By number: the mistake, and who published it.
PUBLISHED: dict[int, tuple[str, str]] = {
    1: ("Retry storm: retries multiply the load", "AWS Builders' Library; gRFC A6; OSDI '22"),
    2: ("Retries in several layers multiply", "AWS Builders' Library"),
    3: ("Retries without jitter: a thundering herd", "AWS Builders' Library; Google SRE book"),
    4: ("Calls that are not idempotent are retried and done twice", "gRFC A6; Twilio's double billing of 2013"),
    5: ("An unknown outcome is taken for a failure, or for a success", "Jepsen; FoundationDB's commit_unknown_result"),
    6: ("The deadline is not passed on, or begins anew with each retry", "gRFC A6"),
    7: ("No deadline: a call hangs for ever", "cloudprober #1022"),
    8: ("Keepalive that takes a minute", "grpc-java #5854"),
    9: ("Sticks to where it failed over; the healed server is not used again", "gRPC's pick_first; cloudprober #1022"),
    10: ("Round robin into a black hole", "gRPC's round_robin: a third of the calls of three servers"),
    11: ("The balancer never connects again", "grpc #11578, #11643, #26754, #29996; grpc-node #2667"),
    12: ("Connecting for ever hides the error", "grpc-java #6650; grpc-go #3339"),
    13: ("Fast failures attract the traffic", "Google SRE book, chapter 20"),
    14: ("Unfair balancing, hot spots", "Google SRE book; Envoy"),
    15: ("Outlier detection that is off in small fleets, or ejects too many", "gRFC A50 (five hosts, 10 %)"),
    16: ("The health check says serving, the server is broken", "Brightcove; Jepsen"),
    17: ("Metastable failure: the trouble is over and the overload stays", "HotOS '21; OSDI '22 (22 incidents)"),
    18: ("Servers work for callers who have gone", "Google SRE book; gRFC A6"),
    19: ("A breaker that never closes, flaps, or is shared by all", "resilience4j and Envoy, in their documentation"),
    20: ("Hedging without a cap, without cancelling, or to the same server", "gRFC A6; The Tail at Scale"),
    21: ("A cold server gets its full share at once", "Envoy's slow start"),
    22: ("Calls in flight die with a graceful shutdown", "akka-grpc #206"),
    23: (
        "Connections that break in the middle are retried though the work may be done",
        "toxiproxy #199, #247; haproxy #914",
    ),
    24: ("Half a message is accepted", "Toxiproxy's limit_data and slicer"),
    25: ("Clocks that jump break deadlines and leases", "Jepsen; Chaos Mesh"),
    26: ("A stale writer writes after its pause", "Jepsen"),
    27: ("A checkpoint is torn, or not flushed", "ALICE (OSDI '14); fsync failures (ATC '20)"),
    28: ("Resuming repeats work unmarked, or skips it", "exactly-once demonstrations"),
    29: ("A corrupt checkpoint is accepted", "Jepsen"),
    30: ("Connections, threads or files leak under faults", "toxiproxy #232"),
    31: ("A timeout under p99.9 makes a storm of its own", "AWS Builders' Library"),
    32: ("The fallback is worse than the failure", "Filibuster; Netflix"),
    33: ("Addresses that are never asked for again", "gRPC practice"),
    34: ("The test lies: its fault touched no traffic", "chaostoolkit"),
    35: ("The test leaks: its fault stays behind", "mayhem; Toxiproxy's reset"),
}

#: By number: where the mistakes are tested for which there is no saboteur.
ELSEWHERE: dict[int, str] = {
    8: "suites/test_black_hole.py: a silent connection is found by attempts that time out, without keepalive",
    12: "suites/test_refused_connections.py",
    21: "tests/stormproof/core/test_slow_start.py",
    22: "suites/test_rolling_restart.py",
    25: "tests/stormproof/core/test_balancers.py",
    30: "tests/stormproof/test_races.py",
    32: "suites/test_priority_tiers.py",
    33: "tests/stormproof/test_resolvers.py",
    34: "tests/harness/guarantees/test_guarantee_check.py",
    35: "tests/harness/test_nemesis.py",
}
