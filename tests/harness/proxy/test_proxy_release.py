"""Installing from a release: a local server plays the project's release page."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness.proxy import install as module
from harness.proxy.errors import ToxiproxyError
from harness.proxy.find import find
from harness.proxy.install import PUBLIC, VERSION, install, installed
from harness.proxy.release import platform_name

SERVER = b"#!/bin/sh\necho the server\n"
CLI = b"#!/bin/sh\necho the command line\n"


@pytest.fixture
def page():
    """The files of a release by name, and the address at which they are served; one may be changed before it is asked for."""
    files = {f"toxiproxy-server-{platform_name()}": SERVER, f"toxiproxy-cli-{platform_name()}": CLI}
    listed = [(hashlib.sha256(content).hexdigest(), name) for name, content in files.items()]
    files["checksums.txt"] = "".join(f"{digest}  {name}\n" for digest, name in [("0" * 64, "x.deb"), *listed]).encode()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            content = files.get(self.path.removeprefix("/download/v/"))
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *words):
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield files, f"http://127.0.0.1:{server.server_port}/download/v/"
        server.shutdown()
        thread.join()


@pytest.fixture
def environ(tmp_path, page):
    """No Go anywhere, and the page in place of the project's own."""
    (tmp_path / "bin").mkdir()
    return {
        "PATH": str(tmp_path / "bin"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "HOME": str(tmp_path),
        module.RELEASES: page[1],
    }


def test_without_go_the_release_is_downloaded_and_then_used(environ):
    """Both programs, executable, and found from then on."""
    server = install(environ)
    assert [server.read_bytes(), server.with_name("toxiproxy-cli").read_bytes()] == [SERVER, CLI]
    assert subprocess.run([server], capture_output=True, check=True).stdout == b"the server\n"
    assert find(environ).command == (str(server),)
    assert [path.name for path in server.parent.parent.iterdir()] == [VERSION]


def test_a_go_that_is_too_old_is_no_go(environ, tmp_path):
    """Then the release is taken as well."""
    go = tmp_path / "bin" / "go"
    go.write_text("#!/bin/sh\necho go1.22.9\n")
    go.chmod(0o755)
    assert install(environ).read_bytes() == SERVER


def test_a_file_with_another_checksum_is_not_kept(environ, page):
    """Damaged or swapped: both checksums are named, and nothing is installed."""
    page[0][f"toxiproxy-cli-{platform_name()}"] = CLI + b"rm -rf /\n"
    with pytest.raises(
        ToxiproxyError, match=f"{hashlib.sha256(CLI + b'rm -rf /' + bytes([10])).hexdigest()}, published is"
    ) as caught:
        install(environ)
    assert hashlib.sha256(CLI).hexdigest() in str(caught.value)
    assert "was not kept" in str(caught.value)
    assert installed(environ) is None


@pytest.mark.parametrize(
    ("gone", "why"),
    [
        ("checksums.txt", r"/checksums\.txt could not be downloaded: 404 .*; set STORMPROOF_TOXIPROXY=builtin"),
        (f"toxiproxy-server-{platform_name()}", "toxiproxy-server-.* could not be downloaded: 404"),
    ],
)
def test_what_the_page_does_not_have_is_named(environ, page, gone, why):
    """And the way out."""
    del page[0][gone]
    with pytest.raises(ToxiproxyError, match=why):
        install(environ)
    assert installed(environ) is None


def test_a_machine_that_the_release_is_not_made_for_is_named(environ, monkeypatch):
    """No checksum, no file."""
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    with pytest.raises(ToxiproxyError, match="has no toxiproxy-server-linux-s390x: that release is not made for here"):
        install(environ)


def test_the_command_installs_from_the_address_that_it_is_told(environ, page, tmp_path):
    """`stormproof toxiproxy install --from=release --releases=...`, then `which`."""
    environ = {**os.environ, **environ, module.RELEASES: "http://127.0.0.1:1/"}
    environ.pop("STORMPROOF_TOXIPROXY", None)
    environ.pop("STORMPROOF_TOXIPROXY_URL", None)
    command = [sys.executable, "-m", "harness.cli", "toxiproxy"]
    told = [
        subprocess.run([*command, *words], env=environ, capture_output=True, text=True, timeout=60, check=False)
        for words in (
            ["which"],
            ["install", "--from=release", f"--releases={page[1]}"],
            ["which"],
            ["install", "--from=nowhere"],
        )
    ]
    there = tmp_path / "cache" / "stormproof" / "toxiproxy" / VERSION / "toxiproxy-server"
    assert told[0].stdout.startswith("builtin: there is no toxiproxy-server on PATH nor in ")
    assert told[1].stdout == f"{there}\n"
    assert told[2].stdout == f"toxiproxy: {there} was installed\n"
    assert told[3].returncode == 2
    assert told[3].stderr == "stormproof: the source of Toxiproxy must be one of auto, go, release; got 'nowhere'\n"


def test_the_public_address_is_that_of_the_project():
    """The version that everything here follows."""
    assert PUBLIC.endswith("/Shopify/toxiproxy/releases/download/v2.12.0")
