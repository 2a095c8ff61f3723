"""Splits: index sets cut class by class, pure functions of the labels and a seed."""

import numpy as np

from research.errors import UserError


def train_validation(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a share of each class off for validation, rounded down to the whole example.

    Args:
      labels: int (N,).
      share: 0 <= share < 1; every class keeps at least one example for training.
      seed: decides which examples are cut off.

    Returns:
      Train and validation indices, sorted, int64: disjoint, together all.
    """
    parts = [
        members[: min(int(share * len(members)), len(members) - 1)]
        for members in _shuffled_classes(labels, seed)
    ]
    validation = np.sort(np.concatenate(parts))
    return np.setdiff1d(np.arange(len(labels)), validation), validation


def k_fold(labels: np.ndarray, k: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cuts all examples into k folds, class by class; each is the validation split once.

    Args:
      labels: int (N,).
      k: 2 ... N folds; N is leave-one-out, any other k at most the size of the smallest class.
      seed: decides which example falls into which fold.

    Returns:
      k pairs of sorted train and validation indices; in each, the classes' shares are those of the
      whole to within one example.

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
    # Dealt out like cards, on from class to class, so that folds differ by one example at most.
    dealt = np.concatenate(classes)
    fold_of = np.empty(len(labels), np.int64)
    fold_of[dealt] = np.arange(len(labels)) % k
    return [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(k)]


def _shuffled_classes(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
