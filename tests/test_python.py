"""Training and prediction from Python, beside the commands."""

import importlib
import json
import subprocess
import sys

import numpy as np
import pytest

import research


def small(**changes):
    """Return a config that trains in a second."""
    config = research.default_config()
    config.duration, config.batch_size = "40 steps", 64
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return research.fit(small(), workdir=tmp_path_factory.mktemp("run"))


def test_fit_has_the_bits_of_the_command(tmp_path):
    command = [sys.executable, "-m", "research.main", "--config=configs/bn_adam.py"]
    subprocess.run([*command, f"--workdir={tmp_path}/command"], check=True, capture_output=True)
    summary = json.loads((tmp_path / "command" / "summary.json").read_text())
    config = importlib.import_module("configs.bn_adam").get_config()
    for folder in ("once", "again"):  # twice in one process
        found = research.fit(config, workdir=tmp_path / folder)
        assert found.exit_code == 0
        assert found.summary["parameters_sha256"] == summary["parameters_sha256"]


def test_a_result_predicts_and_evaluates_what_its_summary_says(result):
    (network,) = result.networks
    test = network.run.test
    shares = result.predict(test.inputs)
    assert shares.shape == (len(test), 10)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-12)
    assert (shares.argmax(1) == test.labels).mean() == result.summary["test_accuracy"]
    figures = result.evaluate(test.inputs, test.labels)
    for name in ("accuracy", "loss", "ece", "balanced_accuracy", "macro_f1"):
        assert figures[name] == result.summary[f"test_{name}"]
    assert result.history[-1]["step"] == 40
    assert result.report().read_text().startswith("<!")


def test_a_finished_run_is_loaded_not_trained_again(result, capsys):
    again = research.fit(small(), workdir=result.workdir)
    assert "is finished" in capsys.readouterr().out
    inputs = result.networks[0].run.test.inputs
    assert np.array_equal(again.predict(inputs), result.predict(inputs))


def test_several_runs_average_their_predictions(result, tmp_path):
    other = research.fit(small(seed=1), workdir=tmp_path / "other")
    both = research.load(result.workdir, other.workdir)
    inputs = result.networks[0].run.test.inputs
    mean = (result.predict(inputs) + other.predict(inputs)) / 2
    np.testing.assert_allclose(both.predict(inputs), mean, rtol=1e-12)


def test_labels_may_be_names_of_classes(result):
    test = result.networks[0].run.test
    by_name = result.evaluate(test.inputs, test.labels.astype(str))
    assert by_name == result.evaluate(test.inputs, test.labels)
    with pytest.raises(research.UserError, match="'ten' is unknown"):
        result.evaluate(test.inputs[:1], np.array(["ten"]))


def test_any_key_that_takes_a_name_takes_an_object():
    config = small()
    config.model.activation = research.name_of(lambda x: x * (x > 0))
    same = research.fit(small())
    found = research.fit(config)
    assert found.summary["test_loss"] == pytest.approx(same.summary["test_loss"], rel=1e-5)


def test_inputs_that_do_not_fit_are_refused(result):
    with pytest.raises(research.UserError, match=r"shape \(3, 5\) .*\(N, 8, 8, 1\)"):
        result.predict(np.zeros((3, 5)))
    with pytest.raises(research.UserError, match="not a run folder"):
        research.load(result.workdir / "checkpoints")


@pytest.mark.parametrize(
    "changes",
    [{}, {"ensemble.members": 3}, {"loss.name": "binary_cross_entropy"}],
    ids=["one", "members", "one against all"],
)
def test_the_exported_program_predicts_the_same_without_this_package(tmp_path, changes):
    trained = research.fit(small(**changes), workdir=tmp_path / "run")
    trained.export(tmp_path / "export")
    inputs = trained.networks[0].run.test.inputs[:7]
    np.save(tmp_path / "inputs.npy", inputs)
    code = """
import sys
sys.path = [path for path in sys.path if path]
import jax, jax.export, numpy as np
exported = jax.export.deserialize(open("export/model.stablehlo", "rb").read())
inputs = np.load("inputs.npy")
np.save("outputs.npy", exported.call(inputs))
assert exported.call(inputs[:2]).shape == (2, 10)  # any number of examples
assert "research" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)
    found = np.load(tmp_path / "outputs.npy")
    np.testing.assert_allclose(found, trained.predict(inputs), atol=2e-6)
    about = json.loads((tmp_path / "export" / "model.json").read_text())
    assert about["inputs"] == {"shape": ["n", 8, 8, 1], "dtype": "uint8"}
    assert about["names"] == [str(label) for label in range(10)]
