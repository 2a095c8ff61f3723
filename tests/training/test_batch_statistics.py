"""Normalisers of single values are refused, wherever they would come about; pairs are warned of."""

import dataclasses
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT
from runs import MAIN, one_line

from research.config import default_config
from research.data.dataset import Arrays
from research.errors import UserError
from research.training import batch_statistics, setup
from research.training.recalibration import recalibrate
from research.tuning.population import Population


def from_changes(**changes):
    config = default_config()
    config.data.name = "moons"
    config.model.hidden = (8, 4)
    config.update_from_flattened_dict(changes)
    return setup.from_config(config)


def images(run, size: int):
    """The same run on images of so many pixels a side."""
    random = np.random.default_rng(0)
    train = Arrays(random.integers(0, 256, (40, size, size, 1)).astype(np.uint8), np.arange(40) % 2)
    statistics = {"shift": np.zeros((), np.float32), "scale": np.ones((), np.float32)}
    return dataclasses.replace(run, train=train, validation=train, statistics=statistics)


ALONE = {"batch_size": 1}
AVERAGED = {"averaging.name": "ema", "batch_size": 20}


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        (ALONE, "config.batch_size = 1: "),
        ({"batch_size": 8, "compute.microbatches": 8}, "batch_size = 8, .*microbatches = 8: "),
        ({"model.ghost_batch_size": 1}, "config.model.ghost_batch_size = 1: "),
        ({"batch_size": 8, "compute.microbatches": 4, "model.ghost_batch_size": 1}, "ghost"),
        (ALONE | {"model.norm_after_activation": True}, "in BatchNorm_0, "),
        (ALONE | {"compute.remat": True, "model.fit_weights": "none"}, "config.batch_size = 1"),
        (ALONE | {"ensemble.members": 2}, "config.batch_size = 1"),
        (ALONE | {"transfer.freeze": (("Batch.*0/.*", "100%"),)}, "one value per .* BatchNorm_1"),
        (ALONE | {"transfer.freeze": (("Batch.*/.*", "9%"),)}, "one value per .* BatchNorm_0"),
        (AVERAGED | {"compute.evaluation_batch_size": 1}, "evaluation_batch_size = 1: "),
        (AVERAGED | {"averaging.recalibration_examples": 1}, "recalibration_examples = 1, "),
        ({"transfer.checkpoint": "run", "transfer.recalibrate": True,
          "compute.evaluation_batch_size": 1}, "transfer.recalibrate = True, .*batch_size = 1: "),
    ],
)  # fmt: skip
def test_batch_norm_of_single_values_is_refused(changes, keys):
    with pytest.raises(UserError, match=keys) as caught:
        batch_statistics.check(from_changes(**changes))
    assert "config.model.normalization = 'batch_norm'" in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        ALONE | {"model.normalization": "layer_norm"},
        ALONE | {"model.freeze_batch_stats": True},
        ALONE | {"model.hidden": ()},
        ALONE | {"transfer.freeze": (("Batch.*/.*", "100%"),)},
        {"compute.evaluation_batch_size": 1, "batch_size": 20},  # which needs no batch's statistics
        AVERAGED | {"averaging.recalibration_examples": 0, "compute.evaluation_batch_size": 1},
    ],
)
def test_where_no_batch_is_asked_it_may_be_one_example(changes):
    run = from_changes(**changes)
    batch_statistics.check(run)
    assert batch_statistics.warnings(run) == []


def test_pairs_are_told():
    for changes in ({"batch_size": 2}, {"batch_size": 8, "compute.microbatches": 4},
                    {"model.ghost_batch_size": 2}):  # fmt: skip
        run = from_changes(**changes)
        batch_statistics.check(run)
        (line,) = run.warnings()
        assert "variance of two values per channel in BatchNorm_0" in line and "\n" not in line
    assert from_changes(batch_size=4).warnings() == []


def test_images_are_refused_where_one_pixel_of_one_is_left():
    """4 x 4 pixels, halved twice; a channel of a larger image has enough values."""
    one, pair = (
        from_changes(batch_size=size, **{"model.name": "resnet", "model.depth": 8})
        for size in (1, 2)
    )
    batch_statistics.check(images(one, 16))
    with pytest.raises(UserError, match="one value per channel in stage3_block1/BatchNorm_0"):
        batch_statistics.check(images(one, 4))
    assert "two values" in batch_statistics.warnings(images(pair, 4))[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.normalization": "layer_norm", "model.hidden": (8, 1)}, "layer_norm' takes"),
        ({"model.normalization": "group_norm", "model.norm_groups": 4}, "norm_groups = 4 takes"),
        ({"model.normalization": "instance_norm", "model.name": "resnet", "model.depth": 8},
         "instance_norm' takes the variance of one value, .* 1 x 1 pixels, 64 channels"),
    ],
)  # fmt: skip
def test_normalisers_of_an_example_need_two_values_too(changes, words):
    run = from_changes(**changes)
    with pytest.raises(UserError, match=words):
        jax.eval_shape(images(run, 4).init if changes.get("model.name") else run.init)


def test_searches_refuse_it_too():
    for changes in (ALONE, {"batch_size": 8, "model.ghost_batch_size": 1}):
        with pytest.raises(UserError, match="one value per channel in BatchNorm_0"):
            Population(from_changes(**changes).config, 2)


def test_the_command_refuses_it_before_there_is_a_folder(command, tmp_path):
    result = command("main", MAIN, "--config.batch_size=8", "--config.compute.microbatches=8",
                     f"--workdir={tmp_path}/run")  # fmt: skip
    assert "config.compute.microbatches = 8: " in one_line(result)
    assert not (tmp_path / "run").exists()


def test_devices_that_normalise_their_own_example_are_refused():
    script = """
import sys
sys.path.insert(0, "tests/training")
import pytest
from test_batch_statistics import UserError, batch_statistics, from_changes
for mode in ("jit", "shard_map", "pmap"):
    changes = {"batch_size": 8, "parallel.mode": mode}
    batch_statistics.check(from_changes(**changes))
    with pytest.raises(UserError, match="local_batch_norm = True on 8 devices: .* one value"):
        batch_statistics.check(from_changes(**changes, **{"parallel.local_batch_norm": True}))
    with pytest.raises(UserError, match="ghost_batch_size = 1: "):
        batch_statistics.check(from_changes(**changes, **{"model.ghost_batch_size": 1}))
"""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    environment["PYTHONPATH"] += f"{os.pathsep}tests"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_last_batch_of_one_example_is_no_batch():
    run = from_changes(**{"data.toy_examples": 200, "batch_size": 20, "model.hidden": (8,),
                          "compute.evaluation_batch_size": 60})  # fmt: skip
    run = dataclasses.replace(run, train=run.train.subset(np.arange(61)))
    state = recalibrate(run.config, run.task, run.init(), run.train)
    x = np.asarray(run.train.inputs, np.float64)
    x = (x - run.statistics["shift"]) * run.statistics["scale"]
    first = x @ np.asarray(state.params["Dense_0"]["kernel"], np.float64)
    np.testing.assert_allclose(state.batch_stats["BatchNorm_0"]["var"], first.var(0), rtol=1e-5)
