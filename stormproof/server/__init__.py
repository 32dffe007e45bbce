"""For the servers: interceptors that keep what the channel's policies count on. They need nothing of a stormproof client.

Deadlines     handlers know their caller's deadline, and what they call inherits it.
LoadReporter  clients are told how busy the server is.
Limit         more calls than the server can work on at once are refused at once.
Idempotency   a call that carries a key is worked for once, however often it arrives.

Each works in `grpc.server(interceptors=[...])` and in `grpc.aio.server(interceptors=[...])`; list them in this order.
"""

from stormproof.core.limit import FixedLimit, GradientLimit
from stormproof.core.reports import LoadReport
from stormproof.deadline import remaining
from stormproof.server.deadlines import Deadlines
from stormproof.server.idempotency import Idempotency
from stormproof.server.limits import Limit
from stormproof.server.load_reports import LoadReporter
from stormproof.server.outcomes import MemoryOutcomes, Outcomes, Record
from stormproof.server.sqlite_outcomes import OutcomesError, SqliteOutcomes

__all__ = [
    "Deadlines", "remaining",
    "LoadReporter", "LoadReport",
    "Limit", "FixedLimit", "GradientLimit",
    "Idempotency", "Outcomes", "Record", "MemoryOutcomes", "SqliteOutcomes", "OutcomesError",
]  # fmt: skip
