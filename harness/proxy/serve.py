"""`python -m harness.proxy.serve`: the built-in Toxiproxy-compatible server as a program.

It answers the HTTP API at --host and --port until SIGTERM or SIGINT, then exits 0. Exit 2: it could not
listen there, or the proxies of its --config could not be made.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop
from aiohttp import web

from harness.proxy.api import VERSION, Api
from harness.proxy.proxies import Proxies
from harness.proxy.wire import Refusal

#: Seconds that a request may take to end after the signal to stop.
LAST_REQUESTS = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until told to stop; returns the exit status."""
    arguments = _parser().parse_args(argv)
    # What aiohttp has to say about bytes that are no HTTP is for whoever sent them: they have an answer.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    _many_descriptors()
    # Names are looked up in libuv's threads, of which there are 4: a few that are slow to find would keep all others waiting.
    os.environ.setdefault("UV_THREADPOOL_SIZE", "64")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(arguments))


async def _serve(arguments: argparse.Namespace) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    host, port, config = arguments.host, arguments.port, arguments.config
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    proxies = Proxies(seed)
    api = Api(proxies, counters=arguments.proxy_metrics)
    runner = web.AppRunner(api.application(), access_log=None, shutdown_timeout=LAST_REQUESTS)
    await runner.setup()
    try:
        if config is not None:
            await api.configure(config.read_bytes())
        await web.TCPSite(runner, host, port).start()
        at = runner.addresses[0]
        print(f"stormproof proxy {VERSION}, seed {seed}, http://{at[0]}:{at[1]}", flush=True)
        await stop.wait()
    except Refusal as refusal:
        return _give_up(f"{config}: {refusal.message}; it takes what POST /populate takes")
    except (OSError, OverflowError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        if isinstance(error, OSError) and error.filename is not None:
            return _give_up(f"{config}: {why}; give a file with a JSON array of proxies")
        return _give_up(f"cannot listen on {host}:{port}: {why}; try another --port")
    finally:
        await runner.cleanup()
        for name in tuple(proxies.by_name):
            proxies.delete(name)
    return 0


def _give_up(why: str) -> int:
    print(f"stormproof proxy: {why}", file=sys.stderr)
    return 2


def _many_descriptors() -> None:
    """Each connection takes two: as many as we may have."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):  # some systems bound it lower than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.proxy.serve", description=__doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address of the HTTP API (default: %(default)s)")
    add("--port", type=int, default=8474, help="port of the HTTP API (default: %(default)s; 0: any)")
    add("--config", type=Path, help="JSON file with an array of proxies to begin with, as POST /populate takes it")
    add("--seed", type=int, help="fixes which connections toxics take, jitter and slices (default: drawn)")
    add("--proxy-metrics", action="store_true", help="serve counters at /metrics")
    return parser


if __name__ == "__main__":
    sys.exit(main())
