"""What all claims are measured with: one program for each static choice, its numbers traced."""

import copy
import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from research import models
from research.config import check_config, default_config, flatten
from research.data.feed import padded_batches, preprocess, to_device
from research.models.layers import Layers
from research.training import (
    advance,
    checks,
    ensembles,
    executors,
    hyperparameters,
    metrics,
    setup,
)
from research.training.state import init_state

data_dir = os.environ.get(
    "ONESTEP_TEST_DATA", str(Path(__file__).parents[2].parent / "shared" / "data")
)
SEEDS = tuple(range(1, 11))  # of what is judged, the same for all that is compared
CHOOSING = (11, 12, 13)  # of what rates and strengths are chosen by
_MOST_VALIDATION = 2000  # examples


@dataclasses.dataclass
class Claim:
    """A claim, and what was found."""

    claim: str  # in one line
    source: str
    measured: str  # what, on what
    table: Sequence[Sequence]  # its head first
    holds: bool | str  # or words between yes and no
    found: str  # in a sentence or two, with the figures
    picture: bytes = b""  # PNG

    def markdown(self, picture: str = "") -> str:
        """The claim as text; `picture` is the address that its picture has."""
        head, *rows = ([_cell(value) for value in row] for row in self.table)
        lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
        verdict = self.holds
        if not isinstance(verdict, str):
            verdict = "Holds" if verdict else "Does not hold here"
        return "\n".join(
            [
                f"### {self.claim}\n*{self.source}.* {self.measured}\n",
                *lines,
                f"\n**{verdict}.** {self.found}",
                *([f"\n![{self.claim}]({picture})"] if picture else []),
            ]
        )


class Net:
    """One static choice, compiled once; the numbers may differ from training to training.

    Attributes:
      run: what is trained.
    """

    def __init__(self, changes: dict, **splits: np.ndarray):
        config = default_config()
        config.batch_size, config.duration = 128, "20 epochs"  # where a claim says nothing else
        config.update_from_flattened_dict(changes)
        if config.data.name in ("mnist", "cifar10"):
            config.data.data_dir = data_dir
        self.run = _prepared(config, **splits)
        self._programs = {}  # by the number of training examples
        self._init = jax.jit(
            lambda numbers, statistics, inputs: init_state(
                config, numbers, statistics, inputs, self.run.task.outputs
            )
        )
        self._evaluate = jax.jit(
            executors.evaluator(ensembles.make_eval_step(config, self.run.task))
        )
        self._predict = jax.jit(ensembles.make_predict(config, self.run.task))

    def drawn(self, number: int, **changes) -> "Net":
        """The same programs over another draw of training examples: `data.split_seed`.

        `changes` are of what no program depends on: data of the same shapes, the duration.
        """
        other = copy.copy(self)
        other.__dict__.pop("_data", None)
        other.__dict__.pop("_batches", None)
        config = self.run.config.copy_and_resolve_references()
        config.update_from_flattened_dict(_dotted(changes) | {"data.split_seed": number})
        other.run = _prepared(config)
        return other

    @functools.cached_property
    def _data(self) -> dict:
        train = self.run.train
        return to_device(train.inputs, train.labels)

    @functools.cached_property
    def _batches(self) -> dict:
        return {}  # of a split

    @property
    def steps(self) -> int:
        """The length of the training."""
        return self.run.plan().total_steps

    def start(self, **numbers):
        """The state before the first step, with these traced numbers, as {'section__name': x}."""
        config = self.run.config.copy_and_resolve_references()
        config.update_from_flattened_dict(_dotted(numbers))
        numbers = hyperparameters.from_config(config, len(self.run.train))
        return self._init(numbers, self.run.statistics, self.run.probe())

    def train(self, steps: int | None = None, state=None, **numbers):
        """From the start, or from a state, which is used up; to the end, or for so many steps.

        Returns:
          The state, and the `StepMetrics` of these steps.
        """
        state = self.start(**numbers) if state is None else state
        size = len(self.run.train)
        if size not in self._programs:
            self._programs[size] = advance.resident_program(self.run, state)[0]
        steps = self.steps if steps is None else steps
        return self._programs[size](state, self._data, np.int32(steps))

    def steps_until(
        self, accuracy: float, every: int, most: int, window: int = 1, **numbers
    ) -> int:
        """How many steps it takes to reach a train accuracy; `most` where it takes more.

        The accuracy is that of the last `window` stretches of `every` steps together.
        """
        state, found = self.start(**numbers), []
        for step in range(every, most, every):
            state, of_steps = self.train(every, state)
            found.append(metrics.values(self.run.task, of_steps.sums)["accuracy"])
            if len(found) >= window and np.mean(found[-window:]) >= accuracy:
                return step
        return most

    def score(self, state, split: str = "test") -> dict[str, float]:
        """{'loss', 'accuracy'} over a split."""
        if split not in self._batches:
            arrays, size = getattr(self.run, split), self.run.config.compute.evaluation_batch_size
            self._batches[split] = jax.device_put(
                padded_batches(arrays.inputs, arrays.labels, size, 1)
            )
        return metrics.values(self.run.task, self._evaluate(state, self._batches[split]))

    def logits(self, state) -> np.ndarray:
        """(1, N, classes), over test."""
        return np.asarray(self._predict(state, self.run.test.inputs))

    def scores(self, seeds: Sequence[int] = SEEDS, split: str = "test", **numbers) -> dict:
        """{'loss', 'accuracy'} -> array (seeds,), after a training by each."""
        return stacked([self.score(self.train(seed=seed, **numbers)[0], split) for seed in seeds])

    def best(
        self, key: str, values: Sequence[float], metric: str = "accuracy",
        split: str = "validation", **numbers,
    ) -> float:  # fmt: skip
        """Which value of a number is best by a metric: 'accuracy' or 'loss' over a split.

        By the mean over the seeds for choosing; of values of equal accuracy by the loss.
        """

        def quality(value):
            found = self.scores(CHOOSING, split, **{key: value}, **numbers)
            return ranked(found, metric)

        return max(values, key=quality)

    def preactivations(self, state, inputs) -> tuple[list, list]:
        """What the hidden layers of an MLP or CNN give before and after the activation, in order.

        Args:
          state: of this net.
          inputs: raw (B, ...).
        """
        config, before, after = self.run.config.copy_and_resolve_references(), [], []
        config.model.activation_gain = False  # measures the activation: would be recorded too
        layers = Layers.from_config(config.model, state.hyperparameters["model"])

        def recorded(x):
            before.append(x)
            after.append(layers.activation(x))
            return after[-1]

        model = models.build(config, state.hyperparameters, self.run.task.outputs)
        model = model.clone(layers=dataclasses.replace(layers, activation=recorded))
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        model.apply(variables, preprocess(state.preprocessing, inputs), train=False)
        return before, after


def stacked(scores: Sequence[dict]) -> dict[str, np.ndarray]:
    """[{'loss', 'accuracy'}, ...] -> {'loss', 'accuracy'} -> array."""
    return {name: np.array([each[name] for each in scores]) for name in scores[0]}


def ranked(scores: dict[str, np.ndarray], metric: str) -> tuple:
    """How good the scores of several seeds are by a metric: larger is better, finite first."""
    accuracy, loss = scores["accuracy"].mean(), scores["loss"].mean()
    finite = bool(np.isfinite(loss))
    return (finite, -loss) if metric == "loss" else (finite, accuracy, -loss)


def least_steps(steps, values: Sequence[float], most: int) -> float:
    """Which value takes the fewest steps, in the mean over the seeds for choosing.

    Args:
      steps: (value, seed, most) -> steps, at most `most`.
      values: to choose from.
      most: steps.
    """
    best, total = values[0], np.inf
    for value in values:
        # A seed that takes as many steps as the best value's all together cannot win any more.
        cap = int(min(most, total))
        found = sum(steps(value, seed, cap) for seed in CHOOSING)
        if found < total:
            best, total = value, found
    return best


def rates(low: float, high: float, count: int) -> list[float]:
    """So many, log-spaced, to two digits."""
    return [float(f"{rate:.2g}") for rate in np.geomspace(low, high, count)]


def parameters(state) -> int:
    """How many numbers are trained."""
    return sum(leaf.size for leaf in jax.tree.leaves(state.params))


def percent(values, digits: int = 1) -> str:
    """'97.1 +- .3 %' of several, '97.1 %' of one."""
    values = 100 * np.atleast_1d(values)
    spread = f" +- {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread} %"


def forget() -> None:
    """Lets go of the programs of one claim."""
    jax.clear_caches()


def _cell(value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _dotted(numbers: dict) -> dict:
    return {key.replace("__", "."): value for key, value in numbers.items()}


_of_data: dict[str, setup.Setup] = {}


def _prepared(config, **splits) -> setup.Setup:
    """`setup.from_config`, but that data are loaded and preprocessing is fitted once.

    Args:
      config: the whole config.
      splits: Arrays to take for 'train', 'validation' or 'test', by the same preprocessing.
    """
    check_config(config)
    checks.check_names(config)
    key = repr([(k, v) for k, v in flatten(config).items() if k.startswith(("data.", "prep"))])
    if key not in _of_data:
        run = setup.from_config(config)
        validation = run.validation
        if len(validation) > _MOST_VALIDATION:
            spread = np.linspace(0, len(validation) - 1, _MOST_VALIDATION, dtype=int)
            validation = validation.subset(spread)
        _of_data[key] = dataclasses.replace(run, validation=validation)
    return dataclasses.replace(_of_data[key], config=config, **splits)
