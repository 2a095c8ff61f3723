"""Export trained networks for programs without this package: python -m research.export WORKDIR...

Writes to WORKDIR/export, or --output:

- `model.stablehlo`: the network with its preprocessing and weights, by `jax.export`. It takes raw
  inputs (N, ...) for any N, and returns what `research.predict` does, in float32. To run it:

    exported = jax.export.deserialize(open("model.stablehlo", "rb").read())
    predictions = exported.call(inputs)

- `weights.safetensors`: the weights alone, by path, for other frameworks; of one network.
- `model.json`: shapes, dtypes, and the names of the outputs.
"""

from pathlib import Path

from absl import flags

from research import cli
from research.errors import UserError

_OUTPUT = flags.DEFINE_string("output", None, "The folder; default: WORKDIR/export.")
_STEP = flags.DEFINE_string(
    "step", None, "last, best, snapshots, or a number; default: what the run reported."
)


def main(argv: list[str]) -> int:
    """Write the files, check them against the network, and print their folder."""
    if len(argv) < 2:
        raise UserError("which run? usage: python -m research.export WORKDIR...")
    from research import platform
    from research.trained import load

    platform.enable_compilation_cache()
    folder = Path(_OUTPUT.value or Path(argv[1]) / "export")
    load(*argv[1:], step=_STEP.value).export(folder)
    print(folder)
    return 0


if __name__ == "__main__":
    cli.run(main)
