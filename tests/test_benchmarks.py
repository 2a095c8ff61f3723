"""What the benchmarks of searches count, on trainings in closed form."""

import math

import pytest
from searches import Formula, searched

from benchmarks import schedulers


class Population(Formula):
    chunk = 1

    def parameters(self):
        return 95


@pytest.mark.parametrize("scheduler", ["none", "asha"])
def test_epochs_of_all_lanes_are_counted_until_each_trial_ends(scheduler):
    config = searched(trials=20, segments=9, scheduler=scheduler)
    population = Population(schedulers.SLOTS, 0.0)
    ends = schedulers.searched(population, config)
    assert len(ends) == 20
    assert ends[-1][0] == population.trained  # a segment is an epoch here
    assert sorted(ends, key=lambda end: end[0]) == ends
    whole = [accuracy for _, accuracy in ends if accuracy > -math.inf]
    assert len(whole) < 20 if scheduler == "asha" else len(whole) > 15
    found = schedulers.summarized(ends, max(whole))
    assert found["lacks"] == 0 and found["until"] <= found["epochs"] == ends[-1][0]
