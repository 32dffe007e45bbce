"""Clients with one planted defect each, which a named guarantee must find. A check that finds none proves nothing.

Each file holds the defects of one part of a client and ends with `PLANTED`, its saboteurs; `SABOTEURS` is all of them. A
defect is a few lines in a subclass of the part that it spoils, so that one can see that nothing else is wrong. To add one,
add it to a `PLANTED`; to add a file, add its line here. `stormproof selftest` runs them all (harness/selftest.py).
"""

from harness.saboteurs import checkpoints, deadlines, failover, hedges, loads, retries, streams, turns
from harness.saboteurs.base import Saboteur, lacking, planted
from harness.saboteurs.turns import AlwaysFirst

SABOTEURS: tuple[Saboteur, ...] = (
    *retries.PLANTED,
    *deadlines.PLANTED,
    *streams.PLANTED,
    *turns.PLANTED,
    *loads.PLANTED,
    *failover.PLANTED,
    *hedges.PLANTED,
    *checkpoints.PLANTED,
)

__all__ = ["SABOTEURS", "AlwaysFirst", "Saboteur", "lacking", "planted"]
