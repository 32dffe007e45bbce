"""The state of a channel of many endpoints, for those who subscribe to it: it is as well connected as its best one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import grpc

_BEST = (
    grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.CONNECTING, grpc.ChannelConnectivity.IDLE,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN,
)  # fmt: skip


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
                best = min(self._states.values(), key=_BEST.index)
                if best is self._told:
                    return
                self._told = best
            self._callback(best)

        return changed

    def stop(self, subchannels: Mapping[str, grpc.Channel]) -> None:
        for address, subchannel in subchannels.items():
            subchannel.unsubscribe(self._mine[address])
