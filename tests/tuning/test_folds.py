"""Folds: what is fitted on the targets of each split is its own."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from research.config import default_config
from research.tuning import folds


def config_of(weights=()):
    config = default_config()
    config.data.name, config.data.toy_examples = "spirals", 101
    config.model.hidden, config.loss.class_weights = (4,), weights
    return config


@pytest.mark.parametrize("count", [1, 3])
def test_balanced_weights_are_those_of_the_rows_of_each_split(count):
    """Also where a search takes the data over from an earlier config of other weights."""
    earlier = folds.load(config_of(), folds=count, stratified=False)
    assert "targets" not in earlier.own(earlier.arrays, 0)["statistics"]
    found = folds.load(config_of(("balanced",)), folds=count, stratified=False, earlier=earlier)
    labels, seen = found.run.train.labels, []
    for split in range(count):
        own = found.own(found.arrays, split)
        if count > 1:
            labels = np.asarray(own["labels"])[own["rows"][: int(own["examples"])]]
        wanted = compute_class_weight("balanced", classes=np.arange(3), y=labels)
        seen.append(own["statistics"]["targets"]["class_weights"])
        np.testing.assert_allclose(seen[-1], wanted, rtol=1e-6)
    assert count == 1 or not np.array_equal(seen[0], seen[1])
    again = folds.load(config_of(), folds=count, stratified=False, earlier=found)
    assert "targets" not in again.own(again.arrays, 0)["statistics"]
