"""`python -m harness.proxy.serve`: the built-in Toxiproxy-compatible server as a program.

It answers the HTTP API at --host and --port until SIGTERM or SIGINT, then exits 0. Exit 2: it could not
listen there.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Sequence

import uvloop
from aiohttp import web

from harness.proxy.api import VERSION, Api
from harness.proxy.proxies import Proxies

#: Seconds that a request may take to end after the signal to stop.
LAST_REQUESTS = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until told to stop; returns the exit status."""
    arguments = _parser().parse_args(argv)
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(arguments.host, arguments.port, seed))


async def _serve(host: str, port: int, seed: int) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    proxies = Proxies(seed)
    runner = web.AppRunner(Api(proxies).application(), access_log=None, shutdown_timeout=LAST_REQUESTS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except (OSError, OverflowError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        print(f"stormproof proxy: cannot listen on {host}:{port}: {why}; try another --port", file=sys.stderr)
        await runner.cleanup()
        return 2
    at = runner.addresses[0]
    print(f"stormproof proxy {VERSION}, seed {seed}, http://{at[0]}:{at[1]}", flush=True)
    await stop.wait()
    await runner.cleanup()
    for name in tuple(proxies.by_name):
        proxies.delete(name)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.proxy.serve", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address of the HTTP API (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8474, help="port of the HTTP API (default: %(default)s; 0: any)")
    parser.add_argument("--seed", type=int, help="fixes which connections toxics take, and jitter (default: drawn)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
