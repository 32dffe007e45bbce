"""docs/guarantees.md: what the library promises, by number, and the tests that hold each; made from the tests' own marks.

`python tests/promises.py` writes it, and tests/test_promises.py demands that it is current. A test says what it holds with
`@pytest.mark.guarantee(10, 11)`. What we do not offer stands below, with the reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "guarantees.md"

PROMISES: dict[str, dict[int, str]] = {
    "Every balancer": {
        1: "Whoever is picked is eligible.",
        2: "Without endpoints a call fails at once, with an error of its own, and never blocks.",
        3: "After an endpoint has left, no pick returns it, and calls in flight on it finish.",
        4: "A new endpoint has its share within a stated number of picks (round robin: one turn).",
        5: "Attempts are counted once each, however they end; the counters add up to what is in flight, and to 0 when idle.",
        6: "Threads lose no pick: totals are exact, and what holds for one thread holds for all together.",
        7: "A single endpoint is always picked; no breaker can empty a channel.",
        8: "The same seed and events give the same picks.",
        9: "An address stands there once.",
    },
    "Round robin": {
        10: "Every window of n picks over n endpoints holds each once; counts differ by one at most.",
        11: "When one is out, the others share evenly: its successor gets no more.",
        12: "Fresh clients begin at a random endpoint.",
    },
    "Weights": {
        13: "Whole-numbered weights: every window of one turn holds each endpoint exactly by its weight.",
        14: "At any moment no endpoint is two picks from its share, and bursts are as short as can be, or by one longer.",
        15: "Only proportions count: weights times c give the same sequence.",
        16: "Random picks follow the weights.",
        17: "A weight that makes no sense is refused.",
        18: "Reported load gives the weight of gRFC A58; blackout, expiry, the mean for those unheard of.",
        19: "A new endpoint's weight grows from the floor to the whole within the window, and never falls.",
    },
    "Random choice": {20: "Even, and independent of the pick before."},
    "Least requests, two choices": {
        21: "Scanning all picks one of the least loaded, ties evenly.",
        22: "Of two different ones the better is picked.",
        23: "The strictly worst endpoint is never picked (it is always compared with another).",
        24: "100 calls an endpoint, thrown at 100 or 1000 of them: nobody has over 5 more than the mean.",
        25: "2 to 10 choices; fewer are refused.",
        26: "Unequal weights: load is counted per weight.",
    },
    "Least response time": {
        27: "A slower answer is believed at once, a faster one by exp(-dt / decay).",
        28: "An endpoint never heard from has one call at most until it answers.",
        29: "Equals are picked evenly.",
        30: "A k times slower endpoint has at most a k-th of the others' calls, and one each `probe`.",
        31: "Everybody healthy is picked now and then: nobody starves.",
        32: "After a slow episode an endpoint has half its share again in a moment.",
        33: "A server that fails fast draws no calls.",
        34: "A call that never returns counts against its endpoint as it ages.",
        35: "Steps of time, forward and back, leave every estimate finite and in order.",
    },
    "Hashing and subsets": {
        36: "One key, one endpoint; when one leaves or comes, only its keys move.",
        37: "Shares on the ring are within five standard deviations of the weights.",
        38: "A subset has min(k, n) endpoints; one more or less changes one at most; servers are loaded evenly.",
    },
    "Health, ejection, panic, tiers": {
        39: "No more than the allowed fraction is ejected; one always may be.",
        40: "Too few calls decide nothing.",
        41: "Ejections in a row grow to their cap, end on time, and are forgotten after good behaviour.",
        42: "Ejections are enforced with a set probability.",
        43: "Equally good endpoints: at most 1 in 10,000 is wrongly ejected in 10 s.",
        44: "One that fails half its calls is found within two sweeps.",
        45: "Below the panic threshold all endpoints are picked, above it only the well ones.",
        46: "Tier loads are those of Envoy's tables, and sum to 100 %.",
        47: "A tier is left for what is known of it, and the same states give the same choice.",
        48: "After a total outage only a fraction of the calls is let through until enough servers are back.",
    },
    "Retry": {
        49: "No more attempts than allowed.",
        50: "A code that is not to be retried: one attempt.",
        51: "Once the caller has a message, no other attempt follows (unless the method can be resumed).",
        52: "Waits are drawn evenly from 0 to the cap of their step (full jitter).",
        53: "However short the wait, 0 included, the retry happens or the call ends.",
        54: "A server's pushback is the wait; a negative or senseless one is a no.",
        55: "The budget's account equals its model, and stays within its bounds.",
        56: "In an outage retries stay within budget and reserve.",
        57: "In a total outage layers of clients do not multiply their retries.",
        58: "A retry goes to an endpoint not tried yet, while there is one.",
        59: "Servers are told how many attempts came before; those never sent do not count.",
        60: "Work that may have been done is not sent again, unless the method is declared idempotent.",
        61: "Cancelled while it waits: no further attempt, and the caller is free at once.",
        62: "A final error names attempts, endpoints and the last cause.",
        63: "A budget holds for all threads together.",
    },
    "Timeout": {
        64: "No call outlives its deadline, the running attempt included.",
        65: "An attempt has the smaller of its own limit and what is left; none starts with nothing left.",
        66: "Nested calls have no more than what their caller has left.",
        67: "A call that comes too late is not run.",
        68: "A cancelled call cancels its attempts, and the server sees it.",
    },
    "Hedging": {
        69: "Copies start on time, and at once after a harmless failure.",
        70: "One result reaches the caller; the others are cancelled and awaited.",
        71: "A fatal answer ends all copies.",
        72: "Copies stay within the budget, even if all answers turn a hundred times slower.",
        73: "A copy goes to another endpoint.",
        74: "Losing a race says nothing about an endpoint, but that it was silent for so long.",
        75: "Copies start at a percentile of the latency.",
    },
    "Breaker and limits": {
        76: "A breaker's states are those of its table.",
        77: "While it is open nothing gets through.",
        78: "Half open: one trial at a time.",
        79: "Closed: calls overlap freely.",
        80: "What says nothing about the endpoint leaves its counts alone.",
        81: "Repeated openings last longer, to a cap, with jitter.",
        82: "No more in flight than the limit; what is refused is not retried.",
        83: "Callers reject by themselves what an overloaded server would.",
        84: "An adaptive limit stays within its bounds and falls when answers slow down.",
    },
    "Failing over": {
        85: "Other modes: fail fast, fail safe, forking, broadcast, fail back.",
        86: "A server that drains costs no failed call; one that is killed only those in flight that must not be repeated.",
    },
    "Checkpoint and resume": {
        87: "Killed at any point, a store has the old state or the new one.",
        88: "What was acknowledged is there after SIGKILL.",
        89: "A resumed run repeats what was in flight, and nothing that was completed.",
        90: "A stream cut at any message and continued is the uncut stream.",
        91: "What may come twice is marked so.",
        92: "Counts over all resumed parts are exact.",
        93: "One key, one execution and its outcome; another payload is an error; duplicates wait.",
        94: "Torn or changed files are found by their checksums, and reported with what can still be read.",
        95: "Of two writers one holds the store.",
        96: "Changed work is refused, not mixed.",
        97: "Budgets and attempts go on counting over a restart.",
        98: "Interrupted at random points, the result is that of an uninterrupted run.",
    },
    "Mistakes of others": {
        99: "What ends after its call has ended changes nothing.",
        100: "0 and None mean what they say.",
        101: "A live change of policy leaves calls in flight on the old one.",
        102: "Every queue is bounded, and says when it overflows.",
        103: "A half-open breaker without traffic does no harm.",
        104: "A success reaches its caller at once, whatever timers are armed.",
        105: "Below the minimum volume nothing acts.",
        106: "What the client itself refuses speaks against no endpoint.",
        107: "What a user's callback raises surfaces with its cause, and counters stay right.",
        108: "Attempts share no metadata or payload that one of them could change.",
    },
}

NOT_OFFERED = {
    42: "An ejection is always enforced: `max_ejected` and `panic` bound it, and a coin would only hide whose fault it was.",
    48: "Who lets calls through is the server's business: `stormproof.server.Limit` refuses what is too much.",
    75: "`Hedge(after=)` is a time, since that is what its user can reason about; the budget bounds it when latencies jump.",
    83: "`RetryBudget` bounds what a client adds, and `stormproof.server.Limit` what a server takes; a third would fight both.",
    85: "Fail fast is `Policy(retry=None)`. The others are other semantics of a call, not policies of one.",
    97: "A restart is a new decision of the user's: it has a new deadline, a new budget and new attempts, and says so.",
    101: "A channel's policies are fixed for its life; only its endpoints change. A new policy is a new channel.",
}


def marks() -> dict[int, list[str]]:
    """By number: the tests that say they hold it, as "path::name"."""
    found: dict[int, list[str]] = {}
    for folder in ("tests", "suites"):
        for path in sorted((ROOT / folder).rglob("test_*.py")):
            for name, number in _marked(ast.parse(path.read_text())):
                found.setdefault(number, []).append(f"{path.relative_to(ROOT)}::{name}")
    return found


def _marked(module: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.guarantee":
                    for argument in decorator.args:
                        yield node.name, ast.literal_eval(argument)


def table() -> str:
    """The page."""
    held = marks()
    lines = [
        "# What is promised, and which test holds it",
        "",
        "Made by `python tests/promises.py` from the tests' own marks (`@pytest.mark.guarantee(...)`); do not edit.",
        "",
    ]
    for title, promises in PROMISES.items():
        lines += [f"## {title}", "", "| | promise | held by |", "|---|---|---|"]
        for number, promise in promises.items():
            if number in NOT_OFFERED:
                by = f"**not offered**: {NOT_OFFERED[number]}"
            else:
                by = "<br>".join(_link(test) for test in held.get(number, [])) or "nothing yet"
            lines.append(f"| {number} | {promise} | {by} |")
        lines.append("")
    return "\n".join(lines)


def _link(test: str) -> str:
    path, name = test.split("::")
    return f"[{name}](../{path})"


if __name__ == "__main__":
    TABLE.write_text(table())
    missing = [n for group in PROMISES.values() for n in group if n not in NOT_OFFERED and n not in marks()]
    print(f"{TABLE.relative_to(ROOT)} written; without a test: {missing or 'none'}")
