"""Other people's clients, unchanged, against both servers: the real project's `toxiproxy-cli`, and toxiproxy-python."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
import toxiproxy

from harness.proxy.install import CLI, installed

NOWHERE = "127.0.0.1:1"


@pytest.fixture(scope="session")
def cli():
    """The command line as the real project builds it."""
    server = installed(os.environ)
    if server is None:
        pytest.skip("there is no toxiproxy-cli here: run `stormproof toxiproxy install`, which needs Go")
    return str(server.with_name(CLI))


@pytest.fixture
def tell(cli, server):
    """Runs it against the server: status and what it printed, kernel-chosen ports called <port>."""

    def run(*words):
        done = subprocess.run(
            [cli, "--host", f"http://127.0.0.1:{server.port}", *words],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return done.returncode, re.sub(r"127\.0\.0\.1:\d{4,}", "127.0.0.1:<port>", done.stdout + done.stderr)

    return run


def test_each_verb_of_the_command_line_works(tell, name):
    """Status and words, each written out: the same for both servers."""
    assert tell("create", "-l", "127.0.0.1:0", "-u", NOWHERE, name) == (0, f"Created new proxy {name}\n")
    assert tell("new", "-l", "127.0.0.1:0", "-u", NOWHERE, name) == (
        1, "Failed to create proxy: Create: HTTP 409: proxy already exists\n\n",
    )  # fmt: skip
    row = f"{name}\t127.0.0.1:<port>\t{NOWHERE}\tenabled\t0\n"
    assert row in tell("list")[1]
    slow = ("-n", "slow", "-a", "latency=100", "-a", "jitter=5", "--toxicity", "0.5")
    assert tell("toxic", "add", "-t", "latency", *slow, name) == (
        0, f"Added downstream latency toxic 'slow' on proxy '{name}'\n",
    )  # fmt: skip
    assert tell("toxic", "add", "-t", "slicer", "-a", "average_size=10", "--upstream", name) == (
        0, f"Added upstream slicer toxic 'slicer_upstream' on proxy '{name}'\n",
    )  # fmt: skip
    assert tell("inspect", name) == (
        0,
        "slicer_upstream\ttype=slicer\tstream=upstream\ttoxicity=1.00\tattributes=[\taverage_size=10\tdelay=0\tsize_variation=0\t]\n"
        "slow\ttype=latency\tstream=downstream\ttoxicity=0.50\tattributes=[\tjitter=5\tlatency=100\t]\n",
    )
    assert tell("toxic", "update", "-n", "slow", "-a", "latency=7", "--toxicity", "0.25", name) == (
        0, f"Updated toxic 'slow' on proxy '{name}'\n",
    )  # fmt: skip
    assert (
        "slow\ttype=latency\tstream=downstream\ttoxicity=0.25\tattributes=[\tjitter=5\tlatency=7\t]"
        in tell("ins", name)[1]
    )
    assert tell("toxic", "remove", "-n", "slow", name) == (0, f"Removed toxic 'slow' on proxy '{name}'\n")
    assert tell("toggle", name) == (0, f"Proxy {name} is now disabled\n")
    assert f"{name}\t127.0.0.1:<port>\t{NOWHERE}\tdisabled\t1\n" in tell("li")[1]
    assert tell("toggle", name) == (0, f"Proxy {name} is now enabled\n")
    assert tell("delete", name) == (0, f"Deleted proxy {name}\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("inspect", "nobody"), "Failed to retrieve proxy nobody: HTTP 404: proxy not found\n"),
        (("delete", "nobody"), "Failed to retrieve proxy nobody: HTTP 404: proxy not found\n"),
        (("toggle", "nobody"), "Failed to retrieve proxy nobody: HTTP 404: proxy not found\n"),
        (
            ("toxic", "add", "-t", "latency", "nobody"),
            "Failed to add toxic: failed to retrieve proxy with name `nobody`: HTTP 404",
        ),
        (
            ("create", "-l", "nonsense", "-u", NOWHERE, "x"),
            "Failed to create proxy: Create: HTTP 500: listen tcp: address nonsense: ",
        ),
    ],
)
def test_what_the_command_line_cannot_do_it_says(tell, words, says):
    """Status 1, and the server's reason."""
    status, said = tell(*words)
    assert (status, said.startswith(says)) == (1, True), said


def test_the_command_line_tells_our_bounds(cli, builtin, name):
    """A toxic that would end the real server is refused, and the user reads why."""
    environ = {**os.environ, "TOXIPROXY_URL": f"http://127.0.0.1:{builtin.port}"}
    subprocess.run(
        [cli, "create", "-l", "127.0.0.1:0", "-u", NOWHERE, name], env=environ, check=True, capture_output=True
    )
    done = subprocess.run(
        [cli, "toxic", "add", "-t", "slicer", name],
        env=environ,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert "slicer: average_size must be a whole number from 1 to 2147483647 (bytes); got 0" in done.stderr


@pytest.fixture
def package(server):
    """The package as it is, its one address for the whole process set to this server."""
    client = toxiproxy.Toxiproxy()
    client.update_api_consumer("127.0.0.1", server.port)
    yield client
    client.update_api_consumer("127.0.0.1", 8474)


def test_toxiproxy_python_works_unchanged(package, server, name):
    """Its whole interface, without what Control puts around it."""
    assert package.running()
    assert package.version().startswith(b'{"version": "2.12.0')
    proxy = package.create(upstream=NOWHERE, name=name, listen="127.0.0.1:0")
    with pytest.raises(toxiproxy.exceptions.ProxyExists):
        package.create(upstream=NOWHERE, name=name)
    proxy.add_toxic(name="slow", type="latency", toxicity=0.5, attributes={"latency": 5})
    toxic = proxy.get_toxic("slow")
    assert (toxic.type, toxic.stream, toxic.toxicity, toxic.attributes) == (
        "latency",
        "downstream",
        0.5,
        {"latency": 5, "jitter": 0},
    )
    with pytest.raises(toxiproxy.exceptions.InvalidToxic):
        proxy.add_toxic(type="nonsense")
    with proxy.down():
        assert server.call("GET", f"/proxies/{name}").json()["enabled"] is False
    assert server.call("GET", f"/proxies/{name}").json()["enabled"] is True
    proxy.destroy_toxic("slow")
    assert proxy.toxics() == {}
    package.reset()
    other = f"{name}-b"
    package.populate([{"name": other, "upstream": NOWHERE, "listen": "127.0.0.1:0"}])
    assert {name, other} <= set(package.proxies())
    for one in (name, other):
        package.destroy(package.get_proxy(one))
    with pytest.raises(toxiproxy.exceptions.NotFound):
        package.destroy(proxy)
