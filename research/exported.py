"""Export trained networks as one StableHLO program, by `jax.export`."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save

from research.atomic import replaced
from research.errors import UserError
from research.optimizers.masks import leaves_by_path
from research.training import ensembles
from research.training.setup import Setup
from research.training.state import TrainState

Networks = Sequence[tuple[Setup, TrainState]]
PLATFORMS = ("cpu", "cuda", "tpu")


def program(networks: Sequence[tuple[Setup, TrainState]]) -> Callable[[jax.Array], jax.Array]:
    """Return the function raw inputs (N, ...) -> predictions, float32 (N, ...).

    It is `Trained.predict` in float32, with the weights as constants.
    """
    task = networks[0][0].task
    predicts = [(ensembles.make_predict(run.config, task), state) for run, state in networks]

    def predict(inputs):
        outputs = jnp.concatenate([predict(state, inputs) for predict, state in predicts])
        if len(outputs) == 1:  # the average of one is not exact for all tasks
            return task.answer(outputs[0])
        return task.answer(task.average(outputs))

    return predict


def export(networks: Sequence[tuple[Setup, TrainState]], folder: Path) -> None:
    """Write `model.stablehlo`, `weights.safetensors` and `model.json`.

    Args:
      networks: runs of equal inputs and outputs, and their states.
      folder: is made if it is missing.

    Raises:
      UserError: inputs have an offset, which a program in float32 cannot subtract; or the folder
        cannot be written.
    """
    run, state = networks[0]
    statistics = [
        part for run, _ in networks for part in (run.statistics, run.statistics.get("targets", {}))
    ]
    if any("offset" in part for part in statistics):
        raise UserError(
            "the run's inputs or targets are so far from 0 that float64 has to hold them, which an "
            "exported program has not (allowed: numbers that float32 tells apart)"
        )
    shape, dtype = run.train.shape, run.train.dtype
    dtype = dtype if dtype in (np.uint8, np.int32) else np.dtype(np.float32)
    (batch,) = jax.export.symbolic_shape("n")
    like = jax.ShapeDtypeStruct((batch, *shape), dtype)
    exported = jax.export.export(jax.jit(program(networks)), platforms=PLATFORMS)(like)
    about = {
        "task": run.config.task.name,
        "inputs": {"shape": ["n", *shape], "dtype": str(dtype)},
        "outputs": {"shape": [str(size) for size in exported.out_avals[0].shape]},
        "names": list(run.class_names),
        "platforms": list(PLATFORMS),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replaced(folder / "model.stablehlo") as file:
            file.write(exported.serialize())
        if len(networks) == 1:
            trees = {"params": state.params, **state.collections}
            arrays = {
                path: np.asarray(leaf, order="C") for path, leaf in leaves_by_path(trees).items()
            }
            with replaced(folder / "weights.safetensors") as file:
                file.write(save(arrays))
        with replaced(folder / "model.json") as file:
            file.write(json.dumps(about, indent=2).encode())
    except OSError as error:
        raise UserError(f"{str(folder)!r}: {error.strerror}") from None
