"""Calibration against its definition, spelled out example by example."""

import numpy as np
import pytest

from research.tasks import calibration


def expected_calibration_error(probabilities, labels, bins=15):
    hits = probabilities.argmax(-1) == labels
    return calibration.expected_calibration_error(probabilities.max(-1), hits, bins)


def by_definition(probabilities, labels, bins):
    """Guo et al. (2017), equations 1 to 3, with sets of examples."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = [
            (row.max(), row.argmax() == label)
            for row, label in zip(probabilities, labels, strict=True)
            if (m - 1) / bins < row.max() <= m / bins
        ]
        if inside:
            confidence, accuracy = np.mean(inside, axis=0)
            total += len(inside) / len(labels) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_the_error_is_the_papers(bins):
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(4, 0.5), 500)
    labels = random.integers(0, 4, 500)
    wanted = by_definition(probabilities, labels, bins)
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(wanted)
    assert wanted > 0.1


def test_by_hand():
    """Three at .9, two of them right; two at .6, one right: .6 |2/3 - .9| + .4 |.5 - .6|."""
    confidence = np.array([0.9, 0.9, 0.9, 0.6, 0.6])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0, 0, 1, 0, 1])
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.18)
    found = calibration.reliability(confidence, labels == 0, 10)
    assert found["counts"].tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 3, 0]
    assert found["accuracies"][8] == pytest.approx(2 / 3)
    assert found["confidences"][5] == pytest.approx(0.6)


def test_sure_and_right_is_0_and_sure_and_wrong_is_1():
    sure = np.eye(3, dtype=np.float32)
    assert expected_calibration_error(sure, np.arange(3)) == 0
    assert expected_calibration_error(sure, np.array([1, 2, 0])) == 1


def test_labels_drawn_from_the_probabilities_are_calibrated():
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.ones(3), 20_000)
    labels = (random.random((20_000, 1)) > probabilities.cumsum(1)).sum(1)
    assert expected_calibration_error(probabilities, labels) < 0.02


def test_no_examples_have_no_error():
    assert expected_calibration_error(np.zeros((0, 3)), np.zeros(0, int)) == 0
