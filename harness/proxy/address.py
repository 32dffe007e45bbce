"""Addresses as Toxiproxy writes them: "host:port", "[::1]:port", ":port"."""

from __future__ import annotations

import asyncio
import socket

#: Seconds that a name may take to be resolved.
RESOLVE = 2.0


#: What a missing host means: what is proxied for a test is nobody else's business.
LOOPBACK = "127.0.0.1"


def split(address: str) -> tuple[str, int]:
    """Host and port; a missing host is "", a missing port 0. Raises ValueError that says what is wrong."""
    host, colon, port = address.rpartition(":")
    if address and not colon:
        raise ValueError(f"address {address}: missing port in address")
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise ValueError(f"address {address}: port must be a number from 0 to 65535")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ValueError(f"address {address}: an IPv6 host is written in brackets, as in [::1]:80")
    return host.strip("[]"), int(port or 0)


def join(host: str, port: int) -> str:
    """The address of a host and a port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def resolve(address: str) -> str:
    """`address` with a number for its host, IPv4 where there is a choice. Raises ValueError or OSError.

    A missing host stays one, and a missing port is 0.
    """
    host, port = split(address)
    if not host:
        return f":{port}"
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(RESOLVE):
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    best = min(found, key=lambda info: info[0] != socket.AF_INET)
    return join(str(best[4][0]), port)
