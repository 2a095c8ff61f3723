"""What each choice adds to the plain train step: python -m benchmarks.costs [PART OF A NAME...]

Each choice's program and the plain one take turns in one process, as research/main.py compiles
them, over equally many steps; the cost is the median over rounds of their ratio, less 1. The first
row is the plain program once more, compiled anew: what it "costs" is how far the others can be
trusted. The table is benchmarks/costs.md.
"""

import statistics
import sys
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks.contender_ours import setup_of
from benchmarks.run import hardware
from research import platform
from research.config import default_config, usage
from research.errors import UserError
from research.names import public_functions
from research.training import advance

ROUNDS, SECONDS = 8, 0.3  # of each turn
PLAIN = {"model.activation": "relu", "model.normalization": "batch_norm", "optimizer.name": "adam"}
MODELS = {
    "MLP": ({"model.hidden": (512, 512)}, (28, 28, 1)),
    "CNN": ({"model.name": "cnn", "model.channels": (32, 64, 128)}, (32, 32, 3)),
}
KINDS = (
    "model.activation",
    "model.normalization",
    "model.dropout",
    "augmentation.names",
    "augmentation.mixing",
    "optimizer.name",
)
SWITCHES = {
    "model.dropconnect_rate": 0.5,
    "model.weight_standardization": True,
    "loss.label_smoothing": 0.1,
    "loss.l2": 1e-4,
    "optimizer.weight_decay": 1e-4,
    "optimizer.clip_norm": 1.0,
    "optimizer.clip_adaptive": 0.01,
    "optimizer.max_norm": 3.0,
    "optimizer.sam_radius": 0.05,
    "optimizer.lookahead_steps": 5,
    "compute.microbatches": 4,
}


def choices() -> dict[str, dict]:
    """{title: changes of the config} for every name, and every number that switches code on."""
    found = {"the same again": {}}
    for key in KINDS:
        for name in public_functions(usage.module_of(key)):
            changes = {key: (name,) if key == "augmentation.names" else name}
            if key == "model.dropout":
                changes["model.dropout_rate"] = 0.5
            if name == "lbfgs":  # a step of its own kind, over all of train
                continue
            if PLAIN.get(key) != name and (name != "none" or key == "model.normalization"):
                found[f"`{key} = {name}`"] = changes
    return found | {f"`{key} = {value}`": {key: value} for key, value in SWITCHES.items()}


def program(model: str, changes: dict):
    """A function that trains for so many steps and returns the seconds of one."""
    base, shape = MODELS[model]
    config = default_config()
    config.update_from_flattened_dict(PLAIN | base | changes)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (8192, *shape), np.uint8)
    run = setup_of(config, images, random.integers(0, 10, len(images)).astype(np.int32))
    held = [run.init()]
    compiled, data = advance.resident_program(run, held[0])

    def timed(steps: int) -> float:
        started = time.perf_counter()
        held[0], metrics = compiled(held[0], data, np.int32(steps))
        jax.block_until_ready(metrics)
        return (time.perf_counter() - started) / steps

    timed(1)
    return timed


def cost(plain, steps: int, model: str, changes: dict) -> tuple[float, float, float] | None:
    """Median and extremes of what the choice adds, as a share of the plain step."""
    try:
        chosen = program(model, changes)
    except UserError:
        return None  # it does not go with this model
    ratios = []
    for number in range(ROUNDS):  # each goes first in every other round
        turns = (chosen, plain) if number % 2 else (plain, chosen)
        seconds = {turn: turn(steps) for turn in turns}
        ratios.append(seconds[chosen] / seconds[plain] - 1)
    ratios.sort()
    return statistics.median(ratios), ratios[1], ratios[-2]


def main() -> None:
    platform.enable_compilation_cache()
    wanted = sys.argv[1:] or [""]
    plain = {model: program(model, {}) for model in MODELS}
    steps = {model: max(2, round(SECONDS / run(5))) for model, run in plain.items()}
    milliseconds = {
        model: 1e3 * statistics.median(run(steps[model]) for _ in range(ROUNDS))
        for model, run in plain.items()
    }
    lines = [
        "# What each choice costs",
        "Made by `python -m benchmarks.costs`: what a choice adds to the plain train step (ReLU,",
        "batch norm, Adam, batch 128), as a share of it; in brackets all rounds but the extreme",
        "ones. MLP: 784-512-512-10. CNN: 32-64-128 channels on images of 32 x 32 x 3.",
        "",
        f"{hardware()}. The plain step takes "
        + ", ".join(f"{ms:.1f} ms ({model})" for model, ms in milliseconds.items())
        + ".",
        "",
        f"| Choice | {' | '.join(MODELS)} |",
        f"|---|{'---|' * len(MODELS)}",
    ]
    for title, changes in choices().items():
        if not any(part in title for part in wanted):
            continue
        cells = []
        for model, run in plain.items():
            found = cost(run, steps[model], model, changes)
            cells.append("" if found is None else "{:+.0%} ({:+.0%} to {:+.0%})".format(*found))
        lines.append(f"| {title} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
        jax.clear_caches()
    if not sys.argv[1:]:
        (Path(__file__).parent / "costs.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
