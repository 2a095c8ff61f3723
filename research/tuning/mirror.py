"""The trials once more as an Optuna journal: for optuna-dashboard, Optuna's importances and plots.

    optuna.load_study(
        study_name="search",
        storage=JournalStorage(JournalFileBackend("runs/search_bn_adam/optuna_journal.log")),
    )

Nothing is read from it for the search. A journal that is behind is brought up; one that is damaged,
or of other trials, is made anew.
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
from research.tuning.ledger import cut_half_line
from research.tuning.spaces import Space
from research.tuning.trials import DIVERGED, FINISHED, REPLACED, RUNNING, STOPPED, Trial

STUDY = "search"
_SECONDS = 5  # between updates: writing to disk takes 2 ms, as long as some trials


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


class Mirror:
    """An Optuna journal that follows a search.

    Args:
      path: of the journal; no other process writes to it, for the run folder is locked.
      space: the search's.
      objective: 'validation_loss' or 'validation_accuracy', whose values the journal has.
    """

    def __init__(self, path: Path, space: Space, objective: str):
        self._path, self._space, self._objective = Path(path), space, objective
        self._storage = None
        self._ended: set[int] = set()  # numbers of trials that are whole in the journal
        self._updated = -math.inf

    def update(self, trials: Sequence[Trial], at_once: bool = False) -> None:
        """Brings the journal up to the trials, if the last time is a while ago."""
        if not at_once and time.monotonic() - self._updated < _SECONDS:
            return
        with quietly():
            if self._storage is None:
                self._open(trials)
            there = {trial.number: trial for trial in self._storage.get_all_trials(self._study)}
            for trial in trials:
                if trial.number not in self._ended:
                    self._bring_up(trial, there.get(trial.number))
            self._backend.flush()
        self._updated = time.monotonic()

    def _open(self, trials: Sequence[Trial]) -> None:
        # Optuna waits 30 s for a lock that a killed process left.
        self._path.with_name(self._path.name + ".lock").unlink(missing_ok=True)
        cut_half_line(self._path)
        with contextlib.suppress(Exception):  # Optuna has none of its own for a damaged journal
            self._load()
            there = self._storage.get_all_trials(self._study)
            if len(there) <= len(trials) and all(map(self._agrees, there, trials)):
                return
        self._path.unlink(missing_ok=True)
        self._load()

    def _load(self) -> None:
        from optuna.storages import JournalStorage
        from optuna.study import StudyDirection

        self._backend = _backend(self._path)
        self._storage = JournalStorage(self._backend)
        studies = {study.study_name: study._study_id for study in self._storage.get_all_studies()}
        if STUDY not in studies:
            accuracy = self._objective == "validation_accuracy"
            direction = StudyDirection.MAXIMIZE if accuracy else StudyDirection.MINIMIZE
            studies[STUDY] = self._storage.create_new_study([direction], STUDY)
        self._study = studies[STUDY]

    def _agrees(self, there: Any, trial: Trial) -> bool:
        """Whether a trial of the journal is ours, whole or as far as it was then."""
        ours = self._intermediate(trial)
        shared = all(ours.get(piece) == value for piece, value in there.intermediate_values.items())
        ended = (_state(trial), len(ours)) == (there.state, len(there.intermediate_values))
        return (
            shared
            and (there.params, there.distributions) == self._parameters(trial)
            and (ended or not there.state.is_finished())
        )

    def _bring_up(self, trial: Trial, there: Any) -> None:
        storage, intermediate = self._storage, self._intermediate(trial)
        if there is None:
            identity = storage.create_new_trial(self._study, self._template(trial))
            known = {}
        else:
            identity, known = there._trial_id, there.intermediate_values
        if there is None or not there.state.is_finished():
            for piece in sorted(intermediate.keys() - known.keys()):
                storage.set_trial_intermediate_value(identity, piece, intermediate[piece])
            if trial.end != RUNNING:
                storage.set_trial_user_attr(identity, "end", trial.end)
                last = [self._value(trial.score)] if math.isfinite(trial.score) else None
                values = None if trial.end == DIVERGED else last
                storage.set_trial_state_values(identity, _state(trial), values)
        if trial.end != RUNNING:
            self._ended.add(trial.number)

    def _template(self, trial: Trial):
        from optuna.trial import FrozenTrial, TrialState

        params, distributions = self._parameters(trial)
        return FrozenTrial(
            number=-1,  # numbers are given in the order of creation, which is ours
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
            {axis.key: _distribution(axis) for axis in axes},
        )

    def _intermediate(self, trial: Trial) -> dict[int, float]:
        reports = [report for report in trial.reports if math.isfinite(report["score"])]
        return {report["piece"]: self._value(report["score"]) for report in reports}

    def _value(self, score: float) -> float:
        return 1 - score if self._objective == "validation_accuracy" else score


def _state(trial: Trial):
    from optuna.trial import TrialState

    return {
        RUNNING: TrialState.RUNNING,
        FINISHED: TrialState.COMPLETE,
        STOPPED: TrialState.PRUNED,
        REPLACED: TrialState.PRUNED,
        DIVERGED: TrialState.FAIL,
    }[trial.end]


def _distribution(axis: Axis):
    from optuna import distributions

    if axis.kind == "choice":
        return distributions.CategoricalDistribution([_plain(axis, one) for one in axis.values])
    if axis.kind == "integer":
        return distributions.IntDistribution(axis.low, axis.high)
    return distributions.FloatDistribution(axis.low, axis.high, log=axis.kind == "log")


def _plain(axis: Axis, value: Any) -> Any:
    """Optuna's choices are words, numbers and switches: a tuple goes by its spelling."""
    if axis.kind == "choice":
        return value if isinstance(value, (bool, int, float, str)) else repr(value)
    return int(value) if axis.kind == "integer" else float(value)


def _backend(path: Path):
    """Return a journal file that is written to once for many changes."""
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
