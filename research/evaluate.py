"""Test a checkpoint: python -m research.evaluate WORKDIR --split=test --step=best."""

from pathlib import Path

from absl import flags

from research import cli
from research.errors import UserError, unknown_name

_SPLIT = flags.DEFINE_string("split", "test", "train, validation or test.")
_STEP = flags.DEFINE_string(
    "step", "last", "last, best (highest validation accuracy), or a number."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where the data are now, if not where the run's config says."
)
_SPLITS = ("train", "validation", "test")


def main(argv: list[str]) -> int:
    """Prints loss and accuracy of a checkpoint over a split."""
    if len(argv) != 2:
        raise UserError("which run? usage: python -m research.evaluate WORKDIR")
    if _SPLIT.value not in _SPLITS:
        raise unknown_name("--split", _SPLIT.value, _SPLITS)

    import dataclasses

    from research import config as configuration
    from research import platform
    from research.training import evaluation, setup
    from research.training.checkpoints import Checkpoints, fitted_before

    platform.enable_compilation_cache()
    workdir = Path(argv[1])
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"{str(workdir)!r} is not a run folder (it has no config.json)")
    config = configuration.read(path)
    if _DATA_DIR.value:
        config.data.data_dir = _DATA_DIR.value
    run = setup.from_config(config, fitted_before(workdir, config))
    with Checkpoints(workdir, read_only=True) as checkpoints:
        state, _ = checkpoints.restore(
            # Its own config: traced numbers may have been others at that step.
            lambda config, metadata: dataclasses.replace(run, config=config).init(),
            checkpoints.find(_STEP.value),
        )
    result = evaluation.evaluate(config, run.classes, state, getattr(run, _SPLIT.value))
    print(
        f"{workdir} step {int(state.step)}, {_SPLIT.value}: accuracy {result['accuracy']:.4%}, "
        f"loss {result['loss']:.6f}, {result['examples']} examples"
    )
    return 0


if __name__ == "__main__":
    cli.run(main)
