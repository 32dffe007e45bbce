"""Who is hit: drawn by the run's seed, each server once, in the order of the fleet."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from faults import every, majority, named, one, some
from faults.target import Majority, Named, Some, Target

FLEET = ("server-0", "server-1", "server-2", "server-3", "server-4")


@pytest.mark.parametrize("target", [one, some(3), majority, every, named("server-2")], ids=str)
def test_the_same_seed_draws_the_same_servers(target: Target) -> None:
    """Promise: a seed fixes who is hit, so that a run can be replayed."""
    for seed in range(20):
        assert target.choose(FLEET, Random(seed)) == target.choose(FLEET, Random(seed))


def test_what_a_seed_draws_stays_the_same() -> None:
    """Promise: a seed recorded today draws the same servers tomorrow (seed 8123, draws written out)."""
    rng = Random(8123)
    assert one.choose(FLEET, rng) == ("server-1",)
    assert some(2).choose(FLEET, rng) == ("server-1", "server-3")
    assert majority.choose(FLEET, rng) == ("server-0", "server-1", "server-3")


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_some_are_distinct_and_in_the_order_of_the_fleet(count: int) -> None:
    """Promise: `some(n)` hits n different servers."""
    for seed in range(50):
        chosen = some(count).choose(FLEET, Random(seed))
        assert len(set(chosen)) == count
        assert list(chosen) == sorted(chosen)


def test_every_server_can_be_the_one() -> None:
    """Promise: the draw is fair: with 5000 seeds each of five servers is hit 1000 times, give or take 150.

    150 is more than five standard deviations (28.3), so a fair draw fails less than once in 10^6.
    """
    hits = Counter(one.choose(FLEET, Random(seed))[0] for seed in range(5000))
    assert set(hits) == set(FLEET)
    assert all(850 < count < 1150 for count in hits.values())


@pytest.mark.parametrize(("servers", "hit"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_a_majority_is_the_least_that_is_more_than_half(servers: int, hit: int) -> None:
    """Promise: a majority is 2 of 3, 3 of 4, 3 of 5."""
    assert len(set(majority.choose(FLEET[:servers], Random(1)))) == hit


def test_every_is_all_of_them() -> None:
    """Promise: `every` hits the whole fleet."""
    assert every.choose(FLEET, Random(1)) == FLEET


def test_named_servers_are_hit_once_each_in_the_order_of_the_fleet() -> None:
    """Promise: names may be given in any order, and twice; the client comes last."""
    chosen = named("client", "server-3", "server-1", "server-3").choose(FLEET, Random(1))
    assert chosen == ("server-1", "server-3", "client")


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    """Promise: a typo in a name is an error, not a fault that hits nobody."""
    with pytest.raises(ValueError, match="^") as error:
        named("server-1", "server-9", "db").choose(FLEET[:3], Random(1))
    assert str(error.value) == (
        "Named: no server is named server-9, db; there are server-0, server-1, server-2, and client"
    )


def test_more_than_there_are_is_refused() -> None:
    """Promise: a fault that cannot hit as many as it should is an error."""
    with pytest.raises(ValueError, match="Some: count must be at most the number of servers, 5; got 6"):
        some(6).choose(FLEET, Random(1))


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2", None])
def test_a_count_is_a_whole_number_of_servers(count: int) -> None:
    """Promise: a bad count is refused where it is written."""
    with pytest.raises(ValueError, match=rf"Some: count must be a whole number, 1 or more; got {count!r} \(servers\)"):
        some(count)


def test_names_are_texts() -> None:
    """Promise: no names, or one text in place of names, is refused where it is written."""
    with pytest.raises(ValueError, match="Named: names must not be empty; use every to hit all servers"):
        named()
    for names in ("server-0", ["server-0"], (0,)):
        with pytest.raises(ValueError, match=r"names must be texts, as in named\(.*; got "):
            Named(names)  # type: ignore[arg-type]


def test_a_target_is_a_value_and_is_named_as_it_is_written() -> None:
    """Promise: targets can be compared and kept in sets, and a report names them by the words of the scenario."""
    assert {one, some(1), Some(1)} == {Some(1)}
    assert {majority, Majority()} == {majority}
    shown = [str(target) for target in (one, some(1), some(3), majority, every, named("server-0", "client"))]
    assert shown == ["one", "one", "some(3)", "majority", "every", "server-0, client"]
