"""Which Toxiproxy is taken, how it is started and how it is installed; and the built-in one as a program."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from harness.proxy.errors import ToxiproxyError
from harness.proxy.find import Found, address, command, find
from harness.proxy.install import VERSION, install, installed


def program(path, text="#!/bin/sh\n"):
    """An executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def environ(tmp_path):
    """No Toxiproxy anywhere."""
    (tmp_path / "bin").mkdir()
    return {"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}


@pytest.fixture
def cached(tmp_path):
    """An installation in the cache folder: the path of its server."""
    folder = tmp_path / "cache" / "stormproof" / "toxiproxy" / VERSION
    program(folder / "toxiproxy-cli")
    return program(folder / "toxiproxy-server")


def test_without_any_the_built_in_one_is_taken(environ):
    """And it says why."""
    found = find(environ)
    assert found.name == "builtin"
    assert found.why.startswith("there is no toxiproxy-server on PATH nor in ")
    argv = [sys.executable, "-m", "harness.proxy.serve", "--host", "127.0.0.1", "--port", "8474", "--proxy-metrics"]
    assert command(found, 8474) == argv
    assert command(found, 8474, seed=7) == [*argv, "--seed", "7"]


def test_an_installed_one_is_taken_before_the_built_in_one(environ, cached):
    """Started with its counters on."""
    found = find(environ)
    assert found == Found(name="toxiproxy", command=(str(cached),), why=f"{cached} was installed")
    assert command(found, 8474) == [str(cached), "-host", "127.0.0.1", "-port", "8474", "-proxy-metrics"]


@pytest.mark.usefixtures("cached")
def test_one_on_path_is_taken_before_an_installed_one(environ, tmp_path):
    """What the user put there is meant."""
    on_path = program(tmp_path / "bin" / "toxiproxy-server")
    assert find(environ) == Found(name="toxiproxy", command=(str(on_path),), why=f"{on_path} is on PATH")


@pytest.mark.usefixtures("cached")
def test_the_built_in_one_can_be_forced(environ):
    """Whatever else is there."""
    found = find({**environ, "STORMPROOF_TOXIPROXY": "builtin"})
    assert (found.name, found.why) == ("builtin", "STORMPROOF_TOXIPROXY is builtin")


def test_a_running_one_comes_first_and_is_not_started(environ):
    """Not ours to start, and so not ours to stop."""
    environ |= {"STORMPROOF_TOXIPROXY_URL": "http://localhost:8474/", "STORMPROOF_TOXIPROXY": "builtin"}
    found = find(environ)
    assert found == Found(name="toxiproxy", url="http://localhost:8474", why="STORMPROOF_TOXIPROXY_URL is set")
    assert address("http://localhost:8474") == ("localhost", 8474)
    assert address("http://[::1]:8474") == ("::1", 8474)
    with pytest.raises(ToxiproxyError, match="http://localhost:8474 runs already and is not started by us"):
        command(found, 1)


def test_the_real_one_can_be_required(environ, cached):
    """Missing, that is an error with the way out in it."""
    environ |= {"STORMPROOF_TOXIPROXY": "real"}
    assert find(environ).command == (str(cached),)
    cached.unlink()
    with pytest.raises(ToxiproxyError, match="run `stormproof toxiproxy install`, or unset STORMPROOF_TOXIPROXY"):
        find(environ)


@pytest.mark.parametrize("which", ["Builtin", "yes", "toxiproxy"])
def test_an_unknown_choice_is_refused(environ, which):
    """Rather than taken for something."""
    message = f'STORMPROOF_TOXIPROXY must be "builtin", "real" or not set; got \'{which}\''
    with pytest.raises(ToxiproxyError, match=message):
        find({**environ, "STORMPROOF_TOXIPROXY": which})


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8474",
        "https://localhost:8474",
        "http://localhost",
        "http://localhost:x",
        "http://a:1/x",
        "http://:1",
    ],
)
def test_a_url_that_is_none_is_refused(environ, url):
    """With an example of one that is."""
    with pytest.raises(ToxiproxyError, match=r"must look like http://127\.0\.0\.1:8474; got"):
        find({**environ, "STORMPROOF_TOXIPROXY_URL": url})


def test_what_is_installed_is_not_built_again(environ, cached):
    """There is no go on this PATH, and none is needed."""
    assert installed(environ) == cached
    assert install(environ) == cached


def test_without_go_there_is_no_installation(environ):
    """And the ways out are named."""
    with pytest.raises(
        ToxiproxyError, match="no go on PATH: install Go, .*--from=release.*STORMPROOF_TOXIPROXY=builtin"
    ):
        install(environ, source="go")


def test_a_go_that_is_too_old_is_named(environ, tmp_path):
    """It is not asked to build."""
    program(tmp_path / "bin" / "go", "#!/bin/sh\necho go1.22.9\n")
    with pytest.raises(ToxiproxyError, match=r"needs Go 1\.23 or later; .*/go is go1\.22\.9: update it"):
        install(environ, source="go")


@pytest.mark.skipif(shutil.which("go") is None, reason="there is no go on PATH: install Go to see it fail to build")
def test_a_build_that_fails_tells_what_go_said_and_leaves_nothing(environ, tmp_path):
    """A real go that may download nothing and has nothing."""
    environ |= {
        "PATH": os.environ["PATH"],
        "GOPROXY": "off",
        "GOMODCACHE": str(tmp_path / "mod"),
        "GOFLAGS": "",
    }
    with pytest.raises(ToxiproxyError) as caught:
        install(environ)
    assert "module lookup disabled by GOPROXY=off" in str(caught.value)
    assert installed(environ) is None
    assert list((tmp_path / "cache" / "stormproof" / "toxiproxy").iterdir()) == []


def test_a_build_is_put_in_place_whole(environ, tmp_path, cached):
    """Over an installation from which something is missing, too. The stand-in for go writes what go would."""
    cached.unlink()
    program(tmp_path / "bin" / "go", """#!/bin/sh
[ "$1" = env ] && echo go1.23.0 && exit
[ "$GOTOOLCHAIN" = local ] || exit 1
for name in server cli; do echo "$@" > "$GOBIN/$name"; /bin/chmod +x "$GOBIN/$name"; done
""")  # fmt: skip
    assert install(environ) == cached
    package = "github.com/Shopify/toxiproxy/v2"
    flags = f"-s -w -X {package}.Version=2.12.0"
    expected = f"install -ldflags {flags} {package}/cmd/server@v2.12.0 {package}/cmd/cli@v2.12.0\n"
    assert cached.read_text() == (cached.parent / "toxiproxy-cli").read_text() == expected
    assert [path.name for path in cached.parent.parent.iterdir()] == [VERSION]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_built_in_program_ends_well_when_told_to(builtin_found, number):
    """Status 0, with a connection to its API still open."""
    argv = command(builtin_found, 0)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        host, port = address(process.stdout.readline().split()[-1])
        with socket.create_connection((host, port), 10):
            process.send_signal(number)
            assert process.wait(20) == 0


def test_the_built_in_program_says_that_its_port_is_taken(builtin_found):
    """One line, and status 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        argv = command(builtin_found, port)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    expected = f"cannot listen on 127.0.0.1:{port}: Address already in use; try another --port"
    assert done.stderr == f"stormproof proxy: {expected}\n"
