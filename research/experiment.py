"""Train a network from Python: `fit(config, ...)` does what `python -m research.main` does.

Example:
  import research

  config = research.default_config()
  config.optimizer.learning_rate = 3e-3
  result = research.fit(config, data=(inputs, labels))
  result.summary["test_accuracy"]
  result.predict(new_inputs)
"""

import contextlib
import dataclasses
import functools
import json
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optax
from ml_collections import ConfigDict

from research import config as configuration
from research import platform, processes, run_folder, tasks
from research.config import trust
from research.data import sources
from research.data.dataset import Dataset
from research.errors import UserError
from research.formats import shown, words
from research.names import name_of
from research.reporting import page
from research.reporting.messages import Messages
from research.reporting.records import read_metrics
from research.session import Session
from research.tasks import Task
from research.trained import Network, Trained, load
from research.training import (
    averages,
    batch_statistics,
    convergence,
    early_stopping,
    final_test,
    interruption,
    setup,
)
from research.training.checkpoints import Checkpoints
from research.training.plan import Plan
from research.training.setup import Setup
from research.training.state import TrainState

DONE, DIVERGED, INTERRUPTED = 0, 3, 130  # exit codes of the command


@dataclasses.dataclass(frozen=True)
class Result(Trained):
    """A run after training.

    Attributes:
      networks: the tested network; () if the run diverged, or is finished and its checkpoints are
        gone.
      workdir: the run folder.
      summary: the contents of `summary.json`; {} if the run was interrupted.
      exit_code: 0 done, 3 diverged, 130 interrupted.
    """

    workdir: Path
    summary: dict[str, Any]
    exit_code: int = DONE

    @property
    def history(self) -> list[dict]:
        """Return the records of `metrics.jsonl`, in order of steps."""
        return read_metrics(self.workdir)

    def report(self) -> Path:
        """Draw the report; return its path."""
        path = self.workdir / "report.html"
        page.write_report([self.workdir], path)
        return path


class Experiment:
    """One run of a config in a folder.

    Args:
      config: the whole config; `default_config()` has all keys.
      workdir: the run folder; None: a new temporary one.
      data: the data, instead of those of `config.data`: (inputs, labels), from which a test and a
        validation split are cut; arrays by name, such as 'x_train', as in an .npz file; or a
        `Dataset`.
      model: instead of `config.model.name`: a Flax module called with (x, train), or a class or
        function that makes one and takes `outputs`.
      task: instead of `config.task.name`: a subclass of `Task`.
      loss: instead of `config.loss.name`: (outputs, targets) -> the loss of each example.
      optimizer: instead of `config.optimizer.name`: an optax transformation, whose learning rate is
        its own; or a function of `learning_rate` that makes one, which gets that of the config.
      metrics: besides those of `config.metrics`: functions (outputs, targets, mask) -> (sum,
        weight), such as `research.metric` makes.
    """

    def __init__(
        self,
        config: ConfigDict,
        workdir: str | Path | None = None,
        data: Dataset | Mapping | tuple | None = None,
        *,
        model: Any = None,
        task: type[Task] | None = None,
        loss: Callable | None = None,
        optimizer: Any = None,
        metrics: Sequence[Callable] = (),
    ):
        self._started = time.perf_counter()
        platform.enable_compilation_cache()
        config = _with_objects(config, model, task, loss, optimizer, metrics)
        trust.allow_named(configuration.flatten(config))
        self._config = config
        self.workdir = Path(workdir or tempfile.mkdtemp(prefix="onestep-")).expanduser()
        with interruption.at_once():
            platform.join_processes()
            processes.demand_alike("--configs", config.to_json_best_effort())
            processes.demand_alike("--workdirs", str(self.workdir) if workdir else "")
        self._messages = Messages(self.workdir, speaking=processes.first())
        self._dataset = data
        if data is not None:
            self._dataset = sources.given(config.data, data, tasks.kind(config))

    def tell(self, lines: Iterable[str]) -> None:
        """Print lines, in the first of several processes."""
        for line in lines:
            self._messages.tell(line)

    def fit(self) -> Result:
        """Train to the end of the config's duration, or on from the last checkpoint.

        Raises:
          UserError: anything in the config, the data or the folder that cannot be trained on.
        """
        summary = self._finished()
        if summary:
            self._messages.tell(f"{self.workdir} is finished")
            for key, value in summary.items():
                if not isinstance(value, (dict, list)):  # these are for programs
                    self._messages.tell(f"  {key}: {value}")
            return Result(self._networks(), self.workdir, summary)
        run = self._prepared()
        first, plan = run.init(), run.plan()
        with contextlib.ExitStack() as folder:
            opened = run_folder.opened(self.workdir, run.config, plan.total_steps, run.fingerprint)
            processes.alone(lambda: folder.enter_context(opened))
            checkpoints = folder.enter_context(
                Checkpoints(
                    self.workdir,
                    failed=lambda line: session.failed(line),
                    snapshots=plan.snapshots,
                )
            )
            with interruption.noted(signal.SIGINT, signal.SIGTERM) as stopped:
                session = Session(
                    run, plan, self.workdir, checkpoints, self._messages, stopped, self._started
                )
                state = session.train(first)
                checkpoints.wait()
            if state is None:
                return self._diverged(run, session)
            step = int(state.step)
            stopped_early = step < plan.total_steps and session.enough
            if stopped_early:
                self._tell_early(run, session, step, plan.total_steps)
            elif step < plan.total_steps:
                self._messages.record("interrupted", step)
                self._messages.warn(f"interrupted at step {step}; the same command resumes")
                return Result((Network(run, state),), self.workdir, {}, INTERRUPTED)
            with interruption.at_once(stopped):  # also of a signal that came with the last steps
                state, tested = self._tested(run, session, plan, checkpoints, state)
            summary = {
                **tested,
                "objective": run.task.objective,
                "tested_step": int(state.step),
                "stopped_early": stopped_early,
                **session.costs(step),
                "data": run.fingerprint(),
            }
            processes.alone(lambda: run_folder.finish(self.workdir, summary))
        self._tell_result(run, summary)
        return Result((Network(run, state),), self.workdir, summary)

    def _finished(self) -> dict | None:
        with interruption.at_once():
            return run_folder.finished(
                self.workdir,
                self._config,
                lambda: setup.fingerprint(self._config, self._dataset),
                self._messages.tell,
            )

    def _networks(self) -> tuple[Network, ...]:
        """Return the networks of a finished run; () if its checkpoints are gone."""
        try:
            return load(self.workdir).networks
        except UserError as error:
            self._messages.warn(f"warning: the trained networks cannot be loaded: {error}")
            return ()

    def _prepared(self) -> Setup:
        """Load the data, fit preprocessing, check all, and tell what is known."""
        with interruption.at_once():
            check = functools.partial(run_folder.check_data, self.workdir, self._config)
            run = setup.from_config(self._config, self.workdir, self._dataset, check)
            processes.demand_alike("data", json.dumps(run.fingerprint()))
            for line in run.description():
                self._messages.tell(line)
            for line in run.warnings():
                self._messages.warn(f"warning: {line}")
            run.sharding.check_batch(run.config, len(run.train))
            batch_statistics.check(run)
        return run

    def _tested(
        self,
        run: Setup,
        session: Session,
        plan: Plan,
        checkpoints: Checkpoints,
        last: TrainState,
    ) -> tuple[TrainState, dict]:
        """Return the tested state and its figures: of the best step after early stopping."""
        state = last
        restore = functools.partial(checkpoints.restore_each, lambda *_: last)
        snapshots = list(restore(plan.snapshots[:-1], self._messages.warn))
        if session.stops_early:
            state = next(restore(checkpoints.best_first(), self._messages.warn), last)
        return state, final_test.test_and_picture(run, state, self.workdir, snapshots)

    def _diverged(self, run: Setup, session: Session) -> Result:
        processes.alone(lambda: run_folder.end_diverged(self.workdir, session.divergence))
        self._messages.tell(f"{self.workdir}/report.html")
        return Result((), self.workdir, session.divergence, DIVERGED)

    def _tell_early(self, run: Setup, session: Session, step: int, total: int) -> None:
        self._messages.record("stopped early", step)
        line = early_stopping.message(run.config, session.objective, session.records, step, total)
        self._messages.tell(line)

    def _tell_result(self, run: Setup, summary: Mapping) -> None:
        config = run.config
        if averages.kept(config) and "averaged_test_loss" not in summary:
            self._messages.tell(
                f"no weights were averaged by step {summary['tested_step']}: config.averaging.name "
                f"= {config.averaging.name!r}, config.averaging.start = {config.averaging.start!r},"
                f" config.averaging.every = {config.averaging.every!r}"
            )
        split, guessing = early_stopping.deciding_split(config), run.task.guessing_loss
        fall = convergence.still_falling(read_metrics(self.workdir), split, guessing)
        if fall and not summary["stopped_early"]:
            self._messages.tell(convergence.told(*fall))
        share = summary.get("test_majority_share")
        if share is not None and summary["test_accuracy"] <= share:
            self._messages.warn(
                f"warning: test accuracy {summary['test_accuracy']:.2%} does not beat always "
                f"answering the most frequent class, {share:.2%}"
            )
        figures = result_line(run.task.objective, summary)
        self._messages.tell(f"{figures}: {self.workdir}/report.html")


def fit(
    config: ConfigDict | None = None,
    *,
    data: Dataset | Mapping | tuple | None = None,
    workdir: str | Path | None = None,
    **objects: Any,
) -> Result:
    """Train one run.

    Args:
      config: the whole config; None: the defaults.
      data: as for `Experiment`.
      workdir: the run folder; None: a new temporary one.
      **objects: `model`, `task`, `loss`, `optimizer` and `metrics`, as for `Experiment`.

    Raises:
      UserError: anything in the config, the data or the folder that cannot be trained on.
    """
    config = configuration.default_config() if config is None else config
    return Experiment(config, workdir, data, **objects).fit()


def _with_objects(config: ConfigDict, model, task, loss, optimizer, metrics) -> ConfigDict:
    """Return the config with the names of objects that were passed in from Python."""
    config = config.copy_and_resolve_references()
    if isinstance(optimizer, optax.GradientTransformation):
        transformation = optimizer

        def optimizer(scheduled):  # it has its own rate: the schedule's is not applied
            return transformation

    sections = {"model": model, "task": task, "loss": loss, "optimizer": optimizer}
    for section, given in sections.items():
        if given is not None:
            config[section].name = name_of(given)
    config.metrics = (*config.metrics, *map(name_of, metrics))
    return config


def result_line(objective: str, summary: Mapping) -> str:
    """Return the figures of a finished run for the screen: the objective and the loss."""
    averaged = ""
    if f"averaged_test_{objective}" in summary:
        value = shown(objective, summary[f"averaged_test_{objective}"])
        averaged = f" (averaged weights {value})"
    return (
        f"test {_figure(objective, summary)}{averaged}, {_figure('loss', summary)}"
        f"{_beside_members(summary)}"
    )


def _figure(name: str, summary: Mapping) -> str:
    return f"{words(name)} {shown(name, summary[f'test_{name}'])}"


def _beside_members(summary: Mapping) -> str:
    """Return the figures of the members of an ensemble, each alone; '' for one network."""
    if "members" not in summary:
        return ""
    mean, spread = summary["members_mean"], summary["members_spread"]
    names = [key.removeprefix("test_") for key in mean]
    each = ", ".join(
        f"{_figure(name, mean)} +- {shown(name, spread[f'test_{name}'])}" for name in names
    )
    return f" by averaged predictions (each of {len(summary['members'])} alone: {each})"
