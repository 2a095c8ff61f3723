"""Export trained networks as one StableHLO program, by `jax.export`."""

import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save

from research.atomic import replaced
from research.errors import UserError
from research.optimizers.masks import leaves_by_path
from research.trained import Trained
from research.training import ensembles

PLATFORMS = ("cpu", "cuda", "tpu")


def program(trained: Trained) -> Callable[[jax.Array], jax.Array]:
    """Return the function raw inputs (N, ...) -> predictions, float32 (N, ...).

    It is `Trained.predict` in float32, with the weights as constants.
    """
    predicts = [
        (ensembles.make_predict(network.run.config, trained.task), network.state)
        for network in trained.networks
    ]

    def predict(inputs):
        outputs = jnp.concatenate([predict(state, inputs) for predict, state in predicts])
        if len(outputs) == 1:  # for some tasks the average of one output is not exact
            return trained.task.answer(outputs[0])
        return trained.task.answer(trained.task.average(outputs))

    return predict


def export(trained: Trained, folder: Path) -> None:
    """Write `model.stablehlo`, `weights.safetensors` and `model.json`.

    Args:
      trained: networks of equal inputs.
      folder: is made if it is missing.

    Raises:
      UserError: inputs have an offset, which a program in float32 cannot subtract; or the folder
        cannot be written.
    """
    run = trained.networks[0].run
    if any("offset" in network.run.statistics for network in trained.networks):
        raise UserError(
            "the run's inputs are so far from 0 that their offset is subtracted in float64, which "
            "an exported program cannot do (allowed: inputs whose values fit float32)"
        )
    shape, dtype = trained.input_shape, run.train.dtype
    dtype = dtype if dtype in (np.uint8, np.int32) else np.dtype(np.float32)
    (batch,) = jax.export.symbolic_shape("n")
    like = jax.ShapeDtypeStruct((batch, *shape), dtype)
    exported = jax.export.export(jax.jit(program(trained)), platforms=PLATFORMS)(like)
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
        if len(trained.networks) == 1:
            state = trained.networks[0].state
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
