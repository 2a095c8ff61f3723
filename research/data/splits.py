"""Cut splits: index sets that are pure functions of the labels, their kind, and a seed.

The kind of the labels (data/checks.py) decides how examples are drawn:

* 'classes': at random from each class, in proportion to its size.
* 'labels' and 'numbers': at random from all examples.
* 'tokens': the last examples, because neighbouring windows of a text resemble each other.
"""

import heapq
from fractions import Fraction
from typing import TypeVar

import numpy as np

from research.errors import UserError

_TEST_SHARE = 0.2  # cut off for testing if the user's data have no test split
_Split = TypeVar("_Split")  # `Arrays` or `Records`


def cut_test(both: _Split, seed: int, what: str, kind: str = "classes") -> tuple[_Split, _Split]:
    """Cut off a fifth of the examples as the test split of data that have none.

    Args:
      both: all examples, `Arrays` or `Records`.
      seed: decides which examples are cut off.
      what: name of the data in error messages.
      kind: of the labels.

    Returns:
      The train and the test split.

    Raises:
      UserError: too few examples for a test split.
    """
    train, test = train_validation(both.labels, _TEST_SHARE, seed, kind)
    if not len(test):
        reason = why_nothing(both.labels, _TEST_SHARE, kind)
        raise UserError(f"{what}: no test split can be cut from these data: {reason}")
    return both.subset(train), both.subset(test)


def train_validation(
    labels: np.ndarray, share: float, seed: int, kind: str = "classes"
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a share of all examples off for validation.

    The number of validation examples is round(share * N), with halves to even. Of classes, each
    gives the whole part of its share; classes with the largest remainders give one more (Hamilton's
    method). Lots decide ties.

    Args:
      labels: (N, ...).
      share: 0 <= share < 1, read as the decimal number that it prints as: 0.29 of 100 is 29. At
        least one example, and of classes at least one of each, stays in train.
      seed: decides which examples are cut off; tokens do not depend on it.
      kind: of the labels.

    Returns:
      Train and validation indices, sorted, int64; the two are disjoint and cover all examples.
    """
    if kind == "tokens":
        kept = len(labels) - min(round(Fraction(str(share)) * len(labels)), len(labels) - 1)
        return np.arange(kept), np.arange(kept, len(labels))
    classes = _shuffled_classes(strata(labels, kind), seed)
    counts = _counts(classes, share, seed)
    parts = [members[:count] for members, count in zip(classes, counts, strict=True)]
    validation = np.sort(np.concatenate(parts))
    return np.setdiff1d(np.arange(len(labels)), validation), validation


def _counts(classes: list[np.ndarray], share: float, seed: int) -> list[int]:
    """Return how many examples of each class are cut off."""
    exact = Fraction(str(share))
    wanted = [exact * len(members) for members in classes]
    counts = [int(number) for number in wanted]
    left = min(round(sum(wanted)), sum(map(len, classes)) - len(classes)) - sum(counts)
    lots = np.random.default_rng((seed, 1)).permutation(len(classes)).tolist()
    # The class with the largest remainder gives one more example first.
    queue = [(counts[c] - wanted[c], lots[c], c) for c in range(len(classes))]
    heapq.heapify(queue)
    while left > 0:
        lack, lot, c = heapq.heappop(queue)
        if counts[c] < len(classes[c]) - 1:
            counts[c] += 1
            left -= 1
            heapq.heappush(queue, (lack + 1, lot, c))
    return counts


def strata(labels: np.ndarray, kind: str) -> np.ndarray:
    """Return the class of each example; one class of all examples if labels are no classes."""
    return labels if kind == "classes" else np.zeros(len(labels), np.int32)


def why_nothing(labels: np.ndarray, share: float, kind: str = "classes") -> str:
    """Return the reason, as text, why `train_validation` cuts nothing off."""
    if kind == "classes" and len(np.unique(labels)) == len(labels):
        return f"each of the {len(labels)} classes has a single example, which stays in train"
    return f"a share of {share} of {len(labels)} examples rounds to none"


def k_fold(
    labels: np.ndarray, k: int, seed: int, kind: str = "classes"
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut all examples into k folds; each is the validation split once.

    Args:
      labels: (N, ...).
      k: number of folds, from 2 to N, where N is leave-one-out; of classes, else at most the size
        of the smallest class.
      seed: decides which example falls into which fold. Folds of tokens are consecutive, and do not
        depend on it.
      kind: of the labels.

    Returns:
      k pairs of sorted train and validation indices. Each class's share in a fold is its share of
      the whole to within one example.

    Raises:
      UserError: k out of range, or larger than the smallest class.
    """
    if k == len(labels) > 1:
        order = np.arange(len(labels))
        return [(np.delete(order, index), order[index : index + 1]) for index in order]
    classes = _shuffled_classes(strata(labels, kind), seed)
    smallest = min(map(len, classes))
    if not 2 <= k <= smallest:
        what = "the smallest class has" if kind == "classes" else "the data have"
        raise UserError(
            f"{k} folds: {what} {smallest} examples "
            f"(allowed: 2 to {smallest}, or {len(labels)} for leave-one-out)"
        )
    if kind == "tokens":
        fold_of = np.arange(len(labels)) * k // len(labels)
    else:
        # Deal examples like cards, class after class: folds differ by at most one example.
        dealt = np.concatenate(classes)
        fold_of = np.empty(len(labels), np.int64)
        fold_of[dealt] = np.arange(len(labels)) % k
    return [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(k)]


def _shuffled_classes(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    _, counts = np.unique(labels, return_counts=True)
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    return [random.permutation(of_class) for of_class in members]
