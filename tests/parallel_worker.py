"""What the tests of several devices run in processes of their own: parallel_worker.py FOLDER HOW.

Trains each case in each mode and saves what came out; goes on from another device count's
checkpoint, and leaves one. HOW is 'eight' or 'two': what the process count and devices make of it.
"""

import functools
import sys
from pathlib import Path

import numpy as np

from research import platform
from research.config import default_config

STEPS = 10
MODES = ("jit", "shard_map", "pmap")
CASES = {
    "mlp": {
        "model.hidden": (32, 16),
        "model.dropout_rate": 0.2,
        "model.input_dropout_rate": 0.1,
        "loss.label_smoothing": 0.1,
        "loss.l2": 1e-3,
        "optimizer.clip_norm": 1.0,
        "averaging.name": "ema",
        "averaging.start": "2 steps",
    },
    "cnn": {
        "model.name": "cnn",
        "model.channels": (4, 8),
        # Smooth: at a kink, or where maxima tie, another rounding is another gradient.
        "model.activation": "tanh",
        "model.pooling": "avg_pool",
        "model.dropout_rate": 0.2,
        "model.dropout": "spatial_dropout",
        "augmentation.names": ("flip", "crop"),
        "optimizer.weight_decay": 1e-2,
    },
    "ensemble": {
        "model.hidden": (16,),
        "model.dropout_rate": 0.2,
        "augmentation.names": ("crop",),
        "ensemble.members": 3,
    },
}
# On 8 devices alone, against what one device does with the ghosts in their place.
OTHERS = {
    "local": ({"model.hidden": (16,), "parallel.local_batch_norm": True}, "shard_map"),
    "model": ({**CASES["mlp"], "parallel.model_devices": 4}, "jit"),
}


def config_of(changes: dict, mode: str = "jit"):
    config = default_config()
    config.batch_size = 64
    config.duration = "1000 steps"
    config.schedule.name = "constant"
    config.optimizer.name = "momentum"  # Adam divides by tiny numbers: it magnifies rounding
    config.optimizer.learning_rate = 0.05
    config.update_from_flattened_dict({**changes, "parallel.mode": mode})
    return config


def train(config) -> tuple[dict[str, np.ndarray], str]:
    """Two dispatches, then an evaluation: numbers by name, and the program's text."""
    import jax

    from research import processes
    from research.models.leaves import path_name
    from research.training import advance, evaluation, setup
    from research.training.copies import copied

    run = setup.from_config(config)
    run.sharding.check_batch(config, len(run.train))
    state = run.init()
    program, data = advance.resident_program(run, state)
    state, first = program(state, data, np.int32(3))
    copies, wanted = copied(state), weights(state)
    state, second = program(state, data, np.int32(STEPS - 3))  # in the memory of what was copied
    kept = copies.fetch()
    for name in wanted if processes.first() else ():
        np.testing.assert_array_equal(kept[name], wanted[name])
    result = evaluation.evaluate(config, run.task, state, run.validation)
    found = weights(state)
    both = jax.tree.map(lambda a, b: a + b, first.sums.means, second.sums.means)
    found["training loss"] = np.asarray(both["loss"][0])
    found["correct"] = np.asarray(both["accuracy"][0])
    text = program.as_text() if hasattr(program, "as_text") else ""
    leaves = jax.tree_util.tree_flatten_with_path({"validation": result})[0]
    return {**found, **{path_name(path): np.asarray(leaf) for path, leaf in leaves}}, text


def weights(state) -> dict[str, np.ndarray]:
    from research.optimizers.masks import leaves_by_path
    from research.processes import on_host

    kept = {name: getattr(state, name) for name in ("params", "batch_stats", "averages")}
    return {path: on_host(leaf) for path, leaf in leaves_by_path(kept).items()}


@functools.cache
def program_to_go_on():
    """The run of the first case, and its compiled steps."""
    from research.training import advance, setup

    run = setup.from_config(config_of(CASES["mlp"]))
    return run, advance.over_arrays(run, run.init())


def go_on(source: Path | None, target: Path) -> dict[str, np.ndarray]:
    """Ten steps from a checkpoint of another device count, in two pieces: the same bits as one."""
    from research.training.checkpoints import Checkpoints
    from research.training.copies import copied
    from research.training.early_stopping import Objective

    run, steps = program_to_go_on()

    def restored(folder):
        with Checkpoints(folder, read_only=True) as checkpoints:
            return checkpoints.restore(lambda *_: run.init(), warn=sys.exit)[0]

    accuracy = Objective("accuracy", higher_is_better=True)
    start = restored(source) if source else run.init()
    state, _ = steps(start, STEPS // 2)
    with Checkpoints(target) as checkpoints:
        checkpoints.save(int(state.step), run.config, copied(state), {}, accuracy)
    found = weights(steps(restored(target), STEPS // 2)[0])
    whole = weights(steps(restored(source) if source else run.init(), STEPS)[0])
    for name in whole:
        np.testing.assert_array_equal(found[name], whole[name])
    return found


def agree_on_what_is_there(folder: Path) -> None:
    """Processes that look at a folder while process 0 changes it: again and again, for a race."""
    from research.processes import agree, first
    from research.training.checkpoints import Checkpoints
    from research.training.copies import copied
    from research.training.early_stopping import Objective

    run, _ = program_to_go_on()
    state, accuracy = run.init(), Objective("accuracy", higher_is_better=True)

    def at(step: int):
        return copied(state.replace(step=np.int32(step)))

    for number in range(30):
        place = folder / str(number)
        with Checkpoints(place) as checkpoints:
            for step in (1, 2, 3):
                checkpoints.save(step, run.config, at(step), {"rollbacks": 0}, accuracy)
            assert checkpoints.return_to(1) == 2
            checkpoints.save(3, run.config, at(3), {"rollbacks": 1}, accuracy)
        if first():
            (place / "checkpoints" / "3" / "metadata.json").unlink()
        agree(False, 0)
        with Checkpoints(place) as checkpoints:
            assert int(checkpoints.restore(lambda *_: state, warn=str)[0].step) == 2


if __name__ == "__main__":
    folder, how = Path(sys.argv[1]), sys.argv[2]
    platform.enable_compilation_cache()
    platform.join_processes()
    import jax

    def save(name, found):
        if jax.process_index() == 0:
            np.savez(folder / f"{how}-{name}.npz", **found)

    for case in CASES:
        # Two processes compile all twice: there but one case goes through all modes.
        for mode in MODES if how == "eight" or case == "mlp" else MODES[:1]:
            found, text = train(config_of(CASES[case], mode))
            save(f"{case}-{mode}", found)
            (folder / f"{how}-{case}-{mode}-{jax.process_index()}.txt").write_text(text)
    if how == "eight":
        for case, (changes, mode) in OTHERS.items():
            save(f"{case}-{mode}", train(config_of(changes, mode))[0])
    if how == "two":
        agree_on_what_is_there(folder / "races")
    before = {"eight": "one", "two": "eight"}[how]
    save("went on", go_on(folder / before, folder / how))
