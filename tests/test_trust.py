"""A dotted name is imported from the user's own config, and from files only by permission."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, command_line
from runs import one_line

from research.config import default_config, flatten, from_json, to_json, trust
from research.errors import UserError

HOSTILE = """
import pathlib

pathlib.Path(__file__).with_name("imported").touch()


def act(x):
    return x


def powers(x, power=1):
    return x**power
"""
CONFIG = """
from research.config import default_config


def get_config():
    config = default_config()
    config.data.name, config.data.toy_examples = "spirals", 120
    config.duration = "4 steps"
    config.model.activation = "hostile.parts:act"
    return config
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The user's folder: a package of their own, a config that names it, and a finished run."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "hostile").mkdir()
    (folder / "hostile" / "parts.py").write_text(HOSTILE)
    (folder / "own.py").write_text(CONFIG)
    done = run(folder, "main", "--config=own.py", "--workdir=run")
    assert done.returncode == 0, done.stderr
    assert marked(folder)  # the user's own config imports it
    return folder


def run(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command_line(name, *arguments), cwd=folder, env=environment, capture_output=True, text=True
    )


def marked(folder: Path) -> bool:
    """Whether the package was imported since the last time."""
    mark = folder / "hostile" / "imported"
    there = mark.exists()
    mark.unlink(missing_ok=True)
    return there


def test_a_run_folder_imports_nothing_unless_it_is_allowed(folder):
    line = one_line(run(folder, "evaluate", "run"))
    assert "config.model.activation = 'hostile.parts:act'" in line
    assert "--allow=hostile" in line and "run/config.json" in line
    assert not marked(folder)
    assert "hostile" in one_line(run(folder, "evaluate", "run", "--allow=other"))
    assert not marked(folder)
    done = run(folder, "evaluate", "run", "--allow=other,hostile")
    assert done.returncode == 0 and "accuracy" in done.stdout, done.stderr
    assert marked(folder)


def test_a_report_shows_the_name_and_imports_nothing(folder):
    done = run(folder, "report", "run", "--output=report.html")
    assert done.returncode == 0, done.stderr
    assert "hostile.parts:act" in (folder / "report.html").read_text()
    assert not marked(folder)


def test_the_same_command_resumes_its_own_run(folder):
    shutil.copytree(folder / "run", folder / "again")
    (folder / "again" / "summary.json").unlink()
    done = run(folder, "main", "--config=own.py", "--workdir=again")
    assert done.returncode == 0 and "resuming" in done.stdout, done.stderr
    assert marked(folder)


@pytest.mark.parametrize("where", ["config.json", "checkpoint"])
def test_a_command_without_the_name_does_not_import_it(folder, tmp_path, where):
    """Neither from the config of the folder nor from that in a checkpoint."""
    shutil.copytree(folder / "run", tmp_path / "run")
    shutil.copytree(folder / "hostile", tmp_path / "hostile")
    (tmp_path / "run" / "summary.json").unlink()
    config = CONFIG.replace("hostile.parts:act", "relu")
    (tmp_path / "own.py").write_text(config)
    if where == "checkpoint":
        path = tmp_path / "run" / "config.json"
        path.write_text(path.read_text().replace("hostile.parts:act", "relu"))
    done = run(tmp_path, "main", "--config=own.py", "--workdir=run")
    assert not marked(tmp_path)
    if where == "config.json":
        assert "holds a run of another config" in one_line(done)


def test_a_search_trusts_its_command_and_not_its_ledger(folder):
    (folder / "search.py").write_text(
        CONFIG.replace(
            "    return config",
            "    from research.tuning.config import default_search\n"
            "    from research.tuning.spaces import choice\n"
            "    config.search = default_search()\n"
            "    config.search.trials, config.search.segments = 2, 1\n"
            "    config.search.space = (choice('model.options.power', 1, 2),)\n"
            "    config.model.activation = 'hostile.parts:powers'\n"
            "    config.model.options.power = 3\n"
            "    return config",
        )
    )
    done = run(folder, "search", "--config=search.py", "--workdir=search")
    assert done.returncode == 0, done.stderr
    assert marked(folder)
    done = run(folder, "main", "--config=search/best.py", "--workdir=best")
    assert done.returncode == 0 and marked(folder), done.stderr
    ledger = folder / "search" / "ledger.jsonl"
    first, *rest = ledger.read_text().splitlines()
    first = json.loads(first)
    first["config"]["search"]["round_method"] = "hostile.parts:act"
    ledger.write_text("\n".join([json.dumps(first), *rest]) + "\n")
    line = one_line(run(folder, "report", "search"))
    assert "search.round_method = 'hostile.parts:act'" in line and "--allow=hostile" in line
    assert not marked(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.name", "os:system"),
        ("optimizer.name", "subprocess.run"),
        ("augmentation.names", ("flip", "os:system")),
        ("parallel.mode", "os.path:join"),
    ],
)
def test_every_key_that_takes_a_name_is_checked(key, value):
    config = default_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=f"x: config.{key} = '.*' would import code"):
        from_json(to_json(config), "x")
    assert flatten(from_json(to_json(config), "x", trusted=True))[key] == value


def test_what_the_users_config_names_is_allowed(monkeypatch):
    monkeypatch.setattr(trust, "_allowed", set())
    values = {"model.name": "mine.models:vit", "optimizer.name": "adam"}
    with pytest.raises(UserError):
        trust.check(values, "x")
    trust.allow_named(values)
    trust.check(values, "x")
    with pytest.raises(UserError, match="--allow=mine_too"):
        trust.check(values | {"augmentation.names": ("flip", "mine_too.a")}, "x")


def test_training_imports_neither_the_vocabulary_nor_the_search():
    code = "import sys, research.training.setup; print([m for m in sys.modules if 'research' in m])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "research.training.setup" in done.stdout
    assert "research.vocabulary" not in done.stdout and "research.tuning" not in done.stdout
