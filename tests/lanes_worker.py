"""What the test of lanes over devices runs in a process of its own: lanes_worker.py FILE.npz."""

import sys

import numpy as np

from research.config import default_config
from research.tuning.population import Population

MODES = ("sequential", "vmap")


def train(mode: str) -> tuple[dict[str, np.ndarray], str]:
    """Three slots of two folds through two segments, one idle in the second; the program's text."""
    import jax

    config = default_config()
    config.data.name = "moons"
    config.data.toy_examples = 90
    config.batch_size = 16
    config.model.hidden = (8,)
    config.model.normalization = "none"
    config.optimizer.name = "momentum"
    config.duration = "8 steps"
    population = Population(config, 3, segments=2, folds=2, mode=mode)
    population.compile()
    for slot in range(3):
        population.start(slot, {"seed": slot, "optimizer.learning_rate": 0.01}, 2)
    population.advance([0, 1, 2])
    population.copy(1, 0, {"optimizer.learning_rate": 0.02})
    reports = population.advance([0, 1])
    found = {
        f"loss {slot}": np.array(report.validation["loss"]) for slot, report in reports.items()
    }
    for slot in range(3):
        for lane, state in enumerate(population.states(slot)):
            for number, leaf in enumerate(jax.tree.leaves((state.params, state.opt_state))):
                found[f"{slot} {lane} {number}"] = leaf
    return found, population.program_text()


if __name__ == "__main__":
    results = {}
    for mode in MODES:
        found, text = train(mode)
        results |= {f"{mode} {name}": value for name, value in found.items()}
        results[f"{mode} text"] = np.array(text)
    np.savez(sys.argv[1], **results)
