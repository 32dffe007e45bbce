"""Where endpoints come from: real names, real files, functions; and the thread that asks for them."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from greeters import until

import stormproof
from stormproof import ChannelConfig, Dns, Endpoint, File, Polled, Resolver, Subset
from stormproof.resolver import Resolution, ResolutionError

ROOT = Path(__file__).parents[2]
A, B, C = "10.0.0.1:50051", "10.0.0.2:50051", "[2001:db8::7]:50051"
IN_A, IN_B, IN_C = (f"{address} cart.internal\n" for address in ("10.0.0.1", "10.0.0.2", "2001:db8::7"))
LONG = 1000.0


def addresses(endpoints) -> list[str]:
    return [endpoint.address for endpoint in endpoints]


# --- Dns


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("10.0.0.1:50051", ["10.0.0.1:50051"]),
        ("[2001:db8::1]:50051", ["[2001:db8::1]:50051"]),
        ("[fe80::1%1]:50051", ["[fe80::1%1]:50051"]),
        ("dns:///10.0.0.1:50051", ["10.0.0.1:50051"]),
    ],
)
def test_an_ip_address_is_itself(target, found):
    """Without asking anybody; IPv6 stays in brackets. gRPC's own spelling is the same target."""
    assert addresses(Dns(target).resolve()) == found
    assert Dns(target) == Dns(found[0])


def test_localhost_is_all_that_the_machine_says_it_is():
    """By getaddrinfo, which knows IPv6 where the machine does."""
    infos = socket.getaddrinfo("localhost", 1, type=socket.SOCK_STREAM)
    wanted = {f"[{info[4][0]}]:1" if ":" in info[4][0] else f"{info[4][0]}:1" for info in infos}
    assert addresses(Dns("localhost:1").resolve()) == sorted(wanted)
    assert "127.0.0.1:1" in wanted


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("cart.internal", "got 'cart.internal' (say the port, too: there is no usual one)"),
        ("cart.internal:grpc", "(say the port, too: there is no usual one)"),
        ("cart.internal:0", "with a port from 1 to 65535; got 'cart.internal:0'"),
        ("::1:50051", "(put an IPv6 address in brackets, such as '[::1]:50051')"),
        ("http://cart:80", "(leave out what is neither; only 'dns:///' may stand before it)"),
        ("dns://8.8.8.8/cart:80", "(leave out what is neither; only 'dns:///' may stand before it)"),
        ("dns:///cart", "(say the port, too: there is no usual one)"),
        ("[cart]:80", "got '[cart]:80' (At least 3 parts expected in 'cart')"),
        ("a..b:80", "got 'a..b:80' ("),
        (f"{'x' * 64}:80", "("),
        ("", "got ''"),
        (50051, "got 50051"),
    ],
)
def test_a_target_that_is_not_host_and_port_says_what_to_do(target, says):
    """When the value is made, and not when the first call fails."""
    with pytest.raises(ValueError, match=r"^Dns: target must be 'host:port', such as 'cart.internal:50051'") as caught:
        Dns(target)
    assert says in str(caught.value)


def test_a_name_that_nobody_knows_is_an_error_with_its_cause():
    """RFC 6761 says that no name under .invalid exists."""
    with pytest.raises(ResolutionError, match=r"^Dns\('cart.invalid:1'\): .*is the name right") as caught:
        Dns("cart.invalid:1").resolve()
    assert isinstance(caught.value.__cause__, socket.gaierror)


WATCHER = """
import json, sys
from stormproof import Dns
from stormproof.resolver import Resolution

def say(kind, what):
    print(json.dumps({kind: what}), flush=True)

class Cart:
    period = 0.05
    def resolve(self):
        found = Dns("cart.internal:50051").resolve()
        say("found", [endpoint.address for endpoint in found])
        return found

tell = lambda endpoints: say("told", [endpoint.address for endpoint in endpoints])
resolution = Resolution(Cart(), tell, lambda problem: say("failed", str(problem)))
sys.stdin.read()
"""


@contextmanager
def watching_dns(hosts: Path):
    """A process for which `hosts` is /etc/hosts (in a mount namespace of its own), and the list of what it says."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root and unshare for an /etc/hosts of its own: run as root, with util-linux installed")
    its_own = [
        "unshare",
        "--mount",
        "--propagation=private",
        "sh",
        "-c",
        f'mount --bind {hosts} /etc/hosts && exec "$@"',
        "",
    ]
    tried = subprocess.run([*its_own, "getent", "hosts", "cart.internal"], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"needs leave to mount, and names from /etc/hosts: use a privileged container ({tried.stderr})")
    watcher = subprocess.Popen(
        [*its_own, sys.executable, "-c", WATCHER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    said: list[dict] = []
    reader = threading.Thread(target=lambda: said.extend(map(json.loads, watcher.stdout)))
    reader.start()
    try:
        yield said
        watcher.stdin.close()
        assert watcher.wait(10) == 0
    finally:
        watcher.kill()
        watcher.wait(10)
        reader.join(10)
        watcher.stdout.close()


def test_a_changed_name_is_seen_while_nothing_has_failed(tmp_path):
    """What gRPC does not do (grpc/grpc issue 30015): A and AAAA are asked for again each period, and news is told once.

    The same address in two lines is one endpoint; another order is no news; while the name is gone the last answer stays.
    """
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{IN_B}{IN_A}{IN_B}{IN_C}")
    with watching_dns(hosts) as said:
        until(lambda: {"told": [A, B, C]} in said, "the first answer", 20)
        hosts.write_text("10.0.0.1 other.internal\n")
        until(lambda: "failed" in said[-1], "the name is gone", 20)
        assert re.fullmatch(r"Dns\('cart.internal:50051'\): .*; the last good endpoints stay", said[-1]["failed"])
        hosts.write_text(f"{IN_C}{IN_A}{IN_B}")
        before = len(said)
        until(lambda: said[before:].count({"found": [A, B, C]}) > 1, "the same answer in another order", 20)
        hosts.write_text(f"{IN_B}{IN_A}10.0.0.3 cart.internal\n")
        until(lambda: {"told": [A, B, "10.0.0.3:50051"]} in said, "the new address", 20)
    assert [each["told"] for each in said if "told" in each] == [[A, B, C], [A, B, "10.0.0.3:50051"]]


# --- File


@pytest.fixture
def path(tmp_path):
    return tmp_path / "endpoints"


BY_LINE = """\
# the shop's carts
10.0.0.1:50051

   [::1]:50051   # the new one
unix:/run/cart#2\r
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (BY_LINE, [Endpoint(A), Endpoint("[::1]:50051"), Endpoint("unix:/run/cart#2")]),
        ("[::1]:50051\n", [Endpoint("[::1]:50051")]),
        ('["10.0.0.1:50051"]', [Endpoint(A)]),
        ('\ufeff[\n "10.0.0.1:50051"]', [Endpoint(A)]),
        (
            '[{"address": "10.0.0.1:50051", "weight": 2, "priority": 1}, {"type": "Endpoint", "address": "a:1"}]',
            [Endpoint(A, weight=2, priority=1), Endpoint("a:1")],
        ),
    ],
)
def test_a_file_holds_lines_or_json(path, text, found):
    """One address a line with comments, or a JSON list of addresses and of objects with Endpoint's fields."""
    path.write_text(text)
    assert File(path).resolve() == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no address is in it; at least one is needed"),
        ("# none today\n", "no address is in it; at least one is needed"),
        ("[]", "no address is in it; at least one is needed"),
        ("10.0.0.1:50051\n10.0.0.2:500", "line 2: must end with a newline; got '10.0.0.2:500' (is it still being written?)"),
        ("10.0.0.1:50051\nendpoints:\n", "line 2: address must be 'host:port'"),
        ("- 10.0.0.1:50051\n", "line 1: address must be 'host:port'"),
        ('[\n  "10.0.0.1:50051",\n  "10.0', "line 3, column 3: Unterminated string starting at (if it is still being written"),
        ("[", "line 1, column 2: Expecting value"),
        ('{"endpoints": []}', "must hold a JSON list, such as [\"10.0.0.1:50051\"]; got {'endpoints': []}"),
        ('["10.0.0.1:50051", 7]', "[1]: Endpoint: address must be a text such as '10.0.0.1:50051'; got 7"),
        ('[{"adress": "a:1"}]', "[0]: Endpoint cannot be made of adress: it has address, weight, priority"),
        ('[{"address": "a:1", "weight": -1}]', "[0]: Endpoint: weight must be a number, from 0 to 1e+12"),
        ('[{"type": "RoundRobin"}]', "[0]: no class is named 'RoundRobin'"),
        ("x\n" * 8, "line 5: Endpoint: address must be a text such as '10.0.0.1:50051'; got 'x'; and 3 more"),
    ],
)  # fmt: skip
def test_a_bad_file_is_an_error_with_path_place_and_way_out(path, text, says):
    """Half-written, empty, or something else."""
    path.write_text(text)
    with pytest.raises(ResolutionError) as caught:
        File(path).resolve()
    assert str(caught.value).startswith(f"File('{path}'): ")
    assert says in str(caught.value)


def test_a_file_that_is_missing_or_unreadable_says_where_it_was_looked_for(tmp_path, monkeypatch):
    """A relative path is half of the answer to why it is not there."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ResolutionError, match=r"^File\('endpoints.json'\): No such file or directory \(") as caught:
        File("endpoints.json").resolve()
    assert f"({tmp_path}/endpoints.json: is the path right" in str(caught.value)
    with pytest.raises(ResolutionError, match="Is a directory"):
        File(tmp_path).resolve()
    (tmp_path / "endpoints.json").write_bytes(b'["a:1\xff"]')
    with pytest.raises(ResolutionError, match="'utf-8' codec can't decode byte 0xff in position 5"):
        File("endpoints.json").resolve()


# --- What values they are


@dataclass(frozen=True)
class Registry:
    """A resolver of a team's own."""

    shop: str
    period: float = 3.0

    def resolve(self) -> list[str]:
        return [f"{self.shop}-1:50051"]


@dataclass(frozen=True)
class Listing:
    """A function as a value."""

    name: str

    def __call__(self) -> list[str]:
        return [self.name]


RESOLVERS = [
    Dns("cart.internal:50051", period=30.0),
    File("endpoints.json", period=0.5),
    Polled(Listing("a:1")),
    Subset(Dns("cart.internal:50051"), size=20),
    Subset([A, Endpoint(B, weight=2.0)], size=1, identity="client-7"),
    Registry("cart"),
]


@pytest.mark.parametrize("resolver", RESOLVERS, ids=lambda resolver: type(resolver).__name__)
def test_a_resolver_is_a_value_that_goes_to_json_and_back(resolver):
    """In a channel's configuration it stands for the endpoints; a list there stays a list."""
    assert isinstance(resolver, Resolver)
    config = ChannelConfig(endpoints=resolver)
    assert ChannelConfig.from_json(config.to_json()) == config
    assert ChannelConfig.from_json(config.to_json()).endpoints == resolver


def test_the_page_about_endpoints_is_true(tmp_path, monkeypatch):
    """docs/endpoints.md: its table can be written so, its JSON is its Python, its files are read, its error is the one."""
    page = (ROOT / "docs" / "endpoints.md").read_text()
    as_json, by_line, listed, error = re.findall(r"```(?:json|text)\n(.*?)```", page, re.DOTALL)
    (python,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict = {**vars(stormproof), "my_function": lambda: [A]}
    rows = re.findall(r"^\| `Channel\((.*)\)` \|", page, re.MULTILINE)
    kinds = [type(ChannelConfig(endpoints=eval(row, names)).endpoints) for row in rows]
    assert kinds == [tuple, Dns, File, Polled, Subset]
    exec(python, names)
    assert ChannelConfig.from_json(as_json) == names["config"]
    monkeypatch.chdir(tmp_path)
    file = File("endpoints.json")
    Path("endpoints").write_text(by_line)
    assert addresses(File("endpoints").resolve()) == [A, C, "unix:/run/cart"]
    Path(file.path).write_text(listed)
    assert file.resolve() == [Endpoint(A), Endpoint(B, weight=2.0, priority=1)]
    Path(file.path).write_text(f'[\n  "{A}",\n  "10.0.0')
    with pytest.raises(ResolutionError) as caught:
        file.resolve()
    assert str(caught.value) == error.strip()


async def coroutine() -> list[str]:
    return []


class Asynchronous:
    period = 1.0

    async def resolve(self) -> list[str]:
        return []


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Dns("a:1", period=0.0), "Dns: period must be a number, from 0.01 to 1e+09 (seconds); got 0.0"),
        (lambda: File(""), "File: path must be the path of a file, such as 'endpoints.json'; got ''"),
        (lambda: File(7, period=-1), "File: period must be a number, from 0.01 to 1e+09 (seconds); got -1; path must be"),
        (lambda: Polled("a:1"), "Polled: function must be a function without arguments; got 'a:1'"),
        (lambda: Polled(coroutine), "Polled: function must be a plain function; got <function coroutine"),
        (lambda: Subset([A], size=0), "Subset: size must be a whole number, from 1 to 1e+06 (endpoints); got 0"),
        (lambda: Subset([], size=1), "Subset: source: no address is in it"),
        (lambda: Subset(A, size=1), "Subset: source: must be a list of addresses, such as ['10.0.0.1:50051']; got"),
        (lambda: Subset([A], size=1, identity=7), "Subset: identity must be a text that names this client, or None; got 7"),
        (lambda: Subset(Dns, size=1), "Subset: source must be a resolver, such as Dns('cart.internal:50051'); got the class"),
        (lambda: ChannelConfig(endpoints=Dns), "ChannelConfig: endpoints must be a resolver, such as Dns('cart.internal"),
        (lambda: ChannelConfig(endpoints=Registry("a", 0.0)), "endpoints.period must be a number, from 0.01"),
        (lambda: ChannelConfig(endpoints=Asynchronous()), "endpoints.resolve must be a plain function (a thread of its own"),
    ],
)  # fmt: skip
def test_a_bad_argument_is_refused_where_it_is_written(make, says):
    """With the argument, its value, and what to do."""
    with pytest.raises(ValueError, match=re.escape(says)):
        make()


@pytest.mark.guarantee(38)
def test_a_named_client_has_the_same_part_in_every_process():
    """Written down, so that another version or another machine draws the same."""
    ten = [f"10.0.0.{n}:50051" for n in range(10)]
    mine = Subset(Polled(lambda: ten), size=3, identity="client-7")
    assert addresses(mine.resolve()) == ["10.0.0.7:50051", "10.0.0.5:50051", "10.0.0.0:50051"]
    assert mine.period == 5.0
    assert Subset(ten, size=3, identity="client-7").resolve() == mine.resolve()


@pytest.mark.guarantee(38)
def test_clients_without_a_name_draw_their_own_parts():
    """Also those that a fork made of one; each keeps its own. Two equal parts of 5 in 1000 have odds of 1 to 8e12."""
    many = [f"10.0.{n // 250}.{n % 250}:50051" for n in range(1000)]
    one, other = Subset(many, size=5), Subset(many, size=5)
    assert one.resolve() == one.resolve()
    assert one.resolve() != other.resolve()
    script = f"""
import os
from stormproof import Subset
one = Subset({many!r}, size=5)
child = os.fork()
if child:
    os.wait()
print([endpoint.address for endpoint in one.resolve()], flush=True)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    forked = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    childs, parents = forked.stdout.splitlines()
    assert childs != parents


# --- The thread that asks


class Source:
    """A function that says, or raises, what a test wants, and waits where it is told to. `asked` has the moments."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: list[float] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self) -> list[str]:
        self.asked.append(time.monotonic())
        self.free.wait(20)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Heard:
    """What a Resolution reported."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []
        self.problems: list[str] = []
        self.threads: set[threading.Thread] = set()

    def tell(self, endpoints: list[Endpoint]) -> None:
        self.threads.add(threading.current_thread())
        self.told.append(addresses(endpoints))

    def failed(self, problem: ResolutionError) -> None:
        self.threads.add(threading.current_thread())
        self.problems.append(str(problem))


@contextmanager
def resolving(resolver: Resolver):
    heard = Heard()
    resolution = Resolution(resolver, heard.tell, heard.failed, rng=random.Random(1))
    try:
        yield resolution, heard
    finally:
        resolution.close()
        until(lambda: not any(thread.is_alive() for thread in heard.threads), "the thread's end")


def again(source: Source) -> None:
    """Waits until `source` has been asked from now on, and what it said has been dealt with."""
    before = len(source.asked)
    until(lambda: len(source.asked) > before + 2, "asked again")


def test_endpoints_are_told_at_once_and_then_only_when_they_have_changed():
    """Not a period later; not again for another order; one daemon thread does it all."""
    source = Source([A, B])
    with resolving(Polled(source, period=0.02)) as (resolution, heard):
        assert resolution.first.wait(5)
        assert heard.told == [[A, B]]
        source.answer = [B, A]
        again(source)
        assert heard.told == [[A, B]]
        source.answer = [B]
        until(lambda: len(heard.told) > 1, "the change is told")
        (thread,) = heard.threads
        assert (thread.name, thread.daemon) == ("stormproof-resolver", True)
    assert heard.told == [[A, B], [B]]


def test_the_first_answer_does_not_wait_for_a_period():
    """Whoever makes a channel waits for `first`, and not for 1000 s."""
    with resolving(Polled(Source([A]), period=LONG)) as (resolution, heard):
        assert resolution.first.wait(5)
        assert heard.told == [[A]]
        assert resolution.problem is None


@pytest.mark.guarantee(9)
def test_an_address_named_twice_is_told_once():
    """With the weight of both (gRFC A48)."""
    told: list[Endpoint] = []
    resolution = Resolution(Polled(lambda: [A, A], period=LONG), told.extend, print)
    assert resolution.first.wait(5)
    resolution.close()
    assert told == [Endpoint(A, weight=2.0)]


@pytest.mark.guarantee(107)
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (KeyError("cart"), r"Polled\(<.*Source.*>\): KeyError: 'cart'"),
        (SystemExit(3), r"Polled\(<.*Source.*>\): SystemExit: 3"),
        ([], r"Polled\(<.*>\): no address is in it; at least one is needed, such as '10.0.0.1:50051'"),
        ([A, "nonsense"], r"Polled\(<.*>\): \[1\]: Endpoint: address must be a text such as .*; got 'nonsense'"),
        ([B, 7], r"Polled\(<.*>\): \[1\]: Endpoint: address must be a text such as .*; got 7"),
        ("a:1", r"Polled\(<.*>\): must be a list of addresses, such as \['10.0.0.1:50051'\]; got 'a:1'"),
        (None, r"Polled\(<.*>\): must be a list of addresses, such as \['10.0.0.1:50051'\]; got None"),
    ],
)
def test_what_goes_wrong_is_reported_with_its_cause_and_the_last_good_endpoints_stay(answer, says):
    """An exception, nothing, or an answer of which a part is bad: none of it is taken. Then all is well again."""
    source = Source([A])
    with resolving(Polled(source, period=0.02)) as (resolution, heard):
        assert resolution.first.wait(5)
        source.answer = answer
        until(lambda: heard.problems, "a report")
        problem = resolution.problem
        assert re.fullmatch(says + "; the last good endpoints stay", str(problem))
        assert problem.__cause__ is answer or isinstance(problem.__cause__, ResolutionError)
        source.answer = [A]
        until(lambda: resolution.problem is None, "all is well again")
    assert heard.told == [[A]]


def test_the_end_of_a_first_resolution_that_fails_is_an_end_too():
    """Nobody waits for ever; the error is there, and it is tried again in 0.1 s, not in 1000."""
    source = Source(OSError("no registry"))
    with resolving(Polled(source, period=LONG)) as (resolution, heard):
        assert resolution.first.wait(5)
        assert str(resolution.problem).endswith(": OSError: no registry; no endpoint is known yet")
        source.answer = [A]
        until(lambda: heard.told == [[A]], "tried again")


def test_a_file_that_is_being_written_is_read_again_and_never_half(path):
    """Its first half is an error; the endpoints of before stay until the whole is there."""
    path.write_text(json.dumps([A]))
    with resolving(File(path, period=0.02)) as (resolution, heard):
        until(lambda: heard.told == [[A]], "the first endpoints")
        text = json.dumps([A, B])
        path.write_text(text[:24])
        half = "line 1, column 20: Unterminated string"
        until(lambda: half in str(resolution.problem), "half a file is an error")
        path.write_text(text)
        until(lambda: resolution.problem is None, "the whole file")
        replaced = path.with_suffix(".new")
        replaced.write_text(f"{B}\n")
        replaced.rename(path)
        until(lambda: heard.told[-1] == [B], "the file that was renamed over it")
    assert heard.told == [[A], [A, B], [B]]


def test_soon_asks_before_its_time_and_at_most_once_a_second():
    """A hundred ejections at once are one question, a second after the last one."""
    source = Source([A])
    with resolving(Polled(source, period=LONG)) as (resolution, heard):
        assert resolution.first.wait(5)
        source.answer = [B]
        for _ in range(100):
            resolution.soon()
        until(lambda: heard.told[-1] == [B], "asked before its time")
        first, second = source.asked
        assert second - first >= 1.0


def test_close_does_not_wait_for_a_resolver_that_hangs_and_nothing_is_told_after_it():
    """getaddrinfo can hang for half a minute; whoever closes a channel does not."""
    source = Source([A])
    source.free.clear()
    heard = Heard()
    before = set(threading.enumerate())
    resolution = Resolution(Polled(source), heard.tell, heard.failed)
    until(lambda: source.asked, "it hangs")
    (thread,) = set(threading.enumerate()) - before
    assert not resolution.first.is_set()
    resolution.close()
    assert thread.is_alive()
    assert resolution.first.is_set(), "whoever waits for the first endpoints is let go"
    resolution.soon()
    resolution.close()
    source.free.set()
    thread.join(5)
    assert not thread.is_alive()
    assert (heard.told, heard.problems, len(source.asked)) == ([], [], 1)


def test_close_ends_a_thread_that_waits_for_its_period():
    """Not after 1000 s."""
    with resolving(Polled(Source([A]), period=LONG)) as (resolution, _):
        assert resolution.first.wait(5)


def test_close_waits_for_a_report_that_is_under_way():
    """Once it has returned the channel may be taken apart: nobody tells it anything."""
    inside, go_on, ended = threading.Event(), threading.Event(), []

    def slow(_: object) -> None:
        inside.set()
        go_on.wait(20)
        ended.append(time.monotonic())

    resolution = Resolution(Polled(lambda: [A]), slow, print)
    assert inside.wait(5)
    threading.Timer(0.1, go_on.set).start()
    resolution.close()
    assert ended


def test_a_listener_may_close_it():
    """A channel that gives up when its file is gone, say: that is no deadlock."""
    made, closed = threading.Event(), threading.Event()

    def closes(_: object) -> None:
        made.wait(5)
        resolution.close()
        closed.set()

    resolution = Resolution(Polled(lambda: [A], period=0.02), closes, print)
    made.set()
    assert closed.wait(5)


@pytest.mark.guarantee(107)
def test_what_a_listener_raises_surfaces_and_it_is_told_again(monkeypatch):
    """As in any thread, by threading.excepthook; and the endpoints are not lost."""
    surfaced, told = [], []
    monkeypatch.setattr(threading, "excepthook", lambda args: surfaced.append((args.exc_value, args.thread.name)))
    mistake = RuntimeError("a mistake in the channel")

    def tell(endpoints: list[Endpoint]) -> None:
        told.append(addresses(endpoints))
        if len(told) == 1:
            raise mistake

    resolution = Resolution(Polled(lambda: [A], period=0.02), tell, print)
    until(lambda: len(told) == 2, "told again")
    resolution.close()
    assert told == [[A], [A]]
    assert surfaced == [(mistake, "stormproof-resolver")]


def test_a_failing_observer_does_not_end_it(monkeypatch):
    """Nor does what it raises make the endpoints that are known be told again."""
    surfaced, told, source = [], [], Source([A])
    monkeypatch.setattr(threading, "excepthook", lambda args: surfaced.append(args.exc_type))

    def failed(problem: ResolutionError) -> None:
        raise problem

    resolution = Resolution(Polled(source, period=0.02), told.append, failed)
    assert resolution.first.wait(5)
    source.answer = []
    until(lambda: surfaced, "the failure surfaces")
    source.answer = [A]
    until(lambda: resolution.problem is None, "all is well again")
    again(source)
    resolution.close()
    assert set(surfaced) == {ResolutionError}
    assert told == [[Endpoint(A)]]


def test_replace_varies_a_resolver():
    """As with every other value of the configuration."""
    assert replace(Dns("dns:///a:1"), period=1.0) == Dns("a:1", period=1.0)
    assert replace(Subset([A], size=1), size=2).size == 2
