"""The state of a channel of many endpoints, for those who subscribe to it: it is as well connected as its best one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

import grpc

_BEST = (
    grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.CONNECTING, grpc.ChannelConnectivity.IDLE,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN,
)  # fmt: skip


def best(states: Iterable[grpc.ChannelConnectivity]) -> grpc.ChannelConnectivity:
    """The state of the whole, of the states of its parts."""
    return min(states, key=_BEST.index)


class Connectivity:
    """Joins the states of all subchannels into one, for one subscriber."""

    def __init__(
        self,
        subchannels: Mapping[str, grpc.Channel],
        callback: Callable[[grpc.ChannelConnectivity], None],
        try_to_connect: bool,
    ) -> None:
        self._callback = callback
        self._states = dict.fromkeys(subchannels, grpc.ChannelConnectivity.IDLE)
        self._told: grpc.ChannelConnectivity | None = None
        self._lock = threading.Lock()
        self._mine = {address: self._hears(address) for address in subchannels}
        for address, subchannel in subchannels.items():
            subchannel.subscribe(self._mine[address], try_to_connect)

    def _hears(self, address: str) -> Callable[[grpc.ChannelConnectivity], None]:
        def changed(state: grpc.ChannelConnectivity) -> None:
            with self._lock:
                self._states[address] = state
                now = best(self._states.values())
                if now is self._told:
                    return
                self._told = now
            self._callback(now)

        return changed

    def stop(self, subchannels: Mapping[str, grpc.Channel]) -> None:
        for address, subchannel in subchannels.items():
            subchannel.unsubscribe(self._mine[address])
