"""Promises, one a file: each is a pure function of a history, with the verdict held, broken or unknown.

The statistics of all of them stand in statistics.py; `GUARANTEES` lists them for whoever needs them by name.
"""

from harness.guarantees.at_most_once import AtMostOnce
from harness.guarantees.available import Available
from harness.guarantees.avoids_faulty import AvoidsFaulty
from harness.guarantees.base import ALPHA, Guarantee, Promise, Verdict, Word, overall
from harness.guarantees.check import check_all
from harness.guarantees.even_share import EvenShare
from harness.guarantees.fast import Fast
from harness.guarantees.healthy_share import HealthyShare
from harness.guarantees.no_retry_storm import NoRetryStorm
from harness.guarantees.no_strays import NoStrays
from harness.guarantees.nothing_lost import NothingLost
from harness.guarantees.recovers import Recovers
from harness.guarantees.resumes import Resumes
from harness.guarantees.retries_elsewhere import RetriesElsewhere
from harness.guarantees.spreads_retries import SpreadsRetries
from harness.guarantees.stops_work import StopsWork
from harness.guarantees.uncut import Uncut
from harness.guarantees.weighted_share import WeightedShare
from harness.guarantees.within_budget import WithinBudget
from harness.guarantees.within_deadline import WithinDeadline

GUARANTEES: tuple[type[Promise], ...] = (
    Available, Fast, WithinDeadline, EvenShare, WeightedShare, NoRetryStorm, AtMostOnce, NothingLost,
    Recovers, AvoidsFaulty, Resumes, HealthyShare, RetriesElsewhere, SpreadsRetries, StopsWork, Uncut, WithinBudget,
    NoStrays,
)  # fmt: skip

__all__ = [
    "ALPHA", "GUARANTEES", "Guarantee", "Promise", "Verdict", "Word", "check_all", "overall",
    "AtMostOnce", "Available", "AvoidsFaulty", "EvenShare", "Fast", "HealthyShare", "NoRetryStorm", "NoStrays", "NothingLost",
    "Recovers", "Resumes", "RetriesElsewhere", "SpreadsRetries", "StopsWork", "Uncut", "WeightedShare", "WithinBudget",
    "WithinDeadline",
]  # fmt: skip
