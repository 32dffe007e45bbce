"""The one error that a fleet raises: it could not do what the run needs, and says what can be done."""

from __future__ import annotations


class FleetError(Exception):
    """One clear message for the user: what could not be started, reached or kept alive, why, and the way out.

    A run that meets it could not be judged: the command line prints the message alone, without a traceback,
    and ends with `exit_status` 2.
    """

    exit_status = 2
