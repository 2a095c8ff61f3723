"""Searches over a training in closed form: what the tests of studies, ledgers and exports share."""

import json
import math

from research.config import default_config
from research.tuning.config import default_search
from research.tuning.ledger import Ledger
from research.tuning.reports import Report
from research.tuning.spaces import Space, choice, linear, log
from research.tuning.study import Study

RATE, SMOOTHING, NAME = "optimizer.learning_rate", "loss.label_smoothing", "optimizer.name"


class Formula:
    """A population in closed form: a state is a sum over its segments of a hash of its numbers.

    It counts the segments that it trained, and refuses what a real one could not do.
    """

    warnings = ()

    def __init__(self, slots: int, program: float, lanes: int = 1):
        self._count, self._program, self._lanes = slots, program, lanes
        self._slots: dict[int, tuple[dict, int, int, float]] = {}
        self.trained = 0

    def start(self, slot: int, values: dict, segments: int) -> None:
        assert 0 <= slot < self._count
        self._slots[slot] = (values, segments, 0, self._program)

    def copy(self, slot: int, parent: int, values: dict) -> None:
        _, segments, done, state = self._slots[parent]
        self._slots[slot] = (values, segments, done, state)

    def park(self, slot: int):
        return self._slots.pop(slot)

    def unpark(self, slot: int, parked) -> None:
        self._slots[slot] = parked

    def advance(self, slots) -> dict[int, Report]:
        return {slot: self._one_segment(slot) for slot in slots}

    def _one_segment(self, slot: int) -> Report:
        values, segments, done, state = self._slots[slot]
        assert done < segments
        self.trained += 1
        rate, smoothing = values[RATE], values.get(SMOOTHING, 0.2)
        state = math.sin(1e3 * (state + rate + 7 * smoothing)) + state / 2
        self._slots[slot] = (values, segments, done + 1, state)
        loss = (math.log10(rate) + 2.5) ** 2 + smoothing + state / (done + 2)
        finite = rate < 0.08
        losses = [loss + lane / 10 if finite else math.nan for lane in range(self._lanes)]
        accuracies = [math.exp(-(loss**2))] * self._lanes
        metrics = {"loss": losses, "accuracy": accuracies}
        return Report(30 * (done + 1), done + 1.0, metrics, metrics, finite)


def searched(space=None, **settings):
    config = default_config()
    config.search = default_search()
    config.search.space = space or (log(RATE, 1e-4, 1e-1), linear(SMOOTHING, 0.0, 0.5))
    config.search.update({"trials": 12, "segments": 6, **settings})
    return config


COHORTS = (
    choice(NAME, "adam", "nesterov", "sgd"),
    log(RATE, 1e-4, 1e-1),
    linear(SMOOTHING, 0.0, 0.5, when=(NAME, "adam")),
)


def search(config, path, slots=4, lanes=1, after_turn=lambda study: None):
    """Runs a search to its end; the study, and the populations it had."""
    populations = []

    known = {"slots": slots, "chunk": 1, "parameters": 95}

    def populate(values, facts):
        assert facts in (None, known)
        number = ("adam", "nesterov", "sgd").index(values.get(NAME, "adam"))
        populations.append(Formula(slots, number / 3, lanes))
        return populations[-1], known

    with Ledger(path) as ledger:
        ledger.begin(config)
        study = Study(config, Space.from_config(config), ledger, populate, after_turn)
        study.run()
    return study, populations


def outcome(path) -> list[dict]:
    """The ledger without its times."""
    return [
        {k: v for k, v in line.items() if k != "time"}
        for line in map(json.loads, path.read_text().splitlines())
    ]
