"""scikit-learn's MLPClassifier: the same layers, without batch norm, which it does not have."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks.workloads import Workload, make_data


def prepare(workload: Workload):
    """Returns a function that trains for one epoch and returns the last loss."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    config = workload.build_config()
    images, labels = make_data(workload)
    inputs = ((images.astype(np.float32) / 255 - 0.5) / 0.3).reshape(len(images), -1)
    model = MLPClassifier(
        config.model.hidden, batch_size=workload.batch_size, max_iter=1, warm_start=True
    )

    def round_() -> float:
        return model.fit(inputs, labels).loss_

    return round_
