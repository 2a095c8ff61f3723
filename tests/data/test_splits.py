"""Splits are partitions, stratified, and functions of their seed alone."""

from fractions import Fraction

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from research.data.splits import k_fold, train_validation, why_nothing
from research.errors import UserError

labels_of = st.lists(st.integers(0, 4), min_size=2, max_size=200).map(np.array)


@hypothesis.given(labels_of, st.integers(0, 99), st.integers(0, 9))
def test_train_and_validation_are_a_stratified_partition(labels, percent, seed):
    train, validation = train_validation(labels, percent / 100, seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    sizes, kept = np.bincount(labels), np.bincount(labels[train], minlength=labels.max() + 1)
    assert (kept[sizes > 0] > 0).all()
    # The total is exact, in whole numbers; so is each class, but where one is held at its last.
    assert len(validation) == min(
        round(Fraction(percent * len(labels), 100)), len(labels) - len(np.unique(labels))
    )
    assert (sizes - kept >= np.minimum(percent * sizes // 100, sizes - 1)).all()
    if (kept[sizes > 0] > 1).all():
        assert (100 * (sizes - kept) < percent * sizes + 100).all()


def test_shares_are_exact_and_their_remainder_is_shared_out():
    """Of 9 examples none was cut off, of .29 * 100 = 28.999999999999996 only 28."""
    assert len(train_validation(np.zeros(100, int), 0.29, 0)[1]) == 29
    labels = np.repeat(np.arange(300), 9)
    cut = np.bincount(labels[train_validation(labels, 0.1, 0)[1]], minlength=300)
    assert sorted(cut) == [0] * 30 + [1] * 270
    assert len(train_validation(np.repeat(np.arange(102), 4), 0.2, 0)[1]) == round(0.2 * 408)
    # The largest remainders go first: shares are .9, 1.2 and 1.2, and 3 of 11 are cut off.
    labels = np.repeat([0, 1, 2], [3, 4, 4])
    assert np.bincount(labels[train_validation(labels, 0.3, 0)[1]]).tolist() == [1, 1, 1]


def test_who_is_cut_off_first_is_as_before():
    """The order in each class is a permutation by the seed alone: more are cut off behind it."""
    labels = np.random.default_rng(0).integers(0, 10, 1442)
    random = np.random.default_rng(7)
    wholly = [
        random.permutation(np.flatnonzero(labels == label))[: (labels == label).sum() // 10]
        for label in range(10)
    ]
    _, validation = train_validation(labels, 0.1, 7)
    assert set(np.concatenate(wholly)) < set(validation) and len(validation) == 144


def test_why_nothing_is_cut_off():
    for labels, share, reason in (
        (np.arange(5), 0.5, "each of the 5 classes has a single example"),
        (np.repeat([0, 1], 2), 0.1, "a share of 0.1 of 4 examples rounds to none"),
    ):
        assert not len(train_validation(labels, share, 0)[1])
        assert why_nothing(labels, share).startswith(reason)


@hypothesis.given(
    st.integers(2, 8), st.lists(st.integers(0, 20), min_size=1, max_size=5), st.integers(0, 9)
)
def test_folds_are_stratified_partitions(k, more, seed):
    labels = np.repeat(np.arange(len(more)), np.array(more) + k)
    folds = k_fold(labels, k, seed)
    assert sorted(np.concatenate([validation for _, validation in folds])) == list(
        range(len(labels))
    )
    sizes = [len(validation) for _, validation in folds]
    assert max(sizes) - min(sizes) <= 1
    for train, validation in folds:
        assert sorted([*train, *validation]) == list(range(len(labels)))
        for label in np.unique(labels):
            wanted = (labels == label).sum() / k
            assert abs((labels[validation] == label).sum() - wanted) < 1


def test_the_seed_decides():
    labels = np.repeat(np.arange(3), 50)
    again = [train_validation(labels, 0.2, seed)[1].tolist() for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]


def test_leave_one_out_and_impossible_folds():
    labels = np.array([0, 0, 1])
    assert [v.tolist() for _, v in k_fold(labels, 3, 0)] == [[0], [1], [2]]
    with pytest.raises(UserError, match="smallest class has 1"):
        k_fold(labels, 2, 0)
