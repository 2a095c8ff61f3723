"""Checkpoints: what is kept, what is found damaged, and that restored bits are the saved ones."""

import dataclasses
import errno
import json
import os
import shutil
import tempfile

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from runs import ACCURACY
from safetensors.numpy import load_file

from research.data import identity
from research.errors import UserError
from research.optimizers.masks import leaves_by_path
from research.training import checkpoint_files, fitted, setup
from research.training.checkpoints import Checkpoints
from research.training.copies import copied
from research.training.digest import parameters_sha256, sealed, tree_sha256


@pytest.fixture(scope="module")
def run(moons):
    return moons


def at(state, step: int):
    """The state, other at every step."""
    params = jax.tree.map(lambda leaf: leaf + step, state.params)
    return state.replace(step=np.int32(step), params=params)


def save(workdir, run, steps, accuracies=None):
    state = run.init()
    with Checkpoints(workdir) as checkpoints:
        for number, step in enumerate(steps):
            metrics = {"validation_accuracy": accuracies[number]} if accuracies else None
            checkpoints.save(
                step,
                run.config,
                copied(at(state, step)),
                {"class_names": ["a", "b"]},
                ACCURACY,
                metrics,
            )
    return state


def restore(workdir, run, step=None):
    warnings = []
    with Checkpoints(workdir) as checkpoints:
        found = checkpoints.restore(lambda *_: run.init(), step, warn=warnings.append)
        return found, warnings, checkpoints.steps()


def test_what_is_restored_is_what_was_saved(tmp_path, run):
    state = save(tmp_path, run, [5])
    (restored, metadata), warnings, _ = restore(tmp_path, run)
    jax.tree.map(np.testing.assert_array_equal, restored, at(state, 5))
    assert metadata["class_names"] == ["a", "b"] and not warnings
    assert metadata["config"] == json.loads(run.config.to_json_best_effort())


def test_training_goes_on_in_the_memory_of_a_state_while_it_is_saved(tmp_path, run):
    go_on = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    first = go_on(run.init())
    wanted = jax.tree.map(np.array, first.params)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, run.config, copied(first), {}, ACCURACY)
        state = first
        for _ in range(100):
            state = go_on(state)
    assert first.step.is_deleted()  # its memory is not its own any more
    (restored, _), warnings, _ = restore(tmp_path, run)
    jax.tree.map(np.testing.assert_array_equal, restored.params, wanted)
    assert not warnings


def test_the_newest_two_and_the_best_are_kept(tmp_path, run):
    save(tmp_path, run, [1, 2, 3, 4, 5], [0.1, 0.9, 0.3, 0.4, 0.5])
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps() == [2, 4, 5]
        assert checkpoints.find("best") == 2
        assert checkpoints.find("last") == 5
        assert checkpoints.find("4") == 4


def test_checkpoints_without_a_score_are_kept_as_newest_and_never_the_best(tmp_path, run):
    """Those of an interrupted run, and of runs without a validation split."""
    save(tmp_path, run, [1, 2], [0.9, 0.8])
    save(tmp_path, run, [3, 4, 5])
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps() == [1, 4, 5]
        assert checkpoints.find("best") == 1


def test_no_score_at_all_has_no_best(tmp_path, run):
    save(tmp_path, run, [1])
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        with pytest.raises(UserError, match="no checkpoint to be the best one"):
            checkpoints.find("best")
        with pytest.raises(UserError, match="'newest' is unknown"):
            checkpoints.find("newest")


def damage(folder, how):
    arrays = folder / "arrays.safetensors"
    if how == "flipped":
        data = bytearray(arrays.read_bytes())
        data[-1] ^= 0xFF
        arrays.write_bytes(bytes(data))
    elif how == "truncated":
        arrays.write_bytes(arrays.read_bytes()[: arrays.stat().st_size // 2])
    elif how == "no arrays":
        arrays.unlink()
    elif how == "no metadata":
        (folder / "metadata.json").unlink()
    elif how == "metadata":
        (folder / "metadata.json").write_text('{"format": 1')
    elif how == "empty":
        shutil.rmtree(folder)
        folder.mkdir()


DAMAGES = ["flipped", "truncated", "no arrays", "no metadata", "metadata", "empty"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path, run, how):
    state = save(tmp_path, run, [3, 7])
    damage(tmp_path / "checkpoints" / "7", how)
    (restored, _), warnings, steps = restore(tmp_path, run)
    jax.tree.map(np.testing.assert_array_equal, restored, at(state, 3))
    assert len(warnings) == 1 and "checkpoints/7 is damaged" in warnings[0]
    assert "\n" not in warnings[0] and steps == [3]
    assert len(list((tmp_path / "damaged_checkpoints").iterdir())) == 1  # set aside, not deleted
    save(tmp_path, run, [7])  # and its step can be saved again
    (restored, _), warnings, steps = restore(tmp_path, run)
    assert int(restored.step) == 7 and not warnings


@pytest.mark.parametrize("how", DAMAGES)
def test_asking_for_a_damaged_step_is_an_error_and_moves_nothing(tmp_path, run, how):
    save(tmp_path, run, [3, 7])
    damage(tmp_path / "checkpoints" / "7", how)
    with (
        Checkpoints(tmp_path, read_only=True) as checkpoints,
        pytest.raises(UserError, match="7 is damaged|no checkpoint of step 7"),
    ):
        checkpoints.restore(lambda *_: run.init(), 7)
    assert (tmp_path / "checkpoints" / "7").exists()


def test_nothing_whole_is_nothing(tmp_path, run):
    assert restore(tmp_path, run)[0] is None
    save(tmp_path, run, [3])
    damage(tmp_path / "checkpoints" / "3", "truncated")
    found, warnings, _ = restore(tmp_path, run)
    assert found is None and len(warnings) == 1


def test_a_half_written_save_is_ignored(tmp_path, run):
    save(tmp_path, run, [3])
    folder = tmp_path / "checkpoints"
    half = folder / "9.orbax-checkpoint-tmp"
    shutil.copytree(folder / "3", half)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps() == [3] and half.exists()
    (restored, _), warnings, steps = restore(tmp_path, run)
    assert int(restored.step) == 3 and steps == [3] and not warnings
    assert not half.exists()


def test_what_is_deleted_is_gone_at_once(tmp_path, run, monkeypatch):
    """A kill while it is deleted leaves no half of a checkpoint under its name."""
    seen = []
    delete = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", lambda path: (seen.append(path.name), delete(path)))
    save(tmp_path, run, [1, 2, 3])
    assert seen == ["1.orbax-checkpoint-tmp"]


def test_what_cannot_be_deleted_is_saved_all_the_same(tmp_path, run, monkeypatch):
    """Network file systems refuse while another process reads."""
    state = run.init()
    with Checkpoints(tmp_path) as checkpoints, monkeypatch.context() as patched:

        def refuse(*_):
            raise OSError(errno.ENOTEMPTY, "Directory not empty")

        for step in (1, 2, 3, 4, 5):
            if step == 3:
                patched.setattr(shutil, "rmtree", refuse)
            if step == 4:
                patched.undo()
            metrics = {"validation_accuracy": 0.9 if step == 3 else 0.1}
            checkpoints.save(step, run.config, copied(at(state, step)), {}, ACCURACY, metrics)
            checkpoints.wait()
        assert checkpoints.steps() == [3, 4, 5] and checkpoints.find("best") == 3


def test_what_the_machine_refuses_is_no_damage(tmp_path, run, monkeypatch):
    save(tmp_path, run, [3])

    def refuse(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    with Checkpoints(tmp_path) as checkpoints:
        monkeypatch.setattr(checkpoint_files, "open", refuse, raising=False)
        with pytest.raises(OSError, match="Too many open files"):
            checkpoints.restore(lambda *_: run.init())
        assert checkpoints.steps() == [3]


def test_a_rollback_goes_on_before_a_damaged_one(tmp_path, run):
    state = run.init()
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, run.config, copied(at(state, step)), {}, ACCURACY)
        checkpoints.wait()
        damage(tmp_path / "checkpoints" / "2", "metadata")
        assert checkpoints.return_to(0) == 1 and checkpoints.steps() == [1]


def test_names_that_make_one_path_are_refused(tmp_path, run):
    state = run.init()
    both = {"a/b": np.zeros(1), "a": {"b": np.ones(1)}}
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(ValueError, match="have one path"):
        checkpoints.save(1, run.config, copied(state.replace(params=both)), {}, ACCURACY)


def test_weights_do_not_hold_the_whole_file(tmp_path, run):
    save(tmp_path, run, [3])
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        weights = checkpoints.weights(3)
    assert all(leaf.base.nbytes == leaf.nbytes for leaf in jax.tree.leaves(weights))


def test_other_tools_read_them(tmp_path, run):
    """Orbax finds the steps, safetensors the arrays."""
    state = at(save(tmp_path, run, [3, 7]), 7)
    assert ocp.CheckpointManager(tmp_path / "checkpoints").all_steps() == [3, 7]
    found = load_file(tmp_path / "checkpoints" / "7" / "arrays.safetensors")
    for name, leaf in leaves_by_path(state.params).items():
        np.testing.assert_array_equal(found[f"params/{name}"], leaf)
    orbax = ocp.Checkpointer(checkpoint_files._Files())
    metadata, arrays = orbax.restore(tmp_path / "checkpoints" / "7")
    assert metadata["class_names"] == ["a", "b"] and arrays.keys() == found.keys()


def test_bfloat16_and_arrays_in_other_orders_come_back(tmp_path):
    arrays = {"a": np.arange(6).astype(jax.numpy.bfloat16), "b": np.arange(6).reshape(2, 3).T,
              "c": np.float32(3), "d": np.zeros((0, 3), np.uint8)}  # fmt: skip
    checkpoint_files._Files().save(tmp_path, checkpoint_files._Content(arrays, {"metrics": {}}))
    _, restored = checkpoint_files.read(tmp_path)
    assert restored.keys() == arrays.keys()
    for name, array in arrays.items():
        assert restored[name].dtype == array.dtype and restored[name].shape == array.shape
        np.testing.assert_array_equal(restored[name], array)
    wrong = checkpoint_files._Content({"z": np.zeros(2, np.complex128)}, {})
    with pytest.raises(TypeError, match="complex128"):
        checkpoint_files._Files().save(tmp_path, wrong)


def test_another_model_is_not_a_damaged_file(tmp_path, run):
    """Shapes that differ are told, not loaded."""
    save(tmp_path, run, [3])
    config = run.config.copy_and_resolve_references()
    config.model.hidden = (9,)
    other = dataclasses.replace(run, config=config)
    with Checkpoints(tmp_path) as checkpoints:
        for step in (3, None):
            with pytest.raises(UserError, match="other shapes"):
                checkpoints.restore(lambda *_: other.init(), step)
        assert checkpoints.steps() == [3]  # and it is not set aside


def test_a_momentum_of_another_meaning_is_refused(tmp_path, run):
    """LARS once kept directions without the rate: taken over, they would be 1 / rate too long."""
    config = run.config.copy_and_resolve_references()
    config.optimizer.name = "lars"
    lars = dataclasses.replace(run, config=config)
    state = lars.init()
    clip, rule, *others = state.opt_state
    before = (clip, (clip, clip, rule["velocity"]), *others)
    with Checkpoints(tmp_path) as checkpoints:
        for step, opt_state in ((3, before), (4, state.opt_state)):
            copies = copied(at(state.replace(opt_state=opt_state), step))
            checkpoints.save(step, config, copies, {"class_names": ["a", "b"]}, ACCURACY)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(UserError, match=r"\(opt_state/1/2/trace/.*of an earlier version\?"):
            checkpoints.restore(lambda *_: lars.init(), 3)
        assert int(checkpoints.restore(lambda *_: lars.init(), 4)[0].step) == 4


def test_a_checkpoint_of_another_format_is_not_a_damaged_file(tmp_path, run):
    save(tmp_path, run, [3])
    path = tmp_path / "checkpoints" / "3" / "metadata.json"
    metadata = json.loads(path.read_text())
    later = sealed({**metadata, "format": 99})
    earlier = {name: metadata[name] for name in metadata if name != "metadata_sha256"}
    for other, number in ((later, 99), ({**earlier, "format": 1}, 1)):
        path.write_text(json.dumps(other))
        with Checkpoints(tmp_path) as checkpoints:
            with pytest.raises(UserError, match=f"has format {number}"):
                checkpoints.restore(lambda *_: run.init())
            assert checkpoints.steps() == [3]
    path.unlink()
    (path.parent / "metadata").mkdir()  # where the first formats had theirs
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(UserError, match="has an older format"):
            checkpoints.restore(lambda *_: run.init())
        assert checkpoints.steps() == [3]


def test_the_digest_sees_every_bit_name_shape_and_dtype():
    tree = {"a": np.arange(6, dtype=np.float32), "b": {"c": np.zeros((2, 3), np.float32)}}
    digest = tree_sha256(tree)
    flipped = tree["a"].copy()
    flipped.view(np.uint32)[3] ^= 1
    for other in (
        {**tree, "a": flipped},
        {**tree, "a": tree["a"].astype(np.float64)},
        {**tree, "a": tree["a"].reshape(2, 3)},
        {"d": tree["a"], "b": tree["b"]},
        {"a": tree["a"]},
    ):
        assert tree_sha256(other) != digest
    assert tree_sha256({"b": tree["b"], "a": tree["a"]}) == digest  # order of insertion


def test_the_parameters_digest_leaves_out_the_optimizer(run):
    state = run.init()
    assert parameters_sha256(state) == parameters_sha256(at(state, 0).replace(opt_state=()))
    assert parameters_sha256(state) != parameters_sha256(at(state, 1))


def fitted_before(workdir, config):
    with Checkpoints(workdir, read_only=True) as checkpoints:
        return fitted.fitted_before(checkpoints, config)


def test_preprocessing_is_not_fitted_again_for_the_same_data(tmp_path, run):
    state = run.init()
    other = jax.tree.map(lambda leaf: leaf + 1, state.preprocessing)
    assert fitted_before(tmp_path, run.config) is None
    with Checkpoints(tmp_path) as checkpoints:
        for step, saved in ((1, state.replace(preprocessing=other)), (2, state)):
            checkpoints.save(
                step, run.config, copied(saved.replace(step=np.int32(step))), {}, ACCURACY
            )
    found = fitted_before(tmp_path, run.config)
    jax.tree.map(np.testing.assert_array_equal, found, run.statistics)
    damage(tmp_path / "checkpoints" / "2", "flipped")
    found = fitted_before(tmp_path, run.config)
    jax.tree.map(np.testing.assert_array_equal, found, dict(other))
    again = setup.from_config(run.config, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, again.statistics, found)
    for key, value in (("data.split_seed", 1), ("preprocessing.name", "zca")):
        config = run.config.copy_and_resolve_references()
        config.update_from_flattened_dict({key: value})
        assert fitted_before(tmp_path, config) is None
    # Data of another shape than those it was fitted to.
    config = run.config.copy_and_resolve_references()
    config.data.name = "digits"
    dataset = setup.loaded(config)
    other = setup.from_split(config, dataset, *setup.cut(config, dataset), statistics=found)
    assert other.statistics["shift"].shape == (1,)


def test_preprocessing_is_that_of_the_same_training_data_wherever_they_lie(tmp_path, run):
    state, kept = run.init(), identity.to_metadata(run.fingerprint())
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, run.config, copied(state.replace(step=np.int32(1))), kept, ACCURACY)
    moved = run.config.copy_and_resolve_references()
    moved.data.data_dir = "/elsewhere"
    found = fitted_before(tmp_path, moved)
    jax.tree.map(np.testing.assert_array_equal, found, run.statistics)


def test_what_is_no_folder_in_the_place_of_a_checkpoint_is_set_aside(tmp_path, run):
    save(tmp_path, run, [1])
    (tmp_path / "checkpoints" / "2").touch()
    save(tmp_path, run, [2])
    assert restore(tmp_path, run)[2] == [1, 2]
    assert len(list((tmp_path / "damaged_checkpoints").iterdir())) == 1


def test_damaged_checkpoints_are_set_aside_from_another_disk_too(tmp_path, run):
    other = tempfile.mkdtemp(dir="/dev/shm")
    if os.stat(other).st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("there is one disk")
    (tmp_path / "checkpoints").symlink_to(other)
    save(tmp_path, run, [1, 2])
    damage(tmp_path / "checkpoints" / "2", "truncated")
    _, warnings, steps = restore(tmp_path, run)
    shutil.rmtree(other)
    assert len(warnings) == 1 and steps == [1]


def test_a_sparse_file_larger_than_the_memory_is_damage(tmp_path, run):
    save(tmp_path, run, [1, 2])
    os.truncate(tmp_path / "checkpoints" / "2" / "arrays.safetensors", 2**43)
    _, warnings, steps = restore(tmp_path, run)
    assert "file not fully covered" in warnings[0] and steps == [1]
