"""The Optuna journal says what the trials are, and is right again whatever was done to it."""

import math
import time
import warnings

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from searches import COHORTS, NAME, RATE, SMOOTHING, search, searched

from research.tuning.optuna_export import STUDY, OptunaExport
from research.tuning.reports import Objective
from research.tuning.spaces import Space, choice, integer
from research.tuning.trials import DIVERGED, FINISHED, REPLACED, STOPPED, Proposal, Trial

STATES = {
    FINISHED: TrialState.COMPLETE,
    STOPPED: TrialState.PRUNED,
    REPLACED: TrialState.PRUNED,
    DIVERGED: TrialState.FAIL,
    "": TrialState.RUNNING,
}
LOSS = Objective("validation_loss", higher_is_better=False)
ASHA = searched(COHORTS, scheduler="asha", reduction=2, trials=20)


def loaded(path) -> optuna.Study:
    return optuna.load_study(
        study_name=STUDY, storage=JournalStorage(JournalFileBackend(str(path)))
    )


def exported(config, path, trials, objective=LOSS) -> optuna.Study:
    OptunaExport(path, Space.from_config(config), objective).update(trials, at_once=True)
    return loaded(path)


def assert_same(found: optuna.Study, trials, value=lambda score: score):
    assert [trial.number for trial in found.trials] == [trial.number for trial in trials]
    for theirs, ours in zip(found.trials, trials, strict=True):
        assert theirs.params == ours.values
        assert theirs.state == STATES[ours.end]
        scores = {r["segment"]: r["score"] for r in ours.reports if math.isfinite(r["score"])}
        assert theirs.intermediate_values == {k: value(score) for k, score in scores.items()}
        ended = ours.end in (FINISHED, STOPPED, REPLACED)
        assert theirs.value == (value(ours.score) if ended else None)
        if ours.end:
            assert theirs.user_attrs["end"] == ours.end
        assert theirs.user_attrs["parent"] == ours.proposal.parent


@pytest.mark.parametrize(
    "config",
    [ASHA, searched(scheduler="population_based", exploit_share=0.4, trials=10, grace=2)],
)
def test_optuna_loads_the_same_trials(config, tmp_path):
    study, _ = search(config, tmp_path / "ledger.jsonl")
    assert {trial.end for trial in study.trials} - {FINISHED} in ({STOPPED, DIVERGED}, {REPLACED})
    found = exported(config, tmp_path / "journal.log", study.trials)
    assert_same(found, study.trials)
    assert found.direction == optuna.study.StudyDirection.MINIMIZE
    best = min((t for t in study.trials if t.end == FINISHED), key=lambda trial: trial.score)
    assert found.best_trial.number == best.number
    distributions = found.trials[0].distributions
    assert distributions[RATE] == optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)
    for trial in found.trials:
        assert set(trial.distributions) == set(trial.params)
    if config is ASHA:
        names = optuna.distributions.CategoricalDistribution(("adam", "nesterov", "sgd"))
        assert distributions[NAME] == names
        assert any(SMOOTHING not in trial.params for trial in found.trials)


def test_accuracies_are_maximised(tmp_path):
    config = searched(objective="validation_accuracy", trials=4)
    study, _ = search(config, tmp_path / "ledger.jsonl")
    found = exported(
        config, tmp_path / "journal.log", study.trials, Objective("validation_accuracy", True)
    )
    assert_same(found, study.trials, lambda score: 1 - score)
    assert found.direction == optuna.study.StudyDirection.MAXIMIZE


def test_choices_of_tuples_go_by_their_spelling(tmp_path):
    space = (
        choice("model.hidden", (64,), (64, 64)),
        integer("compute.microbatches", 1, 3),
        choice("model.weight_standardization", True, False),
    )
    values = {
        "model.hidden": (64, 64),
        "compute.microbatches": 2,
        "model.weight_standardization": True,
    }
    trial = Trial(0, Proposal(values), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = exported(searched(space), tmp_path / "journal.log", [trial])
    assert found.trials[0].params == {**values, "model.hidden": "(64, 64)"}


def test_it_follows_a_search_while_it_goes_on(tmp_path):
    """After each turn a reader finds just what there is; and Optuna's own studies work on it."""
    export = OptunaExport(tmp_path / "journal.log", Space.from_config(ASHA), LOSS)

    def follow(study):
        export.update(study.trials, at_once=True)
        if study.busy % 2:
            assert_same(loaded(tmp_path / "journal.log"), study.trials)

    study, _ = search(ASHA, tmp_path / "ledger.jsonl", after_turn=follow)
    found = loaded(tmp_path / "journal.log")
    assert_same(found, study.trials)
    importances = optuna.importance.get_param_importances(
        found, evaluator=optuna.importance.PedAnovaImportanceEvaluator(), params=[RATE]
    )
    assert set(importances) == {RATE}
    assert len(optuna.visualization.plot_optimization_history(found).data) > 0


def test_updates_are_seconds_apart_but_the_last(tmp_path):
    study, _ = search(searched(trials=3), tmp_path / "ledger.jsonl")
    space = Space.from_config(searched())
    export = OptunaExport(tmp_path / "journal.log", space, LOSS)
    export.update(study.trials[:1])
    export.update(study.trials)
    assert len(loaded(tmp_path / "journal.log").trials) == 1
    export.update(study.trials, at_once=True)
    assert_same(loaded(tmp_path / "journal.log"), study.trials)


def test_one_that_lags_or_is_damaged_becomes_what_the_trials_say(tmp_path):
    study, _ = search(ASHA, tmp_path / "ledger.jsonl")
    path = tmp_path / "journal.log"
    exported(ASHA, path, study.trials)
    data = path.read_bytes()
    exported(ASHA, path, study.trials)
    assert path.read_bytes() == data  # nothing to do: nothing written
    lines = data.splitlines(keepends=True)
    other, _ = search(searched(COHORTS, seed=1), tmp_path / "other.jsonl")
    exported(ASHA, tmp_path / "other.log", other.trials)
    damaged = [
        data[: len(data) // 3],
        data[: len(data) * 2 // 3],
        b"".join(lines[:-1]),
        b"".join(lines[: len(lines) // 2] + lines[len(lines) // 2 + 1 :]),
        b"",
        b"\x00" * 100,
        b"{}\n",
        data.replace(b'"op_code":4', b'"op_code":99'),
        (tmp_path / "other.log").read_bytes(),
    ]
    for content in damaged:
        path.write_bytes(content)
        assert_same(exported(ASHA, path, study.trials), study.trials)


def test_a_lock_of_a_process_that_was_killed_is_not_waited_for(tmp_path):
    study, _ = search(searched(trials=2), tmp_path / "ledger.jsonl")
    path = tmp_path / "journal.log"
    path.with_name("journal.log.lock").symlink_to(path)
    started = time.monotonic()
    assert_same(exported(searched(), path, study.trials), study.trials)
    assert time.monotonic() - started < 25  # Optuna itself waits for 30 s
