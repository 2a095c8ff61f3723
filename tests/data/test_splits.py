"""Splits are partitions, stratified, and functions of their seed alone."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from research.data.splits import k_fold, train_validation
from research.errors import UserError

labels_of = st.lists(st.integers(0, 4), min_size=2, max_size=200).map(np.array)


@hypothesis.given(labels_of, st.floats(0, 0.99), st.integers(0, 9))
def test_train_and_validation_are_a_stratified_partition(labels, share, seed):
    train, validation = train_validation(labels, share, seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    for label in np.unique(labels):
        total, cut = (labels == label).sum(), (labels[validation] == label).sum()
        assert cut == min(int(share * total), total - 1)


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
