"""Test a checkpoint, or an ensemble of several runs: python -m research.evaluate WORKDIR...

An ensemble averages the predicted probabilities of its runs. Flags choose the examples and the
checkpoint, such as --split=test --step=best. Data other than the run's are tested whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from research import cli
from research.errors import UserError, listed, unknown_name

if TYPE_CHECKING:
    import numpy as np

    from research.tested import Tested
    from research.training.setup import Setup
    from research.training.state import TrainState

_SPLIT = flags.DEFINE_string("split", None, "train, validation or test; default: test.")
_STEP = flags.DEFINE_string(
    "step",
    None,
    "last, best (on validation), a number, or snapshots: all that were kept; default: what the "
    "run reported.",
)
_PATH = flags.DEFINE_string(
    "path", None, "A file or folder of examples to test instead, or where the data are now."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Likewise, of the run's own kind: of TFDS the folder of prepared sets."
)
_RECALIBRATE = flags.DEFINE_boolean(
    "recalibrate", False, "Also with batch norm's statistics computed anew over the train split."
)
_SPLITS = ("train", "validation", "test")


def main(argv: list[str]) -> int:
    """Print the figures of the task over a split, for each network and for all together."""
    if len(argv) < 2:
        raise UserError("which run? usage: python -m research.evaluate WORKDIR...")
    if _SPLIT.value not in (None, *_SPLITS):
        raise unknown_name("--split", _SPLIT.value, _SPLITS)
    if _PATH.value and _DATA_DIR.value:
        raise UserError("--path and --data_dir name data both (allowed: either)")

    from research import platform
    from research.tested import Choice, read
    from research.training import evaluation, scores

    platform.enable_compilation_cache()
    platform.check_devices()
    choice = Choice(_SPLIT.value, _STEP.value, _PATH.value, _DATA_DIR.value)
    runs = {argument: read(Path(argument), choice) for argument in argv[1:]}
    (first_argument, first), *_ = runs.items()
    names, variants = [], []
    for argument, tested in runs.items():
        _check_same(first_argument, first, argument, tested)
        names += _names(argument, tested)
        variants += _variants(argument, tested)
    size = min(
        evaluation.part_size(tested.run.config, tested.split, tested.run.task, len(names))
        for tested in runs.values()
    )
    task, statistics = first.run.task, first.run.statistics.get("targets", {})
    parts = _predicted(list(runs.values()), size)
    each, together = scores.scored_in_parts(task, parts, statistics)
    for name, alone in zip(names, each, strict=True):
        _tell(name, first, alone)
    for name, variant in variants:
        parts = _predicted([variant], size)
        _tell(name, first, scores.scored_in_parts(task, parts, statistics)[1])
    if len(each) > 1:
        _tell(f"ensemble of {len(each)}", first, together)
    return 0


def _names(argument: str, tested: Tested) -> list[str]:
    """Return a name for each network of a run."""
    from research.training import ensembles

    names = []
    for state in tested.states:
        members = ensembles.names_of(state)
        for member in members:
            seed = f" seed {member['seed']}" if len(members) > 1 else ""
            names.append(f"{argument} step {member['step']}{seed}")
    return names


def _variants(argument: str, tested: Tested) -> list[tuple[str, Tested]]:
    """Return the averaged weights, and with --recalibrate the recalibrated states, by name."""
    from research.training import averages

    variants = []
    for state in tested.states:
        step = int(state.step)
        several = averages.kept(tested.run.config) and averages.of_several(state)
        if several and (average := _average(argument, tested, state)):
            name = f"averaged weights of {argument} step {step}"
            variants.append((name, dataclasses.replace(tested, states=[average])))
        if _RECALIBRATE.value:
            recalibrated = _recalibrated(tested.trained(), state)
            name = f"recalibrated {argument} step {step}"
            variants.append((name, dataclasses.replace(tested, states=[recalibrated])))
    return variants


def _predicted(runs: Sequence[Tested], size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the outputs of all networks of all runs, and the labels, `size` examples at a time."""
    import numpy as np

    from research.training import evaluation

    each = [
        evaluation.predicted(tested.run.config, tested.run.task, tested.states, tested.split, size)
        for tested in runs
    ]
    for parts in zip(*each, strict=True):
        yield np.concatenate([outputs for outputs, _ in parts]), parts[0][1]


def _average(argument: str, tested: Tested, state: TrainState) -> TrainState | None:
    """Return the averaged weights; None and a printed reason if their training data are missing."""
    from research.training import evaluation

    if not evaluation.recalibrated(tested.run, state):
        return evaluation.whole_average(tested.run, state)
    try:
        return evaluation.whole_average(tested.trained(), state)
    except UserError as error:
        print(f"averaged weights of {argument} are left out, they need its training data: {error}")
        return None


def _recalibrated(run: Setup, state: TrainState) -> TrainState:
    """Return the state with recalibrated statistics; print their effect on one batch."""
    import numpy as np

    from research.training import batch_statistics, recalibration

    if not state.batch_stats or run.config.ensemble.members > 1:
        raise UserError(
            "--recalibrate is for one network with running statistics (config.model.normalization "
            f"= {run.config.model.normalization!r}, config.ensemble.members = "
            f"{run.config.ensemble.members})"
        )
    batch_statistics.check_recalibration(run, "--recalibrate")
    anew = recalibration.recalibrate(run.config, run.task, state, run.train)
    batch = run.train.load(np.arange(min(max(2, run.config.batch_size), len(run.train))))
    own, running = recalibration.train_and_eval_loss(run.config, run.task, state, batch)
    _, after = recalibration.train_and_eval_loss(run.config, run.task, anew, batch)
    print(
        f"one batch of {len(batch)} from train: loss {own:.6f} by its own statistics, "
        f"{running:.6f} by the running ones ({running - own:+.6f}), "
        f"{after:.6f} by recalibrated ones ({after - own:+.6f})"
    )
    return anew


def _check_same(first_argument: str, first: Tested, argument: str, tested: Tested) -> None:
    """Refuse to average probabilities of different classes or different examples."""
    import numpy as np

    from research.data import identity

    if first.run.class_names != tested.run.class_names:
        counts = [
            f"{name} has {len(names)} ({listed(names)})"
            for name, names in (
                (first_argument, first.run.class_names),
                (argument, tested.run.class_names),
            )
        ]
        raise UserError(f"runs of other classes: {'; '.join(counts)}")
    a, b = (identity.of((), {"test": run.split}) for run in (first, tested))
    labels, others = first.split.labels, tested.split.labels
    # Inputs are compared only if both runs read them alike: images may have been resized, and
    # numbers may be differences to other offsets.
    alike = all(a["test"][key] == b["test"][key] for key in ("shape", "dtype")) and np.array_equal(
        *(run.run.statistics.get("offset", ()) for run in (first, tested))
    )
    if not np.array_equal(labels, others) or (alike and identity.differences(a, b)):
        raise UserError(
            f"runs of other data: the {tested.name} split of {argument} is not that of "
            f"{first_argument} ({len(others)} and {len(labels)} examples)"
        )


def _tell(name: str, tested: Tested, scored: dict) -> None:
    """Print the figures of the predictions for a split, from their scores."""
    from research.formats import shown, words

    task = tested.run.task
    figures = task.figures(scored) | task.beside(scored)
    line = ", ".join(
        f"{words(figure)} {shown(figure, value)}"
        for figure, value in figures.items()
        if isinstance(value, float)
    )
    print(f"{name}, {tested.name}: {line}, {len(tested.split)} examples")


if __name__ == "__main__":
    cli.run(main)
