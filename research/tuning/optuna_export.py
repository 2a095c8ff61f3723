"""Export trials to an Optuna journal, for optuna-dashboard and Optuna's importances and plots.

    optuna.load_study(
        study_name="search",
        storage=JournalStorage(JournalFileBackend("runs/search_bn_adam/optuna_journal.log")),
    )

The search reads nothing from the journal. A journal that lags is completed. A journal that is
damaged or holds other trials is written anew.
"""

import contextlib
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from research.tuning.axes import Axis
from research.tuning.ledger_lines import cut_half_line
from research.tuning.reports import Objective
from research.tuning.spaces import Space
from research.tuning.trials import DIVERGED, FINISHED, REPLACED, RUNNING, STOPPED, Trial

STUDY = "search"
_SECONDS = 5  # between updates: a write to disk takes 2 ms, as long as some trials


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep Optuna's log and warnings off the screen."""
    from optuna import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)


class OptunaExport:
    """An Optuna journal that follows a search.

    Args:
      path: of the journal; the run folder is locked, so no other process writes to it.
      space: of the search.
      objective: of the search; the journal has its values, not the scores.
    """

    def __init__(self, path: Path, space: Space, objective: Objective):
        self._path, self._space, self._objective = Path(path), space, objective
        self._storage = None
        self._complete: set[int] = set()  # numbers of ended trials that the journal has
        self._updated = -math.inf

    def update(self, trials: Sequence[Trial], at_once: bool = False) -> None:
        """Write what is new about the trials, at most every few seconds unless `at_once`."""
        if not at_once and time.monotonic() - self._updated < _SECONDS:
            return
        with quietly():
            if self._storage is None:
                self._open(trials)
            exported = {trial.number: trial for trial in self._storage.get_all_trials(self._study)}
            for trial in trials:
                if trial.number not in self._complete:
                    self._export(trial, exported.get(trial.number))
            self._backend.flush()
        self._updated = time.monotonic()

    def _open(self, trials: Sequence[Trial]) -> None:
        # A lock left by a killed process would make Optuna wait for 30 s.
        self._path.with_name(self._path.name + ".lock").unlink(missing_ok=True)
        cut_half_line(self._path)
        with contextlib.suppress(Exception):  # Optuna has no exception for a damaged journal
            self._load()
            exported = self._storage.get_all_trials(self._study)
            if len(exported) <= len(trials) and all(map(self._agrees, exported, trials)):
                return
        self._path.unlink(missing_ok=True)
        self._load()

    def _load(self) -> None:
        from optuna.storages import JournalStorage
        from optuna.study import StudyDirection

        self._backend = _backend(self._path)
        self._storage = JournalStorage(self._backend)
        try:
            self._study = self._storage.get_study_id_from_name(STUDY)
        except KeyError:
            maximize = self._objective.higher_is_better
            direction = StudyDirection.MAXIMIZE if maximize else StudyDirection.MINIMIZE
            self._study = self._storage.create_new_study([direction], STUDY)

    def _agrees(self, exported: Any, trial: Trial) -> bool:
        """Return whether a trial of the journal is this trial, or an earlier stage of it."""
        ours = self._intermediate(trial)
        theirs = exported.intermediate_values
        shared = all(ours.get(segment) == value for segment, value in theirs.items())
        ended = (_state(trial), len(ours)) == (exported.state, len(theirs))
        return (
            shared
            and (exported.params, exported.distributions) == self._parameters(trial)
            and (ended or not exported.state.is_finished())
        )

    def _export(self, trial: Trial, exported: Any) -> None:
        """Write what is new about a trial; `exported` is what the journal has of it."""
        storage, intermediate = self._storage, self._intermediate(trial)
        if exported is None:
            identity = storage.create_new_trial(self._study, self._template(trial))
            known = {}
        else:
            identity = storage.get_trial_id_from_study_id_trial_number(self._study, trial.number)
            known = exported.intermediate_values
        if exported is None or not exported.state.is_finished():
            for segment in sorted(intermediate.keys() - known.keys()):
                storage.set_trial_intermediate_value(identity, segment, intermediate[segment])
            if trial.end != RUNNING:
                storage.set_trial_user_attr(identity, "end", trial.end)
                last = [self._objective.value(trial.score)] if math.isfinite(trial.score) else None
                values = None if trial.end == DIVERGED else last
                storage.set_trial_state_values(identity, _state(trial), values)
        if trial.end != RUNNING:
            self._complete.add(trial.number)

    def _template(self, trial: Trial):
        from optuna.trial import FrozenTrial, TrialState

        params, distributions = self._parameters(trial)
        return FrozenTrial(
            number=-1,  # Optuna numbers trials in order of creation, which is our order
            trial_id=-1,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.now(UTC),
            datetime_complete=None,
            params=params,
            distributions=distributions,
            user_attrs={"share": trial.proposal.share, "parent": trial.proposal.parent},
            system_attrs={},
            intermediate_values={},
        )

    def _parameters(self, trial: Trial) -> tuple[dict, dict]:
        axes = [axis for axis in self._space.axes if axis.key in trial.values]
        return (
            {axis.key: _plain(axis, trial.values[axis.key]) for axis in axes},
            {
                axis.key: distribution(axis, [_plain(axis, value) for value in axis.values])
                for axis in axes
            },
        )

    def _intermediate(self, trial: Trial) -> dict[int, float]:
        reports = [report for report in trial.reports if math.isfinite(report["score"])]
        return {report["segment"]: self._objective.value(report["score"]) for report in reports}


def _state(trial: Trial):
    from optuna.trial import TrialState

    return {
        RUNNING: TrialState.RUNNING,
        FINISHED: TrialState.COMPLETE,
        STOPPED: TrialState.PRUNED,
        REPLACED: TrialState.PRUNED,
        DIVERGED: TrialState.FAIL,
    }[trial.end]


def distribution(axis: Axis, categories: Sequence):
    """Return Optuna's distribution for an axis; `categories` stand for the values of a choice."""
    from optuna import distributions

    if axis.kind == "choice":
        return distributions.CategoricalDistribution(categories)
    if axis.kind == "integer":
        return distributions.IntDistribution(axis.low, axis.high)
    return distributions.FloatDistribution(axis.low, axis.high, log=axis.kind == "log")


def _plain(axis: Axis, value: Any) -> Any:
    """Return a value as Optuna stores it: a tuple, which it cannot, becomes its text."""
    if axis.kind == "choice":
        return value if isinstance(value, (bool, int, float, str)) else repr(value)
    return int(value) if axis.kind == "integer" else float(value)


def _backend(path: Path):
    """Return a journal file that collects changes and writes them together."""
    from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

    class Buffered(BaseJournalBackend):
        def __init__(self):
            self._file = JournalFileBackend(str(path))
            self._logs = list(self._file.read_logs(0))
            self._pending: list[dict] = []

        def read_logs(self, log_number_from: int) -> list[dict]:
            return self._logs[log_number_from:]

        def append_logs(self, logs: list[dict]) -> None:
            self._logs += logs
            self._pending += logs

        def flush(self) -> None:
            if self._pending:
                self._file.append_logs(self._pending)
                self._pending = []

    return Buffered()
