"""Whether a run was long enough, by curves whose answer is known."""

import numpy as np
import pytest

from research.training import convergence

GUESSING = float(np.log(10))  # the loss of ten equal probabilities


def records(losses) -> list[dict]:
    return [{"split": "validation", "loss": loss} for loss in losses]


def test_a_loss_that_falls_to_the_end_is_told():
    found = convergence.still_falling(records(np.linspace(2.0, 1.0, 20)), "validation", GUESSING)
    before, end = found
    assert before == np.linspace(2.0, 1.0, 20)[9]
    assert end == pytest.approx(np.linspace(2.0, 1.0, 20)[-2:].mean())


@pytest.mark.parametrize(
    "losses",
    [
        np.r_[np.linspace(2, 0.1, 10), np.full(10, 0.1)],  # done in the middle
        np.r_[np.linspace(2, 0.1, 10), np.linspace(0.1, 0.5, 10)],  # overfitted
        np.r_[np.linspace(2, 0.047, 10), np.linspace(0.047, 0.032, 10)],  # a hundredth of nothing
        np.linspace(2, 1, 3),  # too few to say
        [],
    ],
)
def test_one_that_does_not_is_not(losses):
    assert convergence.still_falling(records(losses), "validation", GUESSING) is None


def test_other_splits_do_not_count():
    falling = [{"split": "train", "loss": loss} for loss in np.linspace(2, 1, 20)]
    assert convergence.still_falling(falling, "validation", GUESSING) is None
