"""Orders of points: each point once, and each beginning spread over the space."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.tuning.axes import Axis
from research.tuning.sequences import ordered, untried
from research.tuning.spaces import Space
from research.tuning.trials import identity

sizes = st.lists(st.integers(1, 6), min_size=1, max_size=5)


def counted(sizes) -> Space:
    """Whole numbers and choices in turns, so many values each."""
    kinds = itertools.cycle(("integer", "choice"))
    return Space(
        tuple(
            Axis("integer", f"k{i}", 5, 4 + size)
            if kind == "integer"
            else Axis("choice", f"k{i}", values=tuple("abcdefgh"[:size]))
            for i, (kind, size) in enumerate(zip(kinds, sizes, strict=False))
        )
    )


@given(sizes, st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_each_beginning_has_the_values_of_every_axis_equally_often(sizes, seed):
    space = counted(sizes)
    seen = {axis.key: Counter(dict.fromkeys(axis.spread(axis.count), 0)) for axis in space.axes}
    points = list(ordered(space, seed))
    for point in points:
        space.check(point, "here")
        for key, value in point.items():
            seen[key][value] += 1
        assert all(max(one.values()) - min(one.values()) <= 1 for one in seen.values())
    assert len(points) == len(set(map(identity, points))) == space.points


def test_a_third_of_a_grid_of_four_axes_has_a_third_of_each_value_and_of_each_pair():
    space = counted((3, 3, 3, 3))
    for seed in range(10):
        points = list(itertools.islice(ordered(space, seed), 27))
        for key in space.keys:
            assert set(Counter(point[key] for point in points).values()) == {9}
        for pair in itertools.combinations(space.keys, 2):
            there = Counter(tuple(point[key] for key in pair) for point in points)
            assert len(there) == 9 and max(there.values()) <= 5  # 3 of each, were it even


@given(st.integers(2, 40), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_values_that_follow_each_other_lie_apart(size, seed):
    """Of any number of first values half lie in each half of the axis."""
    axis = Axis("integer", "depth", 0, size - 1)
    values = [point["depth"] for point in ordered(Space((axis,)), seed)]
    for count in range(1, size):
        # The axis may begin anywhere in its order, which then goes through both ends of it.
        lower = sum(value < size // 2 for value in values[:count])
        assert abs(2 * lower - count) <= 3


def test_pairs_of_many_axes_are_even():
    """A sixteenth of 1,024 points: each pair of values of two axes 16 times, were it even."""
    space = counted((2,) * 10)
    points = list(itertools.islice(ordered(space, 0), 64))
    for pair in itertools.combinations(space.keys, 2):
        there = Counter(tuple(point[key] for key in pair) for point in points)
        assert len(there) == 4 and min(there.values()) >= 8


CONDITIONAL = Space(
    (
        Axis("choice", "rule", values=("sgd", "momentum", "adam")),
        Axis("integer", "decay", 0, 2, when=("rule", "momentum")),
        Axis("choice", "norm", values=("none", "batch")),
        Axis("choice", "track", values=(False, True), when=("norm", "batch")),
        Axis("integer", "speed", 1, 3, when=("track", True)),
        Axis("choice", "width", values=((8,), (8, 8))),
    )
)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_branches_of_conditions_take_turns_until_they_end(seed):
    points = list(ordered(CONDITIONAL, seed))
    for point in points:
        CONDITIONAL.check(point, "here")
        assert list(point) == [key for key in CONDITIONAL.keys if key in point]
    assert CONDITIONAL.points == (1 + 3 + 1) * (1 + 1 + 3) * 2
    assert len(points) == len(set(map(identity, points))) == CONDITIONAL.points
    for count in (6, 12, 18):
        rules = Counter(point["rule"] for point in points[:count])
        assert set(rules.values()) == {count // 3}
        assert len({point["norm"] for point in points[:count]}) == 2
        assert len({point["width"] for point in points[:count]}) == 2


def test_a_space_of_many_points_is_not_listed():
    space = counted((6,) * 40)
    points = list(itertools.islice(ordered(space, 0), 60))
    assert space.points == 6**40 and len(set(map(identity, points))) == 60
    for key in space.keys:
        assert set(Counter(point[key] for point in points).values()) == {10}


def test_the_order_is_of_its_seed_alone_and_leaves_out_what_was_tried():
    space = counted((4, 3, 3))
    points = list(untried(space, set(), 7))
    assert points == list(ordered(space, 7)) == list(untried(space, set(), 7))
    assert points != list(ordered(space, 8))
    tried = set(map(identity, points[::3]))
    assert list(untried(space, tried, 7)) == [p for i, p in enumerate(points) if i % 3]


@pytest.mark.parametrize(("value", "same"), [(0.1 + 1e-12, True), (0.1 + 1e-7, False)])
def test_values_that_are_one_number_to_the_program_are_one(value, same):
    assert (identity({"rate": 0.1}) == identity({"rate": value})) is same
