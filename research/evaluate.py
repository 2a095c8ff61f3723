"""Test a checkpoint, or several runs as one ensemble, whose predicted probabilities are averaged:
python -m research.evaluate WORKDIR... --split=test --step=best.
"""

from pathlib import Path

from absl import flags

from research import cli
from research.errors import UserError, unknown_name

_SPLIT = flags.DEFINE_string("split", "test", "train, validation or test.")
_STEP = flags.DEFINE_string(
    "step", "last", "last, best (highest validation accuracy), a number, or snapshots: all kept."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where the data are now, if not where the run's config says."
)
_SPLITS = ("train", "validation", "test")


def main(argv: list[str]) -> int:
    """Prints accuracy, log loss and calibration error over a split: of each network, and of all."""
    if len(argv) < 2:
        raise UserError("which run? usage: python -m research.evaluate WORKDIR...")
    if _SPLIT.value not in _SPLITS:
        raise unknown_name("--split", _SPLIT.value, _SPLITS)

    import numpy as np

    from research import platform
    from research.training import ensembles, evaluation

    platform.enable_compilation_cache()
    names, logits, first = [], [], None
    for argument in argv[1:]:
        run, states = _read(Path(argument))
        split = getattr(run, _SPLIT.value)
        for state in states:
            found, labels = evaluation.predict_each(run.config, run.classes, state, split)
            logits.append(found)
            members = ensembles.names_of(state)
            names += [
                f"{argument} step {name['step']}"
                + (f" seed {name['seed']}" if len(members) > 1 else "")
                for name in members
            ]
        first = first or (argument, run, labels)
        _check_same(*first, argument, run, labels)
    logits = np.concatenate(logits)
    for name, one in zip(names, logits, strict=True):
        _tell(name, ensembles.figures(one[None], labels), len(labels))
    if len(logits) > 1:
        _tell(f"ensemble of {len(logits)}", ensembles.figures(logits, labels), len(labels))
    return 0


def _read(workdir: Path):
    """A run, and its states at `--step`."""
    import dataclasses

    from research import config as configuration
    from research.training import setup
    from research.training.checkpoints import Checkpoints, fitted_before

    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"{str(workdir)!r} is not a run folder (it has no config.json)")
    config = configuration.read(path)
    if _DATA_DIR.value:
        config.data.data_dir = _DATA_DIR.value
    run = setup.from_config(config, fitted_before(workdir, config))
    snapshots = run.plan().snapshots
    if _STEP.value == "snapshots" and not snapshots:
        raise UserError(f"--step = 'snapshots': {workdir} keeps none (config.ensemble.snapshots)")
    with Checkpoints(workdir, read_only=True) as checkpoints:
        steps = snapshots if _STEP.value == "snapshots" else [checkpoints.find(_STEP.value)]
        # Its own config: traced numbers may have been others at that step.
        states = [
            checkpoints.restore(
                lambda config, metadata: dataclasses.replace(run, config=config).init(), step
            )[0]
            for step in steps
        ]
    return run, states


def _check_same(one: str, run, labels, another: str, other, others) -> None:
    """Probabilities can be averaged where they are of the same classes and the same examples."""
    import numpy as np

    if run.class_names != other.class_names:
        counts = [
            f"{where} has {len(which.class_names)} ({', '.join(which.class_names[:3])} ...)"
            for where, which in ((one, run), (another, other))
        ]
        raise UserError(f"runs of other classes: {', '.join(counts)}")
    if not np.array_equal(labels, others):
        raise UserError(
            f"runs of other data: the {_SPLIT.value} split of {another} is not that of {one} "
            f"({len(others)} and {len(labels)} examples)"
        )


def _tell(what: str, found: dict[str, float], examples: int) -> None:
    print(
        f"{what}, {_SPLIT.value}: accuracy {found['accuracy']:.4%}, loss {found['loss']:.6f}, "
        f"calibration error {found['ece']:.4f}, {examples} examples"
    )


if __name__ == "__main__":
    cli.run(main)
