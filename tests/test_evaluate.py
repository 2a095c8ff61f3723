"""Testing a checkpoint, and several networks as one ensemble."""

import json
import shutil
import subprocess
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, command_line
from PIL import Image
from runs import ACCURACY, MAIN, here, lines, one_line, read, saved_run, write_classes

from research import config as configuration
from research.config import default_config
from research.data.dataset import Arrays
from research.training import evaluation
from research.training.checkpoints import Checkpoints
from research.training.copies import copied


def test_evaluate_finds_what_the_summary_says(finished, command):
    accuracy = read(finished, "summary.json")["test_accuracy"]
    for step in ("last", "best"):
        result = command("evaluate", str(finished), f"--step={step}")
        assert result.returncode == 0, result.stderr
        assert "355 examples" in result.stdout
        if step == "last":
            assert f"test: accuracy {accuracy:.2%}" in result.stdout
    result = command("evaluate", str(finished), "--split=train")
    assert "1298 examples" in result.stdout


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory) -> Path:
    """Two seeds at the ends of two cycles: four networks."""
    workdir = tmp_path_factory.mktemp("ensemble") / "run"
    changes = ("--config.ensemble.members=2", "--config.ensemble.snapshots=2",
               "--config.schedule.name=cosine_restarts", "--config.schedule.cycles=2.0",
               "--config.duration=120 steps", "--config.checkpoint.every=20 steps",
               "--config.data.split_seed=1")  # fmt: skip
    arguments = command_line("main", MAIN, *changes, f"--workdir={workdir}")
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "by averaged predictions (each of 4 alone: accuracy" in result.stdout
    return workdir


def test_an_ensemble_leaves_its_figures_beside_those_of_its_members(ensemble, command):
    summary = read(ensemble, "summary.json")
    members = summary["members"]
    assert [(m["seed"], m["step"]) for m in members] == [(0, 60), (1, 60), (0, 120), (1, 120)]
    losses = [member["test_loss"] for member in members]
    assert summary["members_mean"]["test_loss"] == pytest.approx(sum(losses) / 4)
    assert summary["test_loss"] < summary["members_mean"]["test_loss"]  # Jensen's inequality
    assert (ensemble / "checkpoints" / "60").exists()  # not among the newest two
    for record in lines(ensemble, "metrics.jsonl"):
        assert len(record["members"]["loss"]) == len(record["members"]["accuracy"]) == 2
        mean = sum(record["members"]["loss"]) / 2
        if record["split"] == "train":
            assert record["loss"] == pytest.approx(mean)
        else:
            assert record["loss"] < mean
    result = command("evaluate", str(ensemble), "--step=snapshots")
    *each, whole = result.stdout.splitlines()
    reported = command("evaluate", str(ensemble))  # which is what the run reported
    assert reported.stdout.splitlines()[1:] == [*each, whole]
    assert f"ensemble of 4, test: accuracy {summary['test_accuracy']:.2%}" in whole
    assert f"loss {summary['test_loss']:.4g}" in whole
    assert len(each) == 4
    assert f"step 60 seed 1, test: accuracy {members[1]['test_accuracy']:.2%}" in each[1]
    assert "Ensemble of 4" in (ensemble / "report.html").read_text()


def test_several_runs_are_one_ensemble(ensemble, finished, command, tmp_path):
    result = command("evaluate", str(finished), str(ensemble))
    assert result.returncode == 0, result.stderr
    told, *each, whole = result.stdout.splitlines()
    assert f"{ensemble}: step 60, 120 is tested, as the run reported it (--step=last: 120)" == told
    assert len(each) == 5 and "ensemble of 5, test" in whole
    result = command("evaluate", str(finished), str(ensemble), "--step=last")
    assert len(result.stdout.splitlines()) == 4 and "ensemble of 3, test" in result.stdout
    line = one_line(command("evaluate", str(finished), str(ensemble), "--split=validation"))
    assert "runs of other data: the validation split of" in line
    line = one_line(command("evaluate", str(finished), "--step=snapshots"))
    assert "keeps none" in line
    arguments = (MAIN, "--config.data.name=moons", "--config.duration=1 steps")
    assert command("main", *arguments, f"--workdir={tmp_path}").returncode == 0
    line = one_line(command("evaluate", str(finished), str(tmp_path)))
    assert (
        "runs of other classes" in line
        and "has 10 (0, 1, 2, 3, " in line
        and "has 2 (0, 1)" in line
    )


def small(path, **changes):
    config = default_config()
    config.data.path, config.data.name = str(path), "folder" if path.is_dir() else "npz"
    config.batch_size, config.model.hidden, config.duration = 8, (4,), "9 epochs"
    config.update_from_flattened_dict(changes)
    return config


def arrays(count, seed=0, classes=3):
    random = np.random.default_rng(seed)
    return {"inputs": random.normal(size=(count, 4)), "labels": np.arange(count) % classes}


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """A folder with `data.npz`, and a run on it that is not trained."""
    folder = tmp_path_factory.mktemp("numbers")
    np.savez(folder / "data.npz", **arrays(75))
    return folder, saved_run(folder / "run", small(folder / "data.npz"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Likewise with a folder of classes, `data`."""
    folder = tmp_path_factory.mktemp("pictures")
    write_classes(folder / "data", ("ape", "cat", "dog"), count=15)
    return folder, saved_run(folder / "run", small(folder / "data"))


def accuracy(run, inputs, labels) -> float:
    logits, _ = evaluation.predict_each(
        run.config, run.task, run.init(), Arrays(inputs, labels.astype(np.int32))
    )
    return (logits[0].argmax(-1) == labels).mean()


def test_data_that_have_moved_are_found_where_they_are_now(numbers, tmp_path):
    folder, _ = numbers
    shutil.copytree(folder / "run", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["data"]["path"] = str(tmp_path / "gone.npz")
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert "gone.npz': no such file" in one_line(here("evaluate", tmp_path / "run"))
    moved = f"--path={folder / 'data.npz'}"
    for split, examples in (("test", 15), ("validation", 6), ("train", 54)):
        done = here("evaluate", tmp_path / "run", moved, f"--split={split}")
        assert f"step 5, {split}: accuracy" in done.stdout, done.stderr
        assert f"{examples} examples" in done.stdout
    done = here("evaluate", tmp_path / "run", f"--data_dir={folder / 'data.npz'}")
    told, _, result = done.stdout.splitlines()
    assert "which was trained on 54 of these 75 examples" in told
    assert f"all of {folder / 'data.npz'}: accuracy" in result and "75 examples" in result


@pytest.mark.parametrize(("count", "split"), [(1, ()), (60, ()), (60, ("--split=test",))])
def test_all_new_rows_are_tested_however_few(count, split, numbers, tmp_path):
    folder, run = numbers
    new = arrays(count, seed=1)
    np.savez(tmp_path / "new.npz", **new)
    done = here("evaluate", folder / "run", f"--path={tmp_path / 'new.npz'}", *split)
    expected = accuracy(run, new["inputs"].astype(np.float32), new["labels"])
    assert f"accuracy {expected:.2%}" in done.stdout and f" {count} examples" in done.stdout


def test_averaged_weights_are_tested_where_training_data_can_be_found(tmp_path):
    """Their statistics of batch norm are computed over these."""
    np.savez(tmp_path / "data.npz", **arrays(75))
    np.savez(tmp_path / "new.npz", **arrays(6, seed=1))
    saved_run(tmp_path / "run", small(tmp_path / "data.npz", **{"averaging.name": "ema"}))
    (tmp_path / "data.npz").rename(tmp_path / "moved.npz")
    done = here("evaluate", tmp_path / "run", f"--path={tmp_path / 'moved.npz'}")
    assert "averaged weights of" in done.stdout.splitlines()[-1], done.stderr
    done = here("evaluate", tmp_path / "run", f"--path={tmp_path / 'new.npz'}")
    assert "are left out, they need its training data: " in done.stdout
    assert "6 examples" in done.stdout.splitlines()[-1]


def test_official_splits_of_new_data_are_chosen_by_name(numbers, tmp_path):
    folder, _ = numbers
    train, test = arrays(9, seed=1), arrays(5, seed=2)
    np.savez(tmp_path / "new.npz", x_train=train["inputs"], y_train=train["labels"],
             x_test=test["inputs"], y_test=test["labels"])  # fmt: skip
    new = f"--path={tmp_path / 'new.npz'}"
    for split, told in (((), "test of"), (("--split=train",), "train of")):
        assert told in here("evaluate", folder / "run", new, *split).stdout
    line = one_line(here("evaluate", folder / "run", new, "--split=validation"))
    assert "has no such split (it has train, test)" in line
    line = one_line(here("evaluate", folder / "run", new, "--data_dir=x"))
    assert "--path and --data_dir" in line


def test_new_data_that_do_not_fit_are_refused(numbers, pictures, tmp_path):
    np.savez(tmp_path / "wide.npz", inputs=np.zeros((6, 5)), labels=np.arange(6) % 3)
    line = one_line(here("evaluate", numbers[0] / "run", f"--path={tmp_path / 'wide.npz'}"))
    assert "have shape (5,) (allowed, as the run was trained on: (4,))" in line
    np.savez(tmp_path / "more.npz", **arrays(8, classes=4))
    line = one_line(here("evaluate", numbers[0] / "run", f"--path={tmp_path / 'more.npz'}"))
    assert "does not know: 3 (its classes: 0, 1, 2, 3; allowed, the run's: 0, 1, 2)" in line
    write_classes(tmp_path / "new", ("cat", "lynx"))
    line = one_line(here("evaluate", pictures[0] / "run", f"--path={tmp_path / 'new'}"))
    assert "does not know: lynx (its classes: cat, lynx; allowed, the run's: ape, cat, dog)" in line


def test_class_folders_are_tested_whole_by_their_names(pictures, tmp_path):
    folder, run = pictures
    for classes in (("dog",), ("cat", "dog")):
        new = tmp_path / str(len(classes))
        write_classes(new, classes, count=4)
        done = here("evaluate", folder / "run", f"--path={new}")
        files = [file for name in classes for file in sorted((new / name).glob("*"))]
        inputs = np.stack([np.asarray(Image.open(file)) for file in files])
        labels = np.repeat([("ape", "cat", "dog").index(name) for name in classes], 4)
        assert f"accuracy {accuracy(run, inputs, labels):.2%}" in done.stdout, done.stderr
        assert f"{4 * len(classes)} examples" in done.stdout


def test_other_classes_in_the_place_of_the_run_s_are_refused_with_both_lists(pictures, tmp_path):
    folder, _ = pictures
    shutil.copytree(folder, tmp_path / "copy")
    config = small(tmp_path / "copy" / "data")
    (tmp_path / "copy" / "run" / "config.json").write_text(configuration.to_json(config))
    (tmp_path / "copy" / "data" / "ape").rename(tmp_path / "copy" / "data" / "zebra")
    line = one_line(here("evaluate", tmp_path / "copy" / "run"))
    assert "zebra (its classes: cat, dog, zebra; allowed, the run's: ape, cat, dog)" in line


def test_other_content_in_the_place_of_the_run_s_is_refused(tmp_path):
    """Rows it was trained on may be test rows now; but an official test split may be as it was."""
    np.savez(tmp_path / "data.npz", **arrays(75))
    saved_run(tmp_path / "run", small(tmp_path / "data.npz"))
    assert "are not those" not in here("evaluate", tmp_path / "run").stdout
    other = arrays(75)
    other["inputs"] += 1
    np.savez(tmp_path / "data.npz", **other)
    line = one_line(here("evaluate", tmp_path / "run"))
    assert "; test has other inputs; so the test split may hold examples it was" in line
    done = here("evaluate", tmp_path / "run", f"--path={tmp_path / 'data.npz'}")
    assert "75 examples" in done.stdout
    train, test = arrays(30), arrays(15, seed=1)
    parts = {"x_test": test["inputs"], "y_test": test["labels"], "y_train": train["labels"]}
    np.savez(tmp_path / "parts.npz", x_train=train["inputs"], **parts)
    saved_run(tmp_path / "other", small(tmp_path / "parts.npz"))
    np.savez(tmp_path / "parts.npz", x_train=train["inputs"] + 1, **parts)
    told = here("evaluate", tmp_path / "other").stdout
    assert "trained on: train has other inputs" in told and "15 examples" in told
    line = one_line(here("evaluate", tmp_path / "other", "--split=validation"))
    assert "so the validation split may hold" in line


def test_inputs_of_another_unit_are_told(tmp_path):
    np.savez(tmp_path / "data.npz", **arrays(75))
    saved_run(tmp_path / "run", small(tmp_path / "data.npz"))
    new = arrays(30, seed=1)
    for change in (lambda x: x + 1.7e9, lambda x: x / 100):
        np.savez(tmp_path / "new.npz", **{**new, "inputs": change(new["inputs"])})
        done = here("evaluate", tmp_path / "run", f"--path={tmp_path / 'new.npz'}")
        assert "of the same unit and range?" in done.stdout
    np.savez(tmp_path / "new.npz", **new)
    done = here("evaluate", tmp_path / "run", f"--path={tmp_path / 'new.npz'}")
    assert "of the same unit" not in done.stdout and "30 examples" in done.stdout


def test_runs_on_other_inputs_with_the_same_labels_are_no_ensemble(tmp_path):
    for seed in (0, 1):
        np.savez(tmp_path / f"{seed}.npz", **arrays(75, seed=seed))
        saved_run(tmp_path / f"run{seed}", small(tmp_path / f"{seed}.npz"))
    line = one_line(here("evaluate", tmp_path / "run0", tmp_path / "run1"))
    assert "runs of other data" in line


def test_runs_of_earlier_versions_are_tested_and_not_refused(tmp_path):
    np.savez(tmp_path / "data.npz", **arrays(75))
    saved_run(tmp_path / "run", small(tmp_path / "data.npz"), metadata={})
    assert "15 examples" in here("evaluate", tmp_path / "run").stdout
    np.savez(tmp_path / "new.npz", **arrays(7, seed=1))
    done = here("evaluate", tmp_path / "run", f"--path={tmp_path / 'new.npz'}")
    assert "7 examples" in done.stdout, done.stderr


def test_the_step_that_the_run_reported_is_tested_by_default(numbers, tmp_path):
    folder, run = numbers
    shutil.copytree(folder / "run", tmp_path / "run")
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(9, run.config, copied(run.init().replace(step=jnp.int32(9))), {}, ACCURACY)
    done = here("evaluate", tmp_path / "run")
    assert "is not finished: its last checkpoint is tested, of step 9" in done.stdout
    assert "step 9, test" in done.stdout
    (tmp_path / "run" / "summary.json").write_text('{"tested_step": 5, "steps": 9}')
    done = here("evaluate", tmp_path / "run")
    assert "step 5 is tested, as the run reported it (--step=last: 9)" in done.stdout
    assert "step 5, test" in done.stdout
    assert "step 9, test" in here("evaluate", tmp_path / "run", "--step=last").stdout
