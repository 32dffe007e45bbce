"""The ledger of a run as timetables: what must be on disk, when, and which items are marked."""

from __future__ import annotations

import pytest

from stormproof.core.ledger import Ledger, Mark, Progress

NOTHING = Progress(done=0, begun=0)


def far(done: int, begun: int, cursor: str | None = None, finished: bool = False) -> Progress:
    return Progress(done=done, begun=begun, cursor=cursor, finished=finished)


def run(ledger: Ledger, cursors: str) -> list[object]:
    """What the ledger says for each of these messages, all of them taken."""
    said: list[object] = []
    for cursor in cursors:
        said += [ledger.came(cursor), ledger.hand_out().repeat, ledger.taken()]
    return said


@pytest.mark.guarantee(91)
def test_the_timetable_of_a_whole_run() -> None:
    """Promise: a checkpoint before the first message, one each `every`, one at the end; nothing in between."""
    ledger = Ledger(NOTHING, name="s", every=2)
    assert run(ledger, "abcde") == [
        far(0, 2), False, None,  # a
        None, False, far(2, 4, "b"),
        None, False, None,
        None, False, far(4, 6, "d"),
        None, False, None,  # e
    ]  # fmt: skip
    assert ledger.now == far(5, 5, "e")
    ledger.whole(finished=True)
    assert ledger.now == far(5, 5, "e", finished=True)


def test_a_message_in_hand_is_begun_and_not_done() -> None:
    """Promise: until the next one is asked for, the books say that it may have been handed out, and no more."""
    ledger = Ledger(NOTHING, name="s", every=100)
    run(ledger, "a")
    assert ledger.now == far(1, 1, "a")
    ledger.came("b")
    assert ledger.now == far(1, 1, "a")
    assert ledger.hand_out() == Mark(index=1, key="s/1", repeat=False)
    assert ledger.now == far(1, 2, "a")
    ledger.taken()
    assert ledger.now == far(2, 2, "b")


@pytest.mark.guarantee(89, 91)
def test_what_a_dead_run_may_have_handed_out_is_marked_and_stays_so() -> None:
    """Promise: marks cover the dead run's whole stretch, however short ours are, also if we die as well."""
    ledger = Ledger(far(3, 7, "c"), name="s", every=1)
    assert run(ledger, "de") == [far(3, 7, "c"), True, far(4, 7, "d"), None, True, far(5, 7, "e")]
    assert ledger.now == far(5, 7, "e")
    assert run(ledger, "fgh") == [None, True, far(6, 7, "f"), None, True, far(7, 8, "g"), None, False, far(8, 9, "h")]


def test_checkpoints_are_counted_from_where_the_run_began() -> None:
    """Promise: a run that continues at 3 commits after 3 + every."""
    assert run(Ledger(far(3, 3, "c"), name="s", every=2), "de") == [
        far(3, 5, "c"), False, None,
        None, False, far(5, 7, "e"),
    ]  # fmt: skip


@pytest.mark.parametrize("was", [NOTHING, far(3, 7, "c")])
def test_a_run_to_which_nothing_comes_changes_nothing(was: Progress) -> None:
    """Promise: an error before the first message leaves the books as they were; the end closes them."""
    ledger = Ledger(was, name="s", every=2)
    assert ledger.now == was
    ledger.whole(finished=True)
    assert ledger.now == far(was.done, was.done, was.cursor, finished=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"done": -1}, r"done must be a whole number of items, from 0 to 2\*\*62 - 1; got -1"),
        ({"done": True}, "done must be a whole number"),
        ({"begun": 4}, r"begun must be a whole number, from done \(5\) to 2\*\*63 - 1; got 4"),
        ({"cursor": 1.5}, r"cursor must be text, bytes or a whole number from -2\*\*63 to 2\*\*64 - 1.*got 1.5"),
        ({"cursor": 2**64}, "cursor must be text, bytes or a whole number"),
        ({"cursor": True}, "cursor must be.*got True"),
        ({"cursor": "\ud800"}, "cursor must be text"),
        ({"fingerprint": b"v1"}, "fingerprint must be text"),
        ({"finished": 1}, "finished must be True or False; got 1"),
        ({"done": -1, "fingerprint": None}, "done must be.*; fingerprint must be"),
    ],
)
def test_progress_that_makes_no_sense_is_refused(values: dict[str, object], says: str) -> None:
    """Promise: each problem with its bound, all of them at once."""
    with pytest.raises(ValueError, match=says):
        Progress(**{"done": 5, "begun": 5, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize("cursor", ["", "ü", b"", b"\x00\xff", 0, -(2**63), 2**64 - 1, None])
def test_every_cursor_that_protobuf_can_hold_is_one(cursor: object) -> None:
    """Promise: any text, any bytes, any whole number of 64 bits."""
    assert Progress(done=1, begun=1, cursor=cursor).cursor == cursor  # type: ignore[arg-type]
