"""Choose what a run is tested on: a split of its own data, or other data."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from research import tasks
from research.data import identity, sources
from research.data.dataset import Arrays, Records
from research.data.feed import preprocess
from research.data.relabelling import relabelled
from research.errors import UserError, listed
from research.trained import chosen_steps, read_config, restored
from research.training import setup, without_data
from research.training.checkpoints import Checkpoints
from research.training.fitted import known_data
from research.training.setup import Setup
from research.training.state import TrainState

_SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Choice:
    """The user's choice of examples and checkpoint; None stands for the default.

    Attributes:
      split: 'train', 'validation' or 'test'.
      step: as for `research.load`.
      path: a file or folder of examples, or the place of the run's own data.
      data_dir: likewise, for data of the run's own kind.
    """

    split: str | None
    step: str | None
    path: str | None
    data_dir: str | None


@dataclasses.dataclass(frozen=True)
class Tested:
    """A run, its tested states, and the examples for the test."""

    run: Setup
    states: Sequence[TrainState]
    split: Arrays | Records
    name: str  # name of the split, for the screen
    trained: Callable[[], Setup]  # returns the setup with the run's training data


def read(workdir: Path, choice: Choice) -> Tested:
    """Return a run, its states at the chosen step, and the examples for the test.

    Raises:
      UserError: no run folder, no such checkpoint, or data that do not fit.
    """
    config = read_config(workdir)
    with Checkpoints(workdir, read_only=True) as checkpoints:
        known = known_data(checkpoints)
        if choice.path or choice.data_dir:
            located = _located(config, choice)
            if not (choice.split and _is_own(located, known)):
                return _on_new_data(workdir, choice, config, located, known, checkpoints)
            config = located
        return _on_own_data(workdir, choice, config, known, checkpoints)


def _on_own_data(
    workdir: Path, choice: Choice, config: ConfigDict, known: dict, checkpoints: Checkpoints
) -> Tested:
    """Test on a split of the run's own data, as they are now."""
    try:
        dataset = setup.loaded(config)
    except UserError as error:
        raise UserError(
            f"{error} (--path or --data_dir: where the data of {workdir} are)"
        ) from None
    dataset = relabelled(dataset, known.get("class_names", dataset.class_names))
    run = setup.from_config(config, workdir, dataset)
    name = choice.split or "test"
    if changed := identity.differences(known, run.fingerprint()):
        line = f"the data of {workdir} are not those it was trained on: {'; '.join(changed)}"
        # The official test split may be as it was. Other splits are cut from what has changed.
        touched = known if name != "test" else {"test": known.get("test")}
        if identity.differences(touched, run.fingerprint()):
            raise UserError(
                f"{line}; so the {name} split may hold examples it was trained on (allowed: the "
                "same data, or --path=FILE_OR_FOLDER, which tests all that is there)"
            )
        print(line)
    steps = chosen_steps(workdir, run, checkpoints, choice.step, print)
    return Tested(run, restored(checkpoints, run, steps), getattr(run, name), name, lambda: run)


def _on_new_data(
    workdir: Path,
    choice: Choice,
    config: ConfigDict,
    located: ConfigDict,
    known: dict,
    checkpoints: Checkpoints,
) -> Tested:
    """Test on all examples of other data, with labels by the run's class names."""
    where = choice.path or choice.data_dir
    *image, channels = known["train"]["shape"] if "train" in known else (0,)
    channels = channels if len(image) == 2 and channels in (1, 3) else 0
    dataset = sources.load(located.data, True, channels, tasks.kind(config), known.get("encoding"))
    dataset = relabelled(dataset, known.get("class_names", dataset.class_names))
    for line in dataset.messages:
        print(line)
    name, class_names = _chosen(choice, dataset.splits(), where), dataset.class_names
    split = dataset.splits()[name]
    whole = sum(known[split]["examples"] for split in _SPLITS if split in known)
    if len(split) == whole and _is_own(located, known):
        print(
            f"{where} holds the data of {workdir}, which was trained on {known['cut']['train']} of "
            f"these {whole} examples (--split=test: those that were held out)"
        )
    kinds = [known["train"]["dtype"], str(split.dtype)] if "train" in known else []
    if "uint8" in kinds and kinds[0] != kinds[1]:
        print(f"inputs are {kinds[1]} here, and were {kinds[0]} in training: of the same range?")
    run = without_data.setup(config, split, class_names, known, {})
    steps = chosen_steps(workdir, run, checkpoints, choice.step, print)
    statistics = checkpoints.weights(steps[0])["preprocessing"]
    split = sources.in_float32(dataset, statistics).splits()[name]
    run = without_data.setup(config, split, class_names, known, statistics)
    others = {other: len(rest) for other, rest in dataset.splits().items() if other != name}
    if others and not choice.split:
        counts = ", ".join(f"{count} {other}" for other, count in others.items())
        print(f"{where} also holds examples that are not tested: {counts} (--split chooses)")
    _tell_range(config, statistics, split, where)

    def trained() -> Setup:
        try:
            own = setup.from_config(config, workdir)
        except UserError:  # the data have moved, perhaps to the new location
            if not _is_own(located, known):
                raise
            own = setup.from_config(located, workdir)
        identity.demand_same(known, own.fingerprint(), str(workdir))
        return own

    label = f"{'all' if len(dataset.splits()) == 1 else name} of {where}"
    return Tested(run, restored(checkpoints, run, steps), split, label, trained)


def _tell_range(config: ConfigDict, statistics: dict, split: Arrays | Records, where: str) -> None:
    """Report inputs that are far from what the run was trained on, once preprocessed."""
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


def _located(config: ConfigDict, choice: Choice) -> ConfigDict:
    """Return the config with the location of its data."""
    config = config.copy_and_resolve_references()
    data = config.data
    path = choice.path or (None if sources.is_prepared(data.name) else choice.data_dir)
    if path:
        data.path = path
        data.name = sources.name_of(Path(path).expanduser(), tasks.kind(config))
    else:
        data.data_dir = choice.data_dir
    return config


def _is_own(config: ConfigDict, known: dict) -> bool:
    """Return whether the data of a config, cut as for training, have the known fingerprint."""
    if "train" not in known:  # nothing to compare with
        return False
    try:
        return not identity.differences(known, setup.fingerprint(config))
    except UserError:  # the data are too few to be cut, or of another kind
        return False


def _chosen(choice: Choice, splits: dict, where: str) -> str:
    """Return the name of the tested split of new data."""
    name = choice.split or ("test" if "test" in splits or len(splits) > 1 else next(iter(splits)))
    if name not in splits:
        alone = "; without --split all of it is tested" * (len(splits) == 1)
        raise UserError(
            f"--split = {name!r}: {where} has no such split (it has {listed(list(splits))}{alone})"
        )
    return name
