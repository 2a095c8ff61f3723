"""Cut splits class by class: index sets that are pure functions of the labels and a seed."""

import heapq
from fractions import Fraction

import numpy as np

from research.errors import UserError


def train_validation(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a share of all examples off for validation, from each class in proportion to its size.

    The number of validation examples is round(share * N), with halves to even. Each class gives the
    whole part of its share; classes with the largest remainders give one more (Hamilton's method).
    Lots decide ties.

    Args:
      labels: int (N,).
      share: 0 <= share < 1, read as the decimal number that it prints as: 0.29 of 100 is 29. Every
        class keeps at least one example for training.
      seed: decides which examples are cut off.

    Returns:
      Train and validation indices, sorted, int64; the two are disjoint and cover all examples.
    """
    classes = _shuffled_classes(labels, seed)
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


def why_nothing(labels: np.ndarray, share: float) -> str:
    """Return the reason, as text, why `train_validation` cuts nothing off."""
    if len(np.unique(labels)) == len(labels):
        return f"each of the {len(labels)} classes has a single example, which stays in train"
    return f"a share of {share} of {len(labels)} examples rounds to none"


def k_fold(labels: np.ndarray, k: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut all examples into k folds, class by class; each is the validation split once.

    Args:
      labels: int (N,).
      k: number of folds, from 2 to the size of the smallest class, or N for leave-one-out.
      seed: decides which example falls into which fold.

    Returns:
      k pairs of sorted train and validation indices. Each class's share in a fold is its share of
      the whole to within one example.

    Raises:
      UserError: k out of range, or larger than the smallest class.
    """
    if k == len(labels) > 1:
        order = np.arange(len(labels))
        return [(np.delete(order, index), order[index : index + 1]) for index in order]
    classes = _shuffled_classes(labels, seed)
    smallest = min(map(len, classes))
    if not 2 <= k <= smallest:
        raise UserError(
            f"{k} folds: the smallest class has {smallest} examples "
            f"(allowed: 2 to {smallest}, or {len(labels)} for leave-one-out)"
        )
    # Deal examples like cards, class after class, so that folds differ by at most one example.
    dealt = np.concatenate(classes)
    fold_of = np.empty(len(labels), np.int64)
    fold_of[dealt] = np.arange(len(labels)) % k
    return [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(k)]


def _shuffled_classes(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    _, counts = np.unique(labels, return_counts=True)
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    return [random.permutation(of_class) for of_class in members]
