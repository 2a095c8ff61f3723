"""A run folder knows its data: other data are refused, the same elsewhere are accepted."""

import json
import shutil

import numpy as np
import pytest
from runs import lines, one_line, read, saved_run, write_classes

from research import config as configuration
from research import run_folder
from research.config import default_config
from research.errors import UserError
from research.training import setup


def arrays(count=75, seed=0) -> dict:
    random = np.random.default_rng(seed)
    return {"inputs": random.normal(size=(count, 4)), "labels": np.arange(count) % 3}


def small(path, **changes):
    config = default_config()
    config.data.path, config.data.name = str(path), "folder" if path.is_dir() else "npz"
    config.batch_size, config.model.hidden, config.duration = 8, (4,), "20 steps"
    config.update_from_flattened_dict(changes)
    return config


def take_over(workdir, config):
    with run_folder.opened(workdir, config, 20, lambda: setup.fingerprint(config)):
        pass


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    folder = tmp_path_factory.mktemp("npz")
    np.savez(folder / "data.npz", **arrays())
    saved_run(folder / "run", small(folder / "data.npz"))
    return folder


@pytest.fixture
def run(npz, tmp_path):
    """A copy of a run's folder, and the folder with its `data.npz`."""
    shutil.copytree(npz / "run", tmp_path / "run")
    return tmp_path / "run", npz


def rows_in_front(data):
    more = arrays(500, seed=1)
    return {name: np.concatenate([more[name], data[name]]) for name in data}


def one_number(data):
    data["inputs"][33, 2] += 1e-3
    return data


def labels(data):
    return {**data, "labels": data["labels"][::-1]}


@pytest.mark.parametrize("change", [rows_in_front, one_number, labels])
def test_other_rows_are_refused_and_nothing_is_changed(change, run, tmp_path):
    workdir, _ = run
    np.savez(tmp_path / "data.npz", **change(arrays()))
    before = (workdir / "config.json").read_text()
    with pytest.raises(UserError, match="run' holds results of other data: .*t[re]") as told:
        take_over(workdir, small(tmp_path / "data.npz"))
    assert "\n" not in str(told.value) and (workdir / "config.json").read_text() == before


def test_the_same_data_elsewhere_are_accepted_and_recorded(run, tmp_path):
    workdir, npz = run
    shutil.copy(npz / "data.npz", tmp_path / "moved.npz")
    take_over(workdir, small(tmp_path / "moved.npz"))
    assert read(workdir, "config.json")["data"]["path"] == str(tmp_path / "moved.npz")
    assert "data.path" in lines(workdir, "history.jsonl")[-1]["changes"]


def test_another_cut_of_the_same_data_is_refused(run):
    """As by another version of the code that cuts."""
    workdir, npz = run
    config = small(npz / "data.npz")
    dataset = setup.loaded(config)
    rows = np.arange(len(dataset.train))
    other = setup.from_split(config, dataset, rows[:-6], rows[-6:])
    with (
        pytest.raises(UserError, match="train and validation are cut otherwise"),
        run_folder.opened(workdir, config, 20, other.fingerprint),
    ):
        pass


def test_checkpoints_of_earlier_versions_are_accepted_where_they_were(npz, tmp_path, capsys):
    config = small(npz / "data.npz")
    saved_run(tmp_path / "run", config, metadata={"class_names": ["0", "1", "2"]})
    take_over(tmp_path / "run", config)
    assert "its data are not compared" in capsys.readouterr().out
    shutil.copy(npz / "data.npz", tmp_path / "moved.npz")
    with pytest.raises(UserError, match=r"of another config \(data.path"):
        take_over(tmp_path / "run", small(tmp_path / "moved.npz"))


@pytest.mark.parametrize("memory_mb", [100, 0])
def test_an_image_less_or_another_class_name_is_refused(memory_mb, tmp_path):
    data = tmp_path / "data"
    write_classes(data, count=30)
    config = small(data, **{"data.memory_mb": memory_mb})
    saved_run(tmp_path / "run", config)
    take_over(tmp_path / "run", config)
    shutil.copytree(data, tmp_path / "moved")
    take_over(tmp_path / "run", small(tmp_path / "moved", **{"data.memory_mb": memory_mb}))
    (tmp_path / "moved" / "cat").rename(tmp_path / "moved" / "lynx")
    with pytest.raises(UserError, match="classes are dog, lynx, and were cat, dog"):
        take_over(tmp_path / "run", small(tmp_path / "moved", **{"data.memory_mb": memory_mb}))
    (data / "cat" / "7.png").unlink()
    with pytest.raises(UserError, match="examples, and had|other"):
        take_over(tmp_path / "run", config)


def test_the_summary_of_a_finished_run_is_that_of_the_same_data(run, tmp_path):
    workdir, npz = run
    config = small(npz / "data.npz")
    summary = {"steps": 20, "data": setup.fingerprint(config)}
    (workdir / "summary.json").write_text(json.dumps(summary))
    (workdir / "report.html").touch()
    told = []

    def finished(config):
        return run_folder.finished(workdir, config, lambda: setup.fingerprint(config), told.append)

    assert finished(config) == summary and not told
    shutil.copy(npz / "data.npz", tmp_path / "moved.npz")
    assert finished(small(tmp_path / "moved.npz")) == summary and not told
    np.savez(tmp_path / "moved.npz", **one_number(arrays()))
    with pytest.raises(UserError, match="holds results of other data"):
        finished(small(tmp_path / "moved.npz"))
    with pytest.raises(UserError, match="gone.npz': no such file"):  # the user says it is there
        finished(small(tmp_path / "gone.npz"))
    (workdir / "config.json").write_text(configuration.to_json(small(tmp_path / "gone.npz")))
    assert finished(small(tmp_path / "gone.npz")) == summary  # the user says nothing new
    (line,) = told
    assert "its data were not compared with those that are there now: " in line
    (workdir / "summary.json").write_text('{"steps": 20}')  # of an earlier version
    assert finished(small(tmp_path / "gone.npz")) == {"steps": 20} and len(told) == 1
    assert finished(small(tmp_path / "elsewhere.npz")) is None


def test_the_command_keeps_compares_and_tells(command, tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays())
    job = ("--config=configs/bn_adam.py", "--config.data.name=npz", f"--workdir={tmp_path / 'run'}",
           "--config.batch_size=8", "--config.model.hidden=(4,)")  # fmt: skip
    start = (*job, f"--config.data.path={path}", "--config.duration=5 steps")
    assert command("main", *start).returncode == 0
    known = read(tmp_path / "run", "summary.json")["data"]
    metadata = read(tmp_path / "run" / "checkpoints" / "5", "metadata.json")
    assert {"class_names": metadata["class_names"], **metadata["data"]} == known
    assert known["train"]["examples"] == 60 and known["cut"]["train"] == 54
    assert known["test"]["shape"] == [4]
    path.rename(tmp_path / "moved.npz")
    gone = command("main", *start)
    assert gone.returncode == 0 and "were not compared" in gone.stdout
    assert "is finished" in gone.stdout and "class_names" not in gone.stdout
    np.savez(path, **one_number(arrays()))
    assert "has other inputs" in one_line(command("main", *start))
    moved = (*job, f"--config.data.path={tmp_path / 'moved.npz'}", "--config.duration=9 steps")
    resumed = command("main", *moved)
    assert resumed.returncode == 0 and "at step 5" in resumed.stdout, resumed.stderr
