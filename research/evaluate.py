"""Test a checkpoint, or an ensemble of several runs: python -m research.evaluate WORKDIR...

An ensemble averages the predicted probabilities of its runs. Flags choose the examples and the
checkpoint, such as --split=test --step=best. Data other than the run's are tested whole.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from research import cli
from research.errors import UserError, listed, unknown_name

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


@dataclasses.dataclass(frozen=True)
class _Tested:
    """A run, its tested states, and the examples for the test."""

    run: Any  # a Setup
    states: list
    split: Any  # Arrays or Records
    name: str  # name of the split, for the screen
    trained: Callable[[], Any]  # the Setup with the run's training data


def main(argv: list[str]) -> int:
    """Print the figures of the task over a split, for each network and for all together."""
    if len(argv) < 2:
        raise UserError("which run? usage: python -m research.evaluate WORKDIR...")
    if _SPLIT.value not in (None, *_SPLITS):
        raise unknown_name("--split", _SPLIT.value, _SPLITS)
    if _PATH.value and _DATA_DIR.value:
        raise UserError("--path and --data_dir name data both (allowed: either)")

    from research import platform
    from research.training import averages, ensembles, evaluation, scores

    platform.enable_compilation_cache()
    platform.check_devices()
    runs = {argument: _read(Path(argument)) for argument in argv[1:]}
    (first, tested), *_ = runs.items()
    names, beside = [], []
    for argument, of in runs.items():
        _check_same(first, tested, argument, of)
        for state in of.states:
            members = ensembles.names_of(state)
            names += [
                f"{argument} step {name['step']}"
                + (f" seed {name['seed']}" if len(members) > 1 else "")
                for name in members
            ]
            several = averages.kept(of.run.config) and averages.of_several(state)
            if several and (average := _average(argument, of, state)):
                name = f"averaged weights of {argument} step {int(state.step)}"
                beside.append((name, dataclasses.replace(of, states=[average])))
            if _RECALIBRATE.value:
                name = f"recalibrated {argument} step {int(state.step)}"
                anew = _anew(of.trained(), state)
                beside.append((name, dataclasses.replace(of, states=[anew])))
    sizes = [
        evaluation.part_size(of.run.config, of.split, of.run.task, len(names))
        for of in runs.values()
    ]
    task, statistics = tested.run.task, tested.run.statistics.get("targets", {})
    parts = _predicted(list(runs.values()), min(sizes))
    each, together = scores.scored_in_parts(task, parts, statistics)
    for name, one in zip(names, each, strict=True):
        _tell(name, tested, one)
    for name, of in beside:
        parts = _predicted([of], min(sizes))
        _tell(name, tested, scores.scored_in_parts(task, parts, statistics)[1])
    if len(each) > 1:
        _tell(f"ensemble of {len(each)}", tested, together)
    return 0


def _predicted(runs: list[_Tested], size: int):
    """Yield the outputs of all networks of all runs, and the labels, `size` examples at a time."""
    import numpy as np

    from research.training import evaluation

    each = [
        evaluation.predicted(of.run.config, of.run.task, of.states, of.split, size) for of in runs
    ]
    for parts in zip(*each, strict=True):
        yield np.concatenate([outputs for outputs, _ in parts]), parts[0][1]


def _read(workdir: Path) -> _Tested:
    """Return a run, its states at `--step`, and the examples for the test."""
    from research.trained import read_config
    from research.training.checkpoints import Checkpoints
    from research.training.fitted import known_data

    config, known = read_config(workdir), known_data(workdir)
    with Checkpoints(workdir, read_only=True) as checkpoints:
        if _PATH.value or _DATA_DIR.value:
            there = _located(config)
            own = _SPLIT.value and _is_own(there, known)
            if not own:
                return _on_new_data(workdir, config, there, known, checkpoints)
            config = there
        return _on_own_data(workdir, config, known, checkpoints)


def _on_own_data(workdir: Path, config, known: dict, checkpoints) -> _Tested:
    """Test on a split of the run's own data, as they are now."""
    from research.data import identity
    from research.data.relabelling import relabelled
    from research.trained import chosen_steps, restored
    from research.training import setup

    try:
        dataset = setup.loaded(config)
    except UserError as error:
        raise UserError(
            f"{error} (--path or --data_dir: where the data of {workdir} are)"
        ) from None
    dataset = relabelled(dataset, known.get("class_names", dataset.class_names))
    run = setup.from_config(config, workdir, dataset)
    name = _SPLIT.value or "test"
    if changed := identity.differences(known, run.fingerprint()):
        told = f"the data of {workdir} are not those it was trained on: {'; '.join(changed)}"
        # The official test split may be as it was. Other splits are cut from what has changed.
        touched = known if name != "test" else {"test": known.get("test")}
        if identity.differences(touched, run.fingerprint()):
            raise UserError(
                f"{told}; so the {name} split may hold examples it was trained on (allowed: the "
                "same data, or --path=FILE_OR_FOLDER, which tests all that is there)"
            )
        print(told)
    steps = chosen_steps(workdir, run, checkpoints, _STEP.value, print)
    return _Tested(run, restored(checkpoints, run, steps), getattr(run, name), name, lambda: run)


def _on_new_data(workdir: Path, config, there, known: dict, checkpoints) -> _Tested:
    """Test on all examples of other data, with labels by the run's class names."""
    from research import tasks
    from research.data import identity, sources
    from research.data.relabelling import relabelled
    from research.trained import chosen_steps, restored
    from research.training import setup

    where = _PATH.value or _DATA_DIR.value
    *image, channels = known["train"]["shape"] if "train" in known else (0,)
    channels = channels if len(image) == 2 and channels in (1, 3) else 0
    dataset = sources.load(there.data, True, channels, tasks.kind(config), known.get("encoding"))
    dataset = relabelled(dataset, known.get("class_names", dataset.class_names))
    for line in dataset.messages:
        print(line)
    name, class_names = _chosen(dataset.splits(), where), dataset.class_names
    split = dataset.splits()[name]
    whole = sum(known[of]["examples"] for of in _SPLITS if of in known)
    if len(split) == whole and _is_own(there, known):
        print(
            f"{where} holds the data of {workdir}, which was trained on {known['cut']['train']} of "
            f"these {whole} examples (--split=test: those that were held out)"
        )
    kinds = [known["train"]["dtype"], str(split.dtype)] if "train" in known else []
    if "uint8" in kinds and kinds[0] != kinds[1]:
        print(f"inputs are {kinds[1]} here, and were {kinds[0]} in training: of the same range?")
    run = setup.untrained(config, split, class_names, known, {})
    steps = chosen_steps(workdir, run, checkpoints, _STEP.value, print)
    statistics = checkpoints.weights(steps[0])["preprocessing"]
    split = sources.in_float32(dataset, statistics).splits()[name]
    run = setup.untrained(config, split, class_names, known, statistics)
    others = {of: len(other) for of, other in dataset.splits().items() if of != name}
    if others and not _SPLIT.value:
        told = ", ".join(f"{count} {of}" for of, count in others.items())
        print(f"{where} also holds examples that are not tested: {told} (--split chooses)")
    _tell_range(config, statistics, split, where)

    def trained():
        try:
            own = setup.from_config(config, workdir)
        except UserError:  # the data have moved, perhaps to the new location
            if not _is_own(there, known):
                raise
            own = setup.from_config(there, workdir)
        identity.demand_same(known, own.fingerprint(), str(workdir))
        return own

    told = f"{'all' if len(dataset.splits()) == 1 else name} of {where}"
    return _Tested(run, restored(checkpoints, run, steps), split, told, trained)


def _tell_range(config, statistics: dict, split, where: str) -> None:
    """Report inputs that are far from what the run was trained on, once preprocessed."""
    import numpy as np

    from research.data.feed import preprocess

    if config.preprocessing.name == "none":
        return
    rows = np.linspace(0, len(split) - 1, min(len(split), 256), dtype=int)
    seen = np.asarray(preprocess(statistics, split.load(rows).inputs), np.float64)
    size, deviation = np.sqrt(np.square(seen).mean()), np.sqrt(seen.var(0).mean())
    if size > 10 or (len(rows) >= 10 and deviation < 0.1):  # fewer may be alike by chance
        print(
            f"inputs of {where}, preprocessed as the run's, have a root mean square of {size:.3g} "
            f"and a standard deviation of {deviation:.3g} (usual: 1): of the same unit and range?"
        )


def _located(config):
    """Return the config with the location of its data from `--path` or `--data_dir`."""
    from research import tasks
    from research.data import sources

    config = config.copy_and_resolve_references()
    data = config.data
    path = _PATH.value or (None if sources.is_prepared(data.name) else _DATA_DIR.value)
    if path:
        data.path = path
        data.name = sources.name_of(Path(path).expanduser(), tasks.kind(config))
    else:
        data.data_dir = _DATA_DIR.value
    return config


def _is_own(config, known: dict) -> bool:
    """Return whether the data of a config, cut as for training, have the known fingerprint."""
    from research.data import identity
    from research.training import setup

    if "train" not in known:  # nothing to compare with
        return False
    try:
        return not identity.differences(known, setup.fingerprint(config))
    except UserError:  # the data are too few to be cut, or of another kind
        return False


def _chosen(splits: dict, where: str) -> str:
    """Return the name of the tested split of new data."""
    name = _SPLIT.value or ("test" if "test" in splits or len(splits) > 1 else next(iter(splits)))
    if name not in splits:
        alone = "; without --split all of it is tested" * (len(splits) == 1)
        raise UserError(
            f"--split = {name!r}: {where} has no such split (it has {listed(list(splits))}{alone})"
        )
    return name


def _average(argument: str, tested: _Tested, state):
    """Return the averaged weights; None and a printed reason if their training data are missing."""
    from research.training import evaluation

    if not evaluation.recalibrated(tested.run, state):
        return evaluation.whole_average(tested.run, state)
    try:
        return evaluation.whole_average(tested.trained(), state)
    except UserError as error:
        print(f"averaged weights of {argument} are left out, they need its training data: {error}")
        return None


def _anew(run, state):
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


def _check_same(one: str, tested: _Tested, another: str, other: _Tested) -> None:
    """Refuse to average probabilities of different classes or different examples."""
    import numpy as np

    from research.data import identity

    if tested.run.class_names != other.run.class_names:
        counts = [
            f"{where} has {len(names)} ({listed(names)})"
            for where, names in ((one, tested.run.class_names), (another, other.run.class_names))
        ]
        raise UserError(f"runs of other classes: {'; '.join(counts)}")
    a, b = (identity.of((), {"test": of.split}) for of in (tested, other))
    labels, others = tested.split.labels, other.split.labels
    # Images that two runs have resized otherwise are the same examples, and so are differences to
    # other offsets.
    alike = all(a["test"][key] == b["test"][key] for key in ("shape", "dtype")) and np.array_equal(
        *(of.run.statistics.get("offset", ()) for of in (tested, other))
    )
    if not np.array_equal(labels, others) or (alike and identity.differences(a, b)):
        raise UserError(
            f"runs of other data: the {other.name} split of {another} is not that of {one} "
            f"({len(others)} and {len(labels)} examples)"
        )


def _tell(what: str, tested: _Tested, found: dict) -> None:
    """Print the figures of the predictions for a split, from their scores."""
    from research.formats import shown, words

    task = tested.run.task
    figures = task.figures(found) | task.beside(found)
    told = ", ".join(
        f"{words(name)} {shown(name, value)}"
        for name, value in figures.items()
        if isinstance(value, float)
    )
    print(f"{what}, {tested.name}: {told}, {len(tested.split)} examples")


if __name__ == "__main__":
    cli.run(main)
