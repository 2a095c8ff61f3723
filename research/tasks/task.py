"""Define tasks: pure functions between a model's outputs and the user's targets."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from research.errors import unknown_name
from research.names import bind, is_dotted, resolve
from research.tasks import losses, metrics
from research.tasks.metric import Metric, as_metric, mean


class Task(abc.ABC):
    """A task: targets, loss, metrics, predictions, and the figures of a test.

    `loss` and `metrics` run inside compiled steps. They see `targets`, what the network is to
    answer, which `targets` makes from the labels of the data. A subclass states the class
    attributes and overrides what differs.

    Attributes:
      kind: what labels are: 'classes' int32 (N,); 'labels' uint8 (N, L) of 0 and 1; 'numbers'
        float32 (N, K); 'tokens' int32 (N, T), the next token of each input token, -1 for padding.
      weighted: whether examples have unequal weights in the loss of training.
      losses: names of the functions of `tasks/losses.py` that fit; the first is the default.
      known_metrics: metrics that `config.metrics` may name.
      default_metrics: names of those that are always reported; the first is the objective.
      config: the whole config.
      names: of the outputs: classes, labels, target columns or tokens.
    """

    kind: ClassVar[str]
    weighted: bool = False
    losses: ClassVar[tuple[str, ...]]
    known_metrics: ClassVar[Mapping[str, Metric]]
    default_metrics: ClassVar[tuple[str, ...]]

    def __init__(self, config: ConfigDict, names: Sequence[str]):
        """Resolve the loss and the metrics; a user's own by their dotted names.

        Raises:
          UserError: a loss or a metric that is unknown or does not fit the task.
        """
        self.config, self.names = config, tuple(names)
        self._loss = self._resolved_loss()
        self._metrics = self._resolved_metrics(config)

    @property
    def outputs(self) -> int:
        """Return the number of outputs that a model needs."""
        return len(self.names)

    @property
    def objective(self) -> str:
        """Return the name of the metric that judges a run, unless the config names another."""
        return self.default_metrics[0]

    def higher_is_better(self, metric: str, key: str = "metric") -> bool:
        """Return the direction of a metric; `key` names the setting in errors.

        Raises:
          UserError: a metric that is not reported, or that has no direction.
        """
        directions = self.directions(self.config)
        if metric not in directions:
            raise unknown_name(key, metric, directions)
        return directions[metric]

    @classmethod
    def directions(cls, config: ConfigDict) -> dict[str, bool]:
        """Return whether more is better, for the loss and each reported metric with a direction.

        Raises:
          UserError: an unknown metric.
        """
        found = {"loss": False}
        for name, each in cls._resolved_metrics(config).items():
            if each.higher_is_better is not None:
                found[name] = each.higher_is_better
        return found

    def statistics(self, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return what is fitted on the labels of train; it is kept in the checkpoint."""
        return {}

    @abc.abstractmethod
    def targets(self, labels: jax.Array, statistics: Mapping) -> jax.Array:
        """Return the targets (B, ...) of labels (B, ...)."""

    def training_targets(self, targets: jax.Array, numbers: Mapping) -> jax.Array:
        """Return the targets that training uses, such as smoothed ones.

        Args:
          targets: from `targets`.
          numbers: the traced hyper-parameters.
        """
        return targets

    def loss(
        self, outputs: jax.Array, targets: jax.Array, statistics: Mapping, numbers: Mapping | None
    ) -> tuple[jax.Array, jax.Array | None]:
        """Return the loss of each example, float32 (B,), and its weight (B,); None: 1 each.

        The loss of a batch is the sum of losses over the sum of weights.

        Args:
          outputs: float32 (B, ...).
          targets: (B, ...).
          statistics: from `statistics`.
          numbers: the traced hyper-parameters; None in evaluation, which leaves out what only
            training has, such as weights of classes.
        """
        return self._loss(outputs, targets, numbers), None

    @property
    def guessing_loss(self) -> float:
        """Return about what the loss is of a network that knows nothing."""
        return 1.0

    def natural(self, values: jax.Array, statistics: Mapping) -> jax.Array:
        """Return outputs or targets in the unit of the user's targets."""
        return values

    def metrics(
        self, outputs: jax.Array, targets: jax.Array, mask: jax.Array, statistics: Mapping
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Return {name: (sum, weight)} of a batch for all metrics but the loss.

        Args:
          outputs: float32 (B, ...).
          targets: (B, ...).
          mask: bool (B,), False for padding.
          statistics: from `statistics`.
        """
        outputs, targets = (self.natural(values, statistics) for values in (outputs, targets))
        return {name: found(outputs, targets, mask) for name, found in self._metrics.items()}

    def finish(self, name: str, total, weight) -> dict[str, Any]:
        """Return the reported values, by name, of a sum and its weight.

        Sums of metrics that the task does not know, such as sown ones, are divided by their weight.
        """
        found = self._metrics.get(name)
        value = (found.finish if found else mean)(total, weight)
        values = value if isinstance(value, dict) else {name: value}
        return {name: _plain(value) for name, value in values.items()}

    def average(self, outputs: jax.Array) -> jax.Array:
        """Return the outputs of an ensemble: (members, B, ...) -> (B, ...)."""
        return outputs.mean(0)

    def answer(self, outputs: jax.Array) -> jax.Array:
        """Return `predictions` of one network's, or averaged, outputs (B, ...) inside a program."""
        return outputs

    def predictions(self, outputs: np.ndarray) -> np.ndarray:
        """Return what a user asks for: (networks, n, ...) -> float64 (n, ...).

        Probabilities of classes or labels, or values in the targets' unit.
        """
        return np.asarray(outputs, np.float64).mean(0)

    def chosen(self, predictions: np.ndarray) -> list[str]:
        """Return the answer for each of N predictions in a word; [] if they are numbers."""
        return []

    @abc.abstractmethod
    def score(self, outputs: np.ndarray, labels: np.ndarray, statistics: Mapping) -> dict:
        """Return a few numbers for each example of a test, computed in float64.

        Outputs of a whole split need not fit into memory; scores do.

        Args:
          outputs: float (networks, n, ...), in the unit of the user's targets.
          labels: (n, ...).
          statistics: from `statistics`.

        Returns:
          Arrays of n rows by name.
        """

    @abc.abstractmethod
    def figures(self, scores: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Return the figures of a test by name: floats, or dicts of floats by output."""

    def beside(self, scores: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Return figures that are reported once for a test, not for each member."""
        return {}

    def pictures(self, scores: Mapping[str, np.ndarray], split, load) -> dict[str, np.ndarray]:
        """Return the arrays that a report draws.

        Args:
          scores: of the whole split.
          split: the split.
          load: rows -> raw inputs.
        """
        return {}

    def _resolved_loss(self):
        name = self.config.loss.name or self.losses[0]
        if name not in self.losses and not is_dotted(name):
            raise unknown_name("config.loss.name", name, self.losses)
        function = resolve("config.loss.name", name, losses)

        def bound(outputs, targets, numbers):
            section = self.config.loss
            traced = {} if numbers is None else numbers["loss"]
            return bind(function, section, traced)(outputs, targets)

        return bound

    @classmethod
    def _resolved_metrics(cls, config: ConfigDict) -> dict[str, Metric]:
        found = {}
        for name in dict.fromkeys((*cls.default_metrics, *config.metrics)):
            if is_dotted(name):
                of_user = as_metric(resolve("config.metrics", name, metrics))
                found[of_user.name] = of_user
            elif name in cls.known_metrics:
                found[name] = cls.known_metrics[name]
            else:
                raise unknown_name("config.metrics", name, cls.known_metrics)
        return found


def log_mean_softmax(outputs: jax.Array) -> jax.Array:
    """Return logs of mean probabilities: logits (members, ..., C) -> (..., C), float32.

    log mean_m softmax(z_m) = logsumexp_m(log softmax(z_m)) - log(members).
    """
    logs = jax.nn.log_softmax(outputs.astype(jnp.float32))
    return jax.nn.logsumexp(logs, axis=0) - np.log(len(outputs))


def log_mean_sigmoid(outputs: jax.Array) -> jax.Array:
    """Return logits of mean probabilities: logits (members, ...) -> (...), float32."""
    outputs = outputs.astype(jnp.float32)
    yes = jax.nn.logsumexp(jax.nn.log_sigmoid(outputs), axis=0)
    no = jax.nn.logsumexp(jax.nn.log_sigmoid(-outputs), axis=0)
    return yes - no


def _plain(value):
    """Return a NumPy value as a float, or an array as nested lists."""
    array = np.asarray(value, np.float64)
    return float(array) if array.ndim == 0 else array.tolist()
