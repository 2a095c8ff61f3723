"""Measure calibration: of all predictions with confidence .8, are 80 % right?"""

import numpy as np


def reliability(confidence: np.ndarray, hits: np.ndarray, bins: int = 15) -> dict[str, np.ndarray]:
    """Sort predictions by their confidence into bins of equal width.

    Bin m holds the confidences in ((m - 1) / bins, m / bins].

    Args:
      confidence: float (N,), the probability of the predicted class.
      hits: bool (N,), whether the prediction is right.
      bins: how many.

    Returns:
      Over the bins, each (bins,): 'counts' int64, and the means of what is in them, 'confidences'
      and 'accuracies', float64; 0 where a bin is empty.
    """
    confidence = confidence.astype(np.float64)
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(number, minlength=bins)

    def means(values):
        return np.bincount(number, values, bins) / np.maximum(counts, 1)

    return {"counts": counts, "confidences": means(confidence), "accuracies": means(hits)}


def expected_calibration_error(confidence: np.ndarray, hits: np.ndarray, bins: int = 15) -> float:
    """ECE = sum_m |B_m| / N * |accuracy(B_m) - confidence(B_m)| (Guo et al., 2017, equation 3).

    0 is perfect; arguments are those of `reliability`.
    """
    found = reliability(confidence, hits, bins)
    gaps = np.abs(found["accuracies"] - found["confidences"])
    return float((found["counts"] * gaps).sum() / max(len(hits), 1))
