"""What all claims are measured with: one program for each static choice, its numbers traced."""

import dataclasses
import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import numpy as np

from research import models
from research.config import check_config, default_config, flatten
from research.data.feed import preprocess
from research.models.layers import Layers
from research.training import advance, checks, evaluation, hyperparameters, setup
from research.training.state import init_state

data_dir = os.environ.get(
    "ONESTEP_TEST_DATA", str(Path(__file__).parents[2].parent / "shared" / "data")
)
SEEDS = (1, 2, 3)  # of what is reported; 0 is for choosing
_MOST_VALIDATION = 2000  # examples
_PROBE = 512


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
        config.update_from_flattened_dict(changes)
        if config.data.name in ("mnist", "cifar10"):
            config.data.data_dir = data_dir
        self.run = _prepared(config, **splits)
        fitted = config.model.fit_weights != "none"
        inputs = self.run.spread(_PROBE if fitted else 1)
        self._init = jax.jit(
            lambda numbers: init_state(
                config, numbers, self.run.statistics, inputs, self.run.classes
            )
        )
        self._evaluators = {}

    @functools.cached_property
    def _advance(self):
        return advance.over_arrays(self.run, self.start())

    @property
    def steps(self) -> int:
        """The length of the training."""
        return self.run.plan().total_steps

    def start(self, **numbers):
        """The state before the first step, with these traced numbers, as {'section__name': x}."""
        config = self.run.config.copy_and_resolve_references()
        config.update_from_flattened_dict(_dotted(numbers))
        return self._init(hyperparameters.from_config(config, len(self.run.train)))

    def train(self, steps: int | None = None, state=None, **numbers):
        """From the start, or from a state, which is used up; to the end, or for so many steps.

        Returns:
          The state, and the sums of the metrics over these steps.
        """
        state = self.start(**numbers) if state is None else state
        return self._advance(state, self.steps if steps is None else steps)

    def score(self, state, split: str = "test") -> dict[str, float]:
        """{'loss', 'accuracy'} over a split."""
        if split not in self._evaluators:
            self._evaluators[split] = evaluation.compiled_evaluator(
                self.run.config, self.run.classes, getattr(self.run, split), state
            )
        sums = jax.device_get(self._evaluators[split](state))
        count = len(getattr(self.run, split))
        return {"loss": float(sums["loss"]) / count, "accuracy": int(sums["correct"]) / count}

    def scores(self, seeds: Iterable[int] = SEEDS, split: str = "test", **numbers) -> dict:
        """{'loss', 'accuracy'} -> array (seeds,), after a training by each."""
        each = [self.score(self.train(seed=seed, **numbers)[0], split) for seed in seeds]
        return {name: np.array([one[name] for one in each]) for name in each[0]}

    def best(self, key: str, values: Sequence[float], **numbers) -> float:
        """Which value of a number has the best validation accuracy, by loss among equals."""

        def quality(value):
            state, _ = self.train(seed=0, **{key: value}, **numbers)
            found = self.score(state, "validation")
            finite = np.isfinite(found["loss"])
            return finite, found["accuracy"], -found["loss"]

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

        model = models.build(config, state.hyperparameters, self.run.classes)
        model = model.clone(layers=dataclasses.replace(layers, activation=recorded))
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        model.apply(variables, preprocess(state.preprocessing, inputs), train=False)
        return before, after


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
