"""Parts of a user's own, from outside the package: by dotted names, and as objects."""

import json
import os
import subprocess
import sys

import numpy as np
import optax
import pytest
from conftest import ROOT
from runs import one_line

import research

EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(EXAMPLES))

from own_parts import data, loss, metric, model, optimizer, task  # noqa: E402


def small(**changes):
    """Return a config that trains in a second."""
    config = research.default_config()
    config.duration = "200 steps"
    config.update_from_flattened_dict(changes)
    return config


def command(name, *arguments, allowed=True):
    paths = {"PYTHONPATH": f"{EXAMPLES}:{ROOT}"} if allowed else {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", f"research.{name}", *map(str, arguments)],
        env=os.environ | paths, capture_output=True, text=True, cwd=ROOT, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "run"
    config = f"--config={EXAMPLES / 'config.py'}"
    done = command("main", config, f"--workdir={path}", allowed=False)
    assert done.returncode == 0, done.stderr
    return path


def test_the_config_of_dotted_names_trains_and_reports_their_metrics(folder):
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["test_accuracy"] > 0.97
    assert 0 <= summary["test_brier"] < 0.1 and 0 <= summary["test_open_gates"] <= 1
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    for record in lines:
        assert 0 <= record["brier"] < 2 and 0 <= record["open_gates"] <= 1


def test_a_run_folder_imports_only_what_is_allowed(folder):
    refused = one_line(command("evaluate", folder))
    assert "own_parts.data:rings" in refused and "--allow=own_parts" in refused
    done = command("evaluate", folder, "--allow=own_parts")
    summary = json.loads((folder / "summary.json").read_text())
    assert done.returncode == 0 and f"accuracy {summary['test_accuracy']:.2%}" in done.stdout


def test_objects_train_as_their_names_do(folder):
    config = small(**{"data.name": "own_parts.data:rings", "data.options": {"examples": 600}})
    config.model.name = "own_parts.model:Gated"
    config.optimizer.name = "own_parts.optimizer:sign_momentum"
    config.loss.name, config.metrics = "own_parts.loss:poly1", ("own_parts.metric:brier",)
    by_name = research.fit(config)
    given = research.fit(
        small(),
        data=data.rings(examples=600),
        model=model.Gated,
        loss=loss.poly1,
        optimizer=optimizer.sign_momentum,
        metrics=[metric.brier],
    )
    for key in ("parameters_sha256", "test_loss", "test_accuracy"):
        assert by_name.summary[key] == given.summary[key]


def test_a_module_and_a_transformation_themselves_may_be_passed_in():
    result = research.fit(
        small(), data=data.rings(), model=model.Gated(outputs=3), optimizer=optax.adam(1e-2)
    )
    assert result.summary["test_accuracy"] > 0.97
    again = research.load(result.workdir)  # the objects are known in this process
    points = np.zeros((2, 2), np.float32)
    assert np.array_equal(again.predict(points), result.predict(points))


def test_a_task_of_ones_own_predicts_in_the_users_unit():
    random = np.random.default_rng(0)
    lengths = random.uniform(1, 10, (800, 3)).astype(np.float32)
    config = small(**{"optimizer.learning_rate": 1e-2, "duration": "800 steps"})
    result = research.fit(config, data=(lengths, lengths.prod(1)), task=task.LogRegression)
    assert result.summary["test_r2"] > 0.97
    near = result.predict(np.array([[2.0, 3.0, 4.0]], np.float32))
    assert near[0, 0] == pytest.approx(24, rel=0.2)
    # The loss of the test is that of the validation: squared errors of standardised logarithms.
    assert result.summary["test_loss"] < 0.05
