"""The commands `stormproof toxiproxy which`, `install` and `serve`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

toxiproxy = typer.Typer(
    no_args_is_help=True, help="Which Toxiproxy is used; installing the real one; serving the built-in one."
)
FAILED = 2


@toxiproxy.command()
def which() -> None:
    """Say which Toxiproxy would be used, and why."""
    from harness.proxy.errors import ToxiproxyError
    from harness.proxy.find import find

    try:
        found = find(os.environ)
    except ToxiproxyError as error:
        raise _failed(error) from error
    print(f"{found.name}: {found.why}")


@toxiproxy.command()
def install(
    source: Annotated[
        str, typer.Option("--from", help="go: build it. release: download it. auto: build it where Go can.")
    ] = "auto",
    releases: Annotated[
        str | None, typer.Option(help="Where the files of the release are (default: STORMPROOF_TOXIPROXY_RELEASES).")
    ] = None,
) -> None:
    """Put the real Toxiproxy into the user's cache folder: built with Go, or else downloaded and checked."""
    from harness.proxy.errors import ToxiproxyError
    from harness.proxy.install import RELEASES
    from harness.proxy.install import install as put

    try:
        print(put({**os.environ, **({} if releases is None else {RELEASES: releases})}, source=source))
    except ToxiproxyError as error:
        raise _failed(error) from error


@toxiproxy.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the HTTP API.")] = 8474,
    config: Annotated[Path | None, typer.Option(help="JSON file with an array of proxies to begin with.")] = None,
    seed: Annotated[int | None, typer.Option(help="What toxicity, jitter and slices are drawn from.")] = None,
    proxy_metrics: Annotated[bool, typer.Option("--proxy-metrics", help="Serve counters at /metrics.")] = False,
) -> None:
    """Serve the built-in proxy, which speaks Toxiproxy's HTTP API."""
    from harness.proxy.serve import main

    given = {"host": host, "port": port, "config": config, "seed": seed}
    words = [f"--{name}={value}" for name, value in given.items() if value is not None]
    raise typer.Exit(main(words + (["--proxy-metrics"] if proxy_metrics else [])))


def _failed(error: Exception) -> typer.Exit:
    print(f"stormproof: {error}", file=sys.stderr)
    return typer.Exit(FAILED)
