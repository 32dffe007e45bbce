"""Asks a server's standard health service whether it serves: for a container's health check, and for whoever waits for it.

`python -m harness.node.probe 127.0.0.1:50051` ends with status 0 if it does. The two messages are written by hand (an empty
request; field 1 with the value 1, SERVING), for the reason that health.py gives.
"""

from __future__ import annotations

import sys

import grpc

CHECK, SERVING = "/grpc.health.v1.Health/Check", b"\x08\x01"


def serves(address: str, timeout: float = 3.0) -> str | None:
    """None if the server at `address` says within `timeout` seconds that it serves; else why not, in words."""
    # A channel of its own each time: the process's shared one would wait out its backoff first.
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CHECK)
            said = ask(b"", timeout=timeout)
        except grpc.RpcError as error:
            return f"{error.code().name}, {error.details()}"
    return None if said == SERVING else "it says that it does not serve"


if __name__ == "__main__":
    why = serves(sys.argv[1])
    print(why or "it serves")
    sys.exit(1 if why else 0)
