"""Where the built-in proxy is meant to differ from Toxiproxy 2.12, and nowhere else: the list that docs/toxiproxy.md prints.

Each has a test that shows it on both servers, so that the list stays true: in test_proxy_differences.py. What else the
differential tests see is a defect.
"""

from __future__ import annotations

from enum import Enum


class Difference(Enum):
    """Each in the words of the documentation."""

    LOGGER = "A proxy is shown without the empty member `Logger` that the real one leaks."
    VERSION = "`/version` says `2.12.0-stormproof`."
    BOUNDS = (
        "An attribute or a toxicity out of bounds is refused with 400; the real one takes it, and some end its process."
    )
    ATOMIC = (
        "An edit of a toxic that is refused changes nothing; the real one keeps what it had read before the mistake."
    )
    ROLLBACK = "A proxy that cannot listen anew stays as it was; the real one leaves it disabled, with the address that failed."
    RESET = "`/reset` goes on behind a proxy that cannot be started; the real one leaves the others as they are."
    LOOPBACK = "A `listen` without a host is 127.0.0.1; with the real one all interfaces."
    PORTS = "Ports are numbers; the real one takes names of services, too."
    LOSS = "There is `packet_loss`, as in the newest unreleased Toxiproxy."
    SEED = "A seed (of the server, or the member `seed` of a proxy) fixes toxicity, jitter and slices; the real one ignores it."
    STICKY = (
        "A connection is drawn once for a toxic; the real one draws anew whenever the toxic or its neighbours change."
    )
    HELD = "What a toxic holds is due by its new attributes; the real one lets the chunk in flight go with any edit."
    SPARED = "Removing a `timeout` closes the connections that it took; the real one closes those that it spared, too."
    OPEN_RESET = "`reset_peer` resets connections that were open before it, too; the real one ends them with a FIN."
    IDLE_RESET = "`reset_peer` resets a connection without data a second after its timeout; the real one never."
    PROMPT = "`reset_peer` is removed at once; the real one keeps the request waiting for the timeout."
    BLACK_HOLE = (
        "An upstream that is silent holds up nobody; with the real one the proxy neither accepts nor can be disabled."
    )
    COUNTERS = "Counters move while connections are open, and tell connections and how often each toxic acted."
    CONFIG = "A `--config` that cannot be carried out ends the program; the real one starts without it."
