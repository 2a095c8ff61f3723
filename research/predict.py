"""Predict new inputs: python -m research.predict WORKDIR... INPUTS...

INPUTS are image files or folders of images, an .npz file, or a .csv file with the columns of the
training data; for a language model, the start of a text in quotes. The predictions of several runs
are averaged. Without --output they are printed as CSV.
"""

import csv
import sys
from pathlib import Path

from absl import flags

from research import cli
from research.errors import UserError

_OUTPUT = flags.DEFINE_string("output", None, "A .csv or .npz file; default: print CSV.")
_STEP = flags.DEFINE_string(
    "step", None, "last, best, snapshots, or a number; default: what the run reported."
)
_CHARACTERS = flags.DEFINE_integer("characters", 200, "Language model: how many to add.", 0)
_TEMPERATURE = flags.DEFINE_float(
    "temperature", 1.0, "Language model: divides the logits; 0 takes the most probable.", 0.0
)
_SEED = flags.DEFINE_integer("seed", 0, "Language model: of the draws.", 0)


def main(argv: list[str]) -> int:
    """Print, or write, the predictions."""
    arguments = [Path(argument) for argument in argv[1:]]
    runs = [path for path in arguments if (path / "config.json").is_file()]
    inputs = arguments[len(runs) :]
    if not runs or not inputs or runs != arguments[: len(runs)]:
        raise UserError(
            "which run, and which inputs? usage: python -m research.predict WORKDIR... INPUTS..."
        )
    if _OUTPUT.value and Path(_OUTPUT.value).suffix not in (".csv", ".npz"):
        raise UserError(f"--output = {_OUTPUT.value!r} (allowed: a .csv or .npz file)")
    from research import platform
    from research.trained import load

    platform.enable_compilation_cache()
    trained = load(*runs, step=_STEP.value)
    if trained.task.kind == "tokens":
        prompt = " ".join(argv[1 + len(runs) :])
        options = _CHARACTERS.value, _TEMPERATURE.value, _SEED.value
        print(trained.write(prompt, *options))
        return 0
    examples = trained.read(inputs)
    for line in examples.messages:
        print(line, file=sys.stderr)
    _write(examples.names, trained.class_names, trained.predict(examples.inputs), trained.task)
    return 0


def _write(names: list[str], outputs: tuple[str, ...], predictions, task) -> None:
    import numpy as np

    path = _OUTPUT.value
    if path and path.endswith(".npz"):
        arrays = {"predictions": predictions, "names": np.array(outputs), "inputs": np.array(names)}
        _to(path, lambda file: np.savez(file, **arrays), "wb")
        return
    chosen = task.chosen(predictions)
    head = ["input", *(["prediction"] if chosen else []), *outputs]
    rows = (
        [name, *([chosen[row]] if chosen else []), *(f"{value:.6g}" for value in predictions[row])]
        for row, name in enumerate(names)
    )

    def write(file):
        csv.writer(file, lineterminator="\n").writerows([head, *rows])

    if path:
        _to(path, write, "w")
    else:
        write(sys.stdout)


def _to(path: str, write, mode: str) -> None:
    try:
        with open(path, mode) as file:
            write(file)
    except OSError as error:
        raise UserError(f"--output = {path!r}: {error.strerror}") from None
    print(path)


if __name__ == "__main__":
    cli.run(main)
