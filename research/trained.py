"""Trained networks: predict, evaluate, write text, and export, without the training data.

Example:
  import research

  trained = research.load("runs/bn_adam")
  trained.predict(images)  # probabilities, float (N, classes)
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research import config as configuration
from research import run_folder
from research.config import trust
from research.data import sources, unlabelled
from research.data.checks import check_arrays
from research.data.dataset import Arrays, Dataset
from research.errors import UserError, unknown_name
from research.tasks import Task
from research.training import evaluation, generation, without_data
from research.training.checkpoints import Checkpoints
from research.training.fitted import known_data
from research.training.setup import Setup
from research.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Network:
    """A run's setup, one of its states, and how columns of a table become its inputs."""

    run: Setup
    state: TrainState
    encoding: dict | None = None


@dataclasses.dataclass(frozen=True)
class Trained:
    """One or more trained networks with the same outputs, whose predictions are averaged."""

    networks: tuple[Network, ...]

    @property
    def task(self) -> Task:
        """Return the task, which all networks share."""
        return self.networks[0].run.task

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the outputs: classes, labels, target columns or tokens."""
        return self.networks[0].run.class_names

    def read(self, paths: Sequence[str | Path]) -> unlabelled.Inputs:
        """Return the inputs in files, in the form that `predict` takes.

        Args:
          paths: image files or folders of images; one .npz file; or one .csv file with the columns
            of the training data.

        Raises:
          UserError: a path that is missing, or inputs of another form.
        """
        run = self.networks[0].run
        paths = [Path(path).expanduser() for path in paths]
        of_train = self.input_shape, run.train.dtype
        return unlabelled.read(paths, run.config.data, *of_train, self.networks[0].encoding)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of one raw input."""
        return self.networks[0].run.train.shape

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Return predictions for raw inputs (N, ...), in the form of the training inputs.

        Returns:
          Float64 (N, ...): probabilities of classes or labels, values in the targets' unit, or
          probabilities of the next tokens.

        Raises:
          UserError: inputs of another shape, or that are not finite.
        """
        outputs, _ = self._outputs(inputs, None)
        return self.task.predictions(outputs)

    def evaluate(self, inputs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        """Return the figures of the task by name.

        Args:
          inputs: raw inputs (N, ...), in the form of the training inputs.
          labels: labels (N, ...), in the form of the training labels; for classes their numbers or
            their names.

        Raises:
          UserError: inputs or labels that do not fit.
        """
        outputs, labels = self._outputs(inputs, labels)
        run = self.networks[0].run
        found = self.task.score(outputs, labels, run.statistics.get("targets", {}))
        return self.task.figures(found) | self.task.beside(found)

    def write(
        self, prompt: str, characters: int = 200, temperature: float = 1.0, seed: int = 0
    ) -> str:
        """Return the prompt with so many more characters, drawn one by one from a language model.

        Args:
          prompt: the start of the text; not empty.
          characters: the number of characters to add.
          temperature: divides the logits; 0 takes the most probable character.
          seed: of the draws.

        Raises:
          UserError: the network is no language model, or the prompt is empty.
        """
        (network,) = self.networks[:1]
        if self.task.kind != "tokens":
            raise UserError(f"this network predicts {self.task.kind}: it writes no text")
        return generation.text(network.run, network.state, prompt, characters, temperature, seed)

    def export(self, folder: str | Path) -> None:
        """Write the networks as a StableHLO program and a .safetensors file; see `research.export`.

        Raises:
          UserError: inputs that an exported program cannot take, or the folder cannot be written.
        """
        from research import exported

        networks = [(network.run, network.state) for network in self.networks]
        exported.export(networks, Path(folder))

    def _outputs(self, inputs, labels) -> tuple[np.ndarray, np.ndarray]:
        """Return the outputs of all networks, (networks, N, ...), and the labels."""
        each = [
            evaluation.predict_each(
                network.run.config,
                self.task,
                network.state,
                self._split(network.run, inputs, labels),
            )
            for network in self.networks
        ]
        return np.concatenate([outputs for outputs, _ in each]), each[0][1]

    def _split(self, run: Setup, inputs, labels) -> Arrays:
        inputs, stand_in = np.asarray(inputs), run.train.labels
        if inputs.shape[1:] != run.train.shape:
            raise UserError(
                f"inputs have shape {inputs.shape} (allowed, as in training: "
                f"{('N', *run.train.shape)})".replace("'", "")
            )
        if labels is None:
            labels = np.zeros((len(inputs), *stand_in.shape[1:]), stand_in.dtype)
        else:
            labels = self._as_trained(np.asarray(labels))
        dtype = np.float64 if self.task.kind == "numbers" else stand_in.dtype
        arrays = Arrays(inputs, np.asarray(labels, dtype))
        check_arrays(arrays, self.task.outputs, "inputs", self.task.kind)
        dataset = Dataset("inputs", None, arrays, run.class_names, kind=self.task.kind)
        return sources.in_float32(dataset, run.statistics).test

    def _as_trained(self, labels: np.ndarray) -> np.ndarray:
        """Return words as numbers of classes, and single numbers (N,) as (N, 1)."""
        if self.task.kind == "numbers" and labels.ndim == 1:
            return labels[:, None]
        if labels.dtype.kind != "U":
            return labels
        number = {name: label for label, name in enumerate(self.class_names)}
        unknown = next((word for word in labels.ravel().tolist() if word not in number), None)
        if unknown is not None:
            raise unknown_name("labels", unknown, self.class_names)
        return np.vectorize(number.__getitem__)(labels)


def load(*workdirs: str | Path, step: str | None = None, allow: Sequence[str] = ()) -> Trained:
    """Return the trained networks of run folders; the predictions of several are averaged.

    Args:
      workdirs: run folders.
      allow: packages of the user's own whose code the run folders may name.
      step: 'last', 'best' (on validation), 'snapshots', or a number; None: what the run reported.

    Raises:
      UserError: no run folder, no such checkpoint, or runs with other outputs.
    """
    trust.allow(allow)
    networks = [network for workdir in workdirs for network in _networks(Path(workdir), step)]
    names = {network.run.class_names for network in networks}
    if len(names) != 1:
        raise UserError(f"{', '.join(map(str, workdirs))}: runs of other classes or targets")
    return Trained(tuple(networks))


def _networks(workdir: Path, step: str | None) -> list[Network]:
    config = read_config(workdir)
    with Checkpoints(workdir, read_only=True) as checkpoints:
        known = known_data(checkpoints)
        run = without_data.setup(config, None, known.get("class_names", ()), known, {})
        steps = chosen_steps(workdir, run, checkpoints, step)
        statistics = checkpoints.weights(steps[0])["preprocessing"]
        run = dataclasses.replace(run, statistics=statistics)
        encoding = known.get("encoding")
        return [Network(run, state, encoding) for state in restored(checkpoints, run, steps)]


def read_config(workdir: Path):
    """Return the config of a run folder.

    Raises:
      UserError: it is no run folder, or its config cannot be read.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"{str(workdir)!r} is not a run folder (it has no config.json)")
    return configuration.read(path)


def chosen_steps(
    workdir: Path,
    run: Setup,
    checkpoints: Checkpoints,
    step: str | None,
    say: Callable[[str], None] = lambda line: None,
) -> list[int]:
    """Return the steps of the checkpoints that `step` stands for; see `load`.

    `say` receives a line if the choice is not obvious.

    Raises:
      UserError: there is no such checkpoint.
    """
    snapshots = run.plan().snapshots
    if step == "snapshots" and not snapshots:
        raise UserError(f"--step = 'snapshots': {workdir} keeps none (config.ensemble.snapshots)")
    if step:
        return list(snapshots) if step == "snapshots" else [checkpoints.find(step)]
    last, reported = checkpoints.find("last"), run_folder.reported_steps(workdir)
    if not reported:
        say(f"{workdir} is not finished: its last checkpoint is tested, of step {last}")
    elif reported != [last]:
        steps = ", ".join(map(str, reported))
        say(f"{workdir}: step {steps} is tested, as the run reported it (--step=last: {last})")
    return reported or [last]


def restored(checkpoints: Checkpoints, run: Setup, steps: Sequence[int]) -> list[TrainState]:
    """Return the states of these steps, each with the config that it was saved with."""
    # Traced numbers may have changed since that step.
    return [
        checkpoints.restore(
            lambda config, metadata: dataclasses.replace(run, config=config).init(), step
        )[0]
        for step in steps
    ]
