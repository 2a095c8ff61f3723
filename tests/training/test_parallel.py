"""Many devices and processes: the numbers of one; what the compiled programs tell each other."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import parallel_worker as worker
import pytest
from conftest import ROOT

from research.errors import UserError
from research.training import setup
from research.training.sharding import Sharding

WORKER = Path(worker.__file__)


def run_worker(folder: Path, how: str) -> None:
    command = [sys.executable, str(WORKER), str(folder), how]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    # Ten steps are quick in any code; what is tested here is in the program before it.
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    if how == "two":
        local = [sys.executable, "launch/local.py", "-n", "2", "--cpu-devices", "2", "--"]
        command = [*local, *command]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Each device count goes on from the checkpoint of the one before: 1, 8, 2 x 2."""
    folder = tmp_path_factory.mktemp("parallel")
    np.savez(folder / "one-went on.npz", **worker.go_on(None, folder / "one"))
    run_worker(folder, "eight")
    run_worker(folder, "two")
    return folder


@pytest.fixture(scope="module")
def alone() -> dict:
    """What one device makes of each case."""
    cases = {**worker.CASES, "local": {"model.hidden": (16,), "model.ghost_batch_size": 8}}
    return {name: worker.train(worker.config_of(changes))[0] for name, changes in cases.items()}


def check_close(found, wanted: dict, rtol: float = 1e-5) -> None:
    assert set(found) == set(wanted)
    for name, want in wanted.items():
        scale = max(np.max(np.abs(want)), 1e-12)
        assert np.all(np.isfinite(want)), name
        assert np.max(np.abs(found[name] - want)) <= rtol * scale, name


@pytest.mark.parametrize("mode", worker.MODES)
@pytest.mark.parametrize("case", worker.CASES)
def test_ten_steps_on_8_devices_are_those_on_one(case, mode, folder, alone):
    check_close(np.load(folder / f"eight-{case}-{mode}.npz"), alone[case])


@pytest.mark.parametrize(
    ("case", "mode"),
    [*(("mlp", mode) for mode in worker.MODES), ("cnn", "jit"), ("ensemble", "jit")],
)
def test_ten_steps_of_2_processes_of_2_devices_are_those_on_one(case, mode, folder, alone):
    check_close(np.load(folder / f"two-{case}-{mode}.npz"), alone[case])


def test_local_statistics_are_ghosts_of_the_size_of_a_devices_part(folder, alone):
    check_close(np.load(folder / "eight-local-shard_map.npz"), alone["local"])


def test_parameters_cut_along_model_give_the_same_numbers(folder, alone):
    check_close(np.load(folder / "eight-model-jit.npz"), alone["mlp"])


def collectives(text: str, kind: str) -> list[str]:
    return re.findall(rf"= (\S.*?) {kind}(?:-start)?\(", text)


def test_no_activations_are_gathered(folder):
    for mode in ("jit", "shard_map"):
        text = (folder / f"eight-cnn-{mode}-0.txt").read_text()
        for kind in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
            assert not collectives(text, kind), (mode, kind)


def test_gradients_are_summed_together(folder):
    """Batch norm: 2 sums a layer forward (3 under jit), 1 backward; then gradients, loss, count.

    Under jit on CPU the gradients of convolutions stay in their conditionals (models/fusion.py).
    """
    text = (folder / "eight-cnn-shard_map-0.txt").read_text()
    assert len(collectives(text, "all-reduce")) <= 2 * (2 + 1) + 5
    text = (folder / "eight-cnn-jit-0.txt").read_text()
    assert len(collectives(text, "all-reduce")) <= 2 * (3 + 1) + 2 + 4


def test_checkpoints_go_from_1_to_8_devices_to_2_processes_to_1(folder, tmp_path):
    """Five steps on each, then ten: against one device all the way."""
    found = worker.go_on(folder / "two", tmp_path / "again")
    run, steps = worker.program_to_go_on()
    whole = worker.weights(steps(run.init(), 15 + worker.STEPS)[0])
    check_close(found, whole, rtol=1e-4)
    for how in ("one", "eight", "two"):
        assert list((folder / how / "checkpoints").iterdir())


class _Devices(Sharding):
    parts = 8


def test_batches_that_devices_cannot_share_are_refused_with_the_nearest():
    sharding = _Devices(Sharding.from_config(worker.config_of({})).mesh, ())
    sharding.check_batch(worker.config_of({}), 1000)
    for size, parts, examples, words in (
        (100, 1, 1000, r"batch_size = 100 .* 8 devices .*multiples of 8, such as 96 and 104\)"),
        (100, 1, 100, r"multiples of 8, such as 96\)"),
        (5, 1, 1000, r"such as 8\)"),
        (5, 1, 5, r"multiples of 8\)"),
        (104, 2, 1000, r"multiples of 16, such as 96 and 112\)"),
    ):
        changes = {"batch_size": size, "compute.microbatches": parts}
        with pytest.raises(UserError, match=words):
            sharding.check_batch(worker.config_of(changes, "shard_map"), examples)


def test_ghosts_that_a_device_cannot_hold_are_refused_with_what_it_holds():
    sharding = _Devices(Sharding.from_config(worker.config_of({})).mesh, ())
    changes = {"model.ghost_batch_size": 32, "compute.microbatches": 2}
    sharding.check_batch(worker.config_of(changes), 1000)
    words = r"ghost_batch_size = 32 does not divide the 4 .*: 64 in 2 microbatches, on 8 devices"
    with pytest.raises(UserError, match=words):
        sharding.check_batch(worker.config_of(changes, "pmap"), 1000)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parallel.model_devices": 3}, r"model_devices = 3 does not divide the 1 devices"),
        ({"parallel.mode": "shard_mop"}, r"did you mean 'shard_map'"),
        ({"compute.dtype": "float16"}, r"compute.dtype = 'float16' .* bfloat16, float32"),
        (
            {"parallel.local_batch_norm": True, "model.ghost_batch_size": 8},
            r"local_batch_norm and config.model.ghost_batch_size = 8",
        ),
    ],
)
def test_mistakes(changes, words):
    config = worker.config_of({})
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=words):
        setup.from_config(config)


def test_the_data_of_one_device_stay_bytes():
    sharding = Sharding.from_config(worker.config_of({}))
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    placed = sharding.put({"inputs": images})["inputs"]
    assert placed.dtype == jnp.uint8 and isinstance(placed, jax.Array)
    np.testing.assert_array_equal(placed, images)
