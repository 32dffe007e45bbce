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
    """The state of the whole, of the states of its parts; IDLE without any."""
    return min(states, key=_BEST.index, default=grpc.ChannelConnectivity.IDLE)


class Connectivity:
    """Joins the states of all subchannels into one, for one subscriber."""

    def __init__(
        self,
        subchannels: Mapping[str, grpc.Channel],
        callback: Callable[[grpc.ChannelConnectivity], None],
        try_to_connect: bool,
    ) -> None:
        self._callback = callback
        self._try_to_connect = try_to_connect
        self._states: dict[str, grpc.ChannelConnectivity] = {}
        self._told: grpc.ChannelConnectivity | None = None
        self._lock = threading.Lock()
        self._mine: dict[str, tuple[grpc.Channel, Callable[[grpc.ChannelConnectivity], None]]] = {}
        self.follow(subchannels)

    def follow(self, subchannels: Mapping[str, grpc.Channel]) -> None:
        """From now on these are the parts."""
        with self._lock:
            left = [self._mine.pop(address) for address in set(self._mine) - set(subchannels)]
            for address in set(self._states) - set(subchannels):
                del self._states[address]
            came = {
                address: (subchannel, self._hears(address))
                for address, subchannel in subchannels.items()
                if address not in self._mine
            }
            self._mine.update(came)
            self._states.update(dict.fromkeys(came, grpc.ChannelConnectivity.IDLE))
        for subchannel, hears in left:
            subchannel.unsubscribe(hears)
        for subchannel, hears in came.values():
            subchannel.subscribe(hears, self._try_to_connect)

    def _hears(self, address: str) -> Callable[[grpc.ChannelConnectivity], None]:
        def changed(state: grpc.ChannelConnectivity) -> None:
            with self._lock:
                if address not in self._states:
                    return  # it has left
                self._states[address] = state
                now = best(self._states.values())
                if now is self._told:
                    return
                self._told = now
            self._callback(now)

        return changed

    def stop(self) -> None:
        self.follow({})
