"""Test a checkpoint, or several runs as one ensemble, whose predicted probabilities are averaged:
python -m research.evaluate WORKDIR... --split=test --step=best.
"""

from pathlib import Path

from absl import flags

from research import cli
from research.errors import UserError, unknown_name

_SPLIT = flags.DEFINE_string("split", "test", "train, validation or test.")
_STEP = flags.DEFINE_string(
    "step", "last", "last, best (on validation), a number, or snapshots: all that were kept."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where the data are now, if not where the run's config says."
)
_RECALIBRATE = flags.DEFINE_boolean(
    "recalibrate", False, "Also with batch norm's statistics computed anew over the train split."
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
    from research.training import averages, ensembles, evaluation

    platform.enable_compilation_cache()
    platform.check_devices()
    names, logits, first, beside = [], [], None, []
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
            if averages.kept(run.config) and averages.of_several(state):
                average = evaluation.whole_average(run, state)
                beside.append(
                    (f"averaged weights of {argument} step {int(state.step)}", run, average)
                )
            if _RECALIBRATE.value:
                beside.append(
                    (f"recalibrated {argument} step {int(state.step)}", run, _anew(run, state))
                )
        first = first or (argument, run, labels)
        _check_same(*first, argument, run, labels)
    logits = np.concatenate(logits)
    for name, one in zip(names, logits, strict=True):
        _tell(name, ensembles.figures(one[None], labels), len(labels))
    for name, run, state in beside:
        split = getattr(run, _SPLIT.value)
        found, _ = evaluation.predict_each(run.config, run.classes, state, split)
        _tell(name, ensembles.figures(found, labels), len(labels))
    if len(logits) > 1:
        _tell(f"ensemble of {len(logits)}", ensembles.figures(logits, labels), len(labels))
    return 0


def _read(workdir: Path):
    """A run, and its states at `--step`."""
    import dataclasses

    from research import config as configuration
    from research.training import setup
    from research.training.checkpoints import Checkpoints
    from research.training.fitted import fitted_before

    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"{str(workdir)!r} is not a run folder (it has no config.json)")
    config = configuration.read(path)
    if _DATA_DIR.value:
        config.data["path" if config.data.path else "data_dir"] = _DATA_DIR.value
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


def _anew(run, state):
    """The state with recalibrated statistics; tells what they do to one batch."""
    import numpy as np

    from research.training import batch_statistics, recalibration

    if not state.batch_stats or run.config.ensemble.members > 1:
        raise UserError(
            "--recalibrate is for one network with running statistics (config.model.normalization "
            f"= {run.config.model.normalization!r}, config.ensemble.members = "
            f"{run.config.ensemble.members})"
        )
    batch_statistics.check_recalibration(run, "--recalibrate")
    anew = recalibration.recalibrate(run.config, run.classes, state, run.train)
    batch = run.train.load(np.arange(min(max(2, run.config.batch_size), len(run.train))))
    own, running = recalibration.train_and_eval_loss(run.config, run.classes, state, batch)
    _, after = recalibration.train_and_eval_loss(run.config, run.classes, anew, batch)
    print(
        f"one batch of {len(batch)} from train: loss {own:.6f} by its own statistics, "
        f"{running:.6f} by the running ones ({running - own:+.6f}), "
        f"{after:.6f} by recalibrated ones ({after - own:+.6f})"
    )
    return anew


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
