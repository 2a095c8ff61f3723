"""Every file of a checkpoint, damaged in every way; saves that fail."""

import json
import os
import shutil
import subprocess

import jax
import numpy as np
import pytest
from runs import ACCURACY

from research.config import default_config
from research.errors import UserError
from research.training import setup
from research.training.checkpoint_files import Damaged
from research.training.checkpoints import Checkpoints
from research.training.copies import copied
from research.training.digest import sealed


@pytest.fixture(scope="module")
def run(moons):
    return moons


def at(state, step: int):
    params = jax.tree.map(lambda leaf: leaf + step, state.params)
    return state.replace(step=np.int32(step), params=params)


@pytest.fixture(scope="module")
def saved(run, tmp_path_factory):
    """A run folder with checkpoints of steps 3 and 7, and the first state."""
    workdir, state = tmp_path_factory.mktemp("saved"), run.init()
    with Checkpoints(workdir) as checkpoints:
        for step in (3, 7):
            metrics = {"validation_accuracy": step / 10}
            checkpoints.save(
                step,
                run.config,
                copied(at(state, step)),
                {"class_names": ["a", "b"]},
                ACCURACY,
                metrics,
            )
    return workdir, state


def flip(path):
    data = bytearray(path.read_bytes())
    for place in range(0, len(data), max(1, len(data) // 8)):
        data[place] ^= 0x01
    path.write_bytes(bytes(data))


DAMAGES = {
    "flipped": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
    "replaced": lambda path: path.write_bytes(np.random.default_rng(0).bytes(500)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_every_file_of_a_checkpoint_damaged_in_every_way(tmp_path, run, saved, how):
    """Named, and the one before is taken. Files that hold nothing of the state (Orbax's notes for
    its own tools) may be damaged without harm: then every bit is as it was saved.
    """  # noqa: D205
    whole, state = saved
    folder = whole / "checkpoints" / "7"
    files = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    found = set()
    for number, file in enumerate(files):
        workdir, warnings = tmp_path / str(number), []
        shutil.copytree(whole, workdir)
        DAMAGES[how](workdir / "checkpoints" / "7" / file)
        with Checkpoints(workdir) as checkpoints:
            restored, metadata = checkpoints.restore(lambda *_: state, warn=warnings.append)
        if warnings:
            assert len(warnings) == 1 and "checkpoints/7 is damaged" in warnings[0]
            assert "\n" not in warnings[0]
            found.add(str(file))
        step = int(restored.step)
        jax.tree.map(np.testing.assert_array_equal, restored, at(state, step))
        assert metadata["metrics"] == {"validation_accuracy": step / 10}
        assert metadata["class_names"] == ["a", "b"]
        shutil.rmtree(workdir)
    assert found == {"arrays.safetensors", "metadata.json"}


def test_a_bit_flipped_anywhere_is_found(tmp_path, saved):
    """In the header as in the arrays, each place for itself."""
    whole, state = saved
    shutil.copytree(whole, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "7" / "arrays.safetensors"
    data = path.read_bytes()
    with Checkpoints(tmp_path / "run", read_only=True) as checkpoints:
        for place in (*range(0, len(data), len(data) // 97), len(data) - 1):
            flipped = bytearray(data)
            flipped[place] ^= 0x10
            path.write_bytes(bytes(flipped))
            with pytest.raises(UserError, match="7 is damaged: "):
                checkpoints.restore(lambda *_: state, 7)


def test_sealed_words_where_numbers_should_be_are_damage(tmp_path, saved):
    whole, _ = saved
    shutil.copytree(whole, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "7" / "metadata.json"
    metadata = json.loads(path.read_text())
    with Checkpoints(tmp_path / "run") as checkpoints:
        sums = {"means": {"loss": {"0": 1.0, "1": "x"}}, "members": {}}
        today = {"seconds": 1.0, "metrics": {"sums": sums, "examples": 1}}
        earlier = {"seconds": 1.0, "sums": {"loss": [1.0, "x"], "correct": 1, "count": 2}}
        for change in (
            {"rollbacks": "x"}, {"wall_seconds": []}, {"metrics": {"loss": None}},
            {"window": today}, {"window": earlier},
        ):  # fmt: skip
            path.write_text(json.dumps(sealed(metadata | change)))
            with pytest.raises(Damaged, match="words where numbers should be"):
                checkpoints.metadata(7)


@pytest.mark.parametrize("name", ["seed", "class_names", "validation_accuracy", "planned"])
def test_metadata_that_still_read_well_are_held_against_their_digest(tmp_path, run, saved, name):
    whole, state = saved
    shutil.copytree(whole, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "7" / "metadata.json"
    metadata = json.loads(path.read_text())
    for section in (metadata, metadata["config"], metadata["metrics"]):
        if name in section:
            section[name] = {"seed": 1, "class_names": ["b", "a"]}.get(name, 0)
    path.write_text(json.dumps(metadata))
    warnings = []
    with Checkpoints(tmp_path / "run") as checkpoints:
        restored, _ = checkpoints.restore(lambda *_: state, warn=warnings.append)
    assert int(restored.step) == 3 and "metadata do not match their digest" in warnings[0]


def test_stray_folders_and_files_are_none_of_ours(tmp_path, run, saved):
    whole, state = saved
    shutil.copytree(whole, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    (folder / "notes").mkdir()
    (folder / "9").write_text("a file")
    (folder / "11").mkdir()
    (folder / "11" / "letter.txt").write_text("dear diary")
    warnings = []
    with Checkpoints(tmp_path / "run") as checkpoints:
        restored, _ = checkpoints.restore(lambda *_: state, warn=warnings.append)
    assert int(restored.step) == 7 and all("is damaged" in warning for warning in warnings)
    assert (folder / "notes").is_dir()


@pytest.fixture
def tiny(tmp_path):
    """A file system of 3 MB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder):
    with open(folder / "ballast", "wb", buffering=0) as file:
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        file.write(bytes(max(free - 2**16, 0)))


def test_a_full_disk_leaves_the_checkpoints_before_and_is_tried_again(tiny):
    config = default_config()
    config.data.name = "moons"
    config.model.hidden = (200, 200)
    run = setup.from_config(config)
    state, told = run.init(), []
    with Checkpoints(tiny, failed=told.append) as checkpoints:
        checkpoints.save(1, config, copied(at(state, 1)), {}, ACCURACY)
        checkpoints.wait()
        fill(tiny)
        checkpoints.save(2, config, copied(at(state, 2)), {}, ACCURACY)
        checkpoints.save(3, config, copied(at(state, 3)), {}, ACCURACY)
        checkpoints.wait()
        assert checkpoints.steps() == [1] and checkpoints.return_to(0) == 1
        assert [line.partition(" ")[0].rpartition("/")[2] for line in told] == ["2", "3"]
        assert all(line.endswith("No space left on device") for line in told)
        (tiny / "ballast").unlink()
        checkpoints.save(4, config, copied(at(state, 4)), {}, ACCURACY)
    with Checkpoints(tiny) as checkpoints:
        assert checkpoints.steps() == [1, 4]
        restored, _ = checkpoints.restore(lambda *_: state)
        jax.tree.map(np.testing.assert_array_equal, restored, at(state, 4))
        fill(tiny)
        checkpoints.save(5, config, copied(at(state, 5)), {}, ACCURACY)
        with pytest.raises(UserError, match="5 could not be saved: No space left on device"):
            checkpoints.wait()
    with Checkpoints(tiny) as checkpoints:  # clears away what is half written
        assert checkpoints.steps() == [1, 4]
    assert not [path for path in (tiny / "checkpoints").iterdir() if "tmp" in path.name]


def test_a_folder_that_is_gone_is_told_and_not_made_anew(tmp_path, run):
    told = []
    with Checkpoints(tmp_path / "run", failed=told.append) as checkpoints:
        shutil.rmtree(tmp_path / "run")
        for step in (1, 2):
            checkpoints.save(step, run.config, copied(at(run.init(), step)), {}, ACCURACY)
    assert len(told) == 2 and all("the folder is gone" in line for line in told)
    assert not (tmp_path / "run").exists()
