"""Transfer: what is taken, kept, frozen, thawed, and told; statistics anew."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import ACCURACY

from research.config import default_config
from research.data import identity
from research.errors import UserError
from research.models import leaves
from research.optimizers.masks import by_pattern
from research.optimizers.multipliers import frozen_statistics, multipliers, never_trained
from research.training import averages, evaluation, hyperparameters, setup
from research.training.checkpoints import Checkpoints
from research.training.copies import copied
from research.training.recalibration import recalibrate
from research.training.step import make_eval_step, make_train_step
from research.training.transfer import start_from

PARAMS = {
    "Conv_0": {"kernel": 0},
    "BatchNorm_0": {"scale": 0, "bias": 0},
    "stage1_block1": {"Conv_0": {"kernel": 0}},
    "stage1_block2": {"Conv_0": {"kernel": 0}},
    "stage2_block1": {"Conv_0": {"kernel": 0}},
    "head": {"kernel": 0},
}


def from_changes(**changes):
    config = default_config()
    config.data.name = "spirals"
    config.data.toy_examples = 200
    config.batch_size = 20
    config.duration = "20 steps"
    config.model.hidden = (8, 8)
    config.update_from_flattened_dict(changes)
    return setup.from_config(config)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run folder with one checkpoint, whose weights are told apart from fresh ones."""
    workdir = tmp_path_factory.mktemp("source")
    run = from_changes(seed=7)
    state = run.init()
    state = state.replace(
        batch_stats=jax.tree.map(lambda x: x + 0.5, state.batch_stats),
        preprocessing=jax.tree.map(lambda x: x * 2, state.preprocessing),
        step=jnp.int32(20),
    )
    with Checkpoints(workdir) as checkpoints:
        kept = identity.to_metadata(run.fingerprint())
        checkpoints.save(20, run.config, copied(state), kept, ACCURACY)
    return workdir, state


def test_all_but_the_head_is_taken(source):
    workdir, theirs = source
    run = from_changes(**{"transfer.checkpoint": str(workdir)})
    ours = run.init()
    state, report = start_from(run, ours)
    np.testing.assert_array_equal(
        state.params["Dense_0"]["kernel"], theirs.params["Dense_0"]["kernel"]
    )
    np.testing.assert_array_equal(state.params["head"]["kernel"], ours.params["head"]["kernel"])
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, theirs.batch_stats)
    jax.tree.map(np.testing.assert_array_equal, state.preprocessing, theirs.preprocessing)
    assert int(state.step) == 0
    assert report["fresh"] == ["head/bias", "head/kernel"] == report["unused"]
    assert "BatchNorm_1/mean" in report["loaded"] and len(report["loaded"]) == 10
    assert report["frozen"] == []


def test_preprocessing_may_be_fitted_anew(source):
    run = from_changes(**{"transfer.checkpoint": str(source[0]), "transfer.preprocessing": False})
    state, _ = start_from(run, run.init())
    jax.tree.map(np.testing.assert_array_equal, state.preprocessing, run.statistics)


def test_preprocessing_of_other_data_is_told(source):
    run = from_changes(**{"transfer.checkpoint": str(source[0])})
    assert "fitted elsewhere" not in start_from(run, run.init())[1]
    run = from_changes(**{"transfer.checkpoint": str(source[0]), "data.toy_examples": 300})
    _, report = start_from(run, run.init())
    (told,) = report["fitted elsewhere"]
    assert re.fullmatch(r"preprocessing \(train has 300 examples, and had 200\)", told)


def test_a_head_that_is_kept_is_for_the_same_classes_in_the_same_order(source):
    changes = {"transfer.checkpoint": str(source[0]), "transfer.skip": ()}
    run = from_changes(**changes)
    _, report = start_from(run, run.init())
    assert report["fresh"] == [] and "head/kernel" in report["loaded"]
    for names, told in (
        (("a", "b", "c"), "classes are a, b, c, and were 0, 1, 2"),
        (("0", "2", "1"), "classes are 0, 2, 1, and were 0, 1, 2"),
    ):
        other = dataclasses.replace(run, class_names=names)
        with pytest.raises(UserError, match=f"keeps head/bias, head/kernel of .*{told}"):
            start_from(other, run.init())


def test_renamed_parts(source):
    run = from_changes(
        **{
            "transfer.checkpoint": str(source[0]),
            "transfer.rename": ((r"(.*)_0/(.*)", r"\1_9/\2"), (r"(.*)_1/(.*)", r"\1_0/\2")),
            "transfer.skip": ("head/.*", ".*_1/.*", "Dense_0/kernel"),
        }
    )
    state, report = start_from(run, run.init())
    np.testing.assert_array_equal(
        state.params["BatchNorm_0"]["scale"], source[1].params["BatchNorm_1"]["scale"]
    )
    assert "Dense_9/kernel" in report["unused"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model.hidden": (9, 8)}, r"Dense_0/kernel \(2, 8\) there, \(2, 9\) here; Dense_1"),
        ({"model.hidden": (8, 8, 8)}, r"has no .*Dense_2/kernel \(skip them"),
        ({"transfer.skip": ("heat/.*",)}, "transfer.skip = 'heat/.*' is unknown; did you mean"),
        ({"transfer.skip": ("(",)}, "no regular expression"),
        ({"transfer.rename": (("nothing", "x"),)}, "transfer.rename = 'nothing' is unknown"),
        ({"transfer.step": "5"}, "no checkpoint of step 5"),
        ({"transfer.checkpoint": "/nowhere"}, "neither a run folder .* nor a .safetensors"),
        ({"transfer.checkpoint": "/nowhere.safetensors"}, "no such file"),
        ({"preprocessing.name": "global_standard"}, "transfer.preprocessing = True"),
        ({"transfer.freeze": (("Dens_0/.*", "1 epochs"),)}, "transfer.freeze = 'Dens_0"),
        (
            {"transfer.freeze": (("BatchNorm_0/men", "1 epochs"),)},
            "did you mean 'BatchNorm_0/mean'",
        ),
        ({"transfer.freeze": (("(", "1 epochs"),)}, "transfer.freeze: '\\(' is no regular"),
    ],
)
def test_mistakes_are_told_in_one_line(source, changes, told):
    with pytest.raises(UserError, match=told) as caught:
        run = from_changes(**{"transfer.checkpoint": str(source[0]), **changes})
        start_from(run, run.init())
    assert "\n" not in str(caught.value)


def test_damaged_weights_are_not_taken(source, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(source[0], copy)
    file = copy / "checkpoints" / "20" / "arrays.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 0xFF
    file.write_bytes(content)
    run = from_changes(**{"transfer.checkpoint": str(copy)})
    with pytest.raises(UserError, match="is damaged"):
        start_from(run, run.init())


def test_patterns_cover_everything_or_say_what_not():
    got = by_pattern("key", (("stage1.*", 1), (".*", 2)), PARAMS)
    assert got["stage1_block2"]["Conv_0"]["kernel"] == 1 and got["head"]["kernel"] == 2
    with pytest.raises(UserError, match="no pattern matches BatchNorm_0/bias, BatchNorm_0/scale"):
        by_pattern("key", ((".*kernel", 1),), PARAMS)
    with pytest.raises(UserError, match="key = 'stage3.*' is unknown"):
        by_pattern("key", (("stage3.*", 1), (".*", 2)), PARAMS)


def test_depths_are_counted_from_the_head():
    depths = jax.tree.map(lambda leaf: leaf.depth, leaves.of(PARAMS))
    assert depths["head"]["kernel"] == 0
    assert depths["stage2_block1"]["Conv_0"]["kernel"] == 1
    assert depths["stage1_block1"]["Conv_0"]["kernel"] == 3
    assert depths["Conv_0"]["kernel"] == depths["BatchNorm_0"]["scale"] == 4


def test_multipliers_depth_and_thaw_multiply():
    config = default_config()
    config.optimizer.multipliers = (("Conv_0/.*", 0.5), (".*", 1.0))
    config.optimizer.layer_decay = 0.1
    config.transfer.freeze = (("stage1_block1/.*", "10 steps"), ("BatchNorm_0/.*", "100 percent"))
    numbers = hyperparameters.from_config(config, 1000)
    early, late = (multipliers(config, numbers, PARAMS, step) for step in (9, 10))
    assert float(early["Conv_0"]["kernel"]) == pytest.approx(0.5 * 0.1**4)
    assert float(early["stage1_block1"]["Conv_0"]["kernel"]) == 0
    assert float(late["stage1_block1"]["Conv_0"]["kernel"]) == pytest.approx(0.1**3)
    fixed = never_trained(config, numbers, PARAMS)
    assert fixed["BatchNorm_0"] == {"scale": True, "bias": True}
    assert sum(jax.tree.leaves(fixed)) == 2


def test_frozen_parameters_stay_to_the_bit_while_others_learn(source):
    run = from_changes(
        **{
            "transfer.checkpoint": str(source[0]),
            "transfer.freeze": (("Dense_0/.*", "100 percent"), ("Dense_1/.*", "2 steps")),
            "optimizer.weight_decay": 0.1,
            "optimizer.max_norm": 0.1,
            "model.freeze_batch_stats": True,
        }
    )
    start, _ = start_from(run, run.init())
    step = jax.jit(make_train_step(run.config, run.task))
    batch = {"inputs": run.train.inputs[:20], "labels": jnp.asarray(run.train.labels[:20])}
    states = [start]
    for _ in range(3):
        states.append(step(states[-1], batch)[0])

    def kernel(state, name):
        return np.asarray(state.params[name]["kernel"])

    np.testing.assert_array_equal(kernel(states[3], "Dense_0"), kernel(start, "Dense_0"))
    assert not np.array_equal(kernel(states[3], "Dense_1"), kernel(states[2], "Dense_1"))
    assert not np.array_equal(kernel(states[1], "head"), kernel(start, "head"))
    jax.tree.map(np.testing.assert_array_equal, states[3].batch_stats, start.batch_stats)


FIRST = "(Dense|BatchNorm)_0/.*"
NORMALIZERS = ("BatchNorm_0", "BatchNorm_1", "stage1_block1/BatchNorm_0")


@pytest.mark.parametrize(
    ("freeze", "factors", "wanted"),
    [
        ((), (), (1, 1, 1)),
        (((FIRST, "100 percent"),), (), (None, 1, 1)),  # never
        (((FIRST, "2 steps"),), (), (3, 1, 1)),
        (((".*_0/(kernel|scale)", "3 steps"),), (), (4, 1, 4)),
        # Of the statistics alone; of the affine map alone, whose normaliser still learns.
        (((".*/(mean|var)", "100 percent"),), (), (None, None, None)),
        ((("BatchNorm_1/mean", "1 steps"),), (), (1, 2, 1)),
        ((("Dense_0/.*", "100 percent"),), (), (1, 1, 1)),
        ((), ((FIRST, 0.0), (".*", 1.0)), (None, 1, 1)),
        ((), (("BatchNorm_0/.*", 0.0), (".*", 1.0)), (1, 1, 1)),
        ((("Dense_0/.*", "2 steps"),), (("BatchNorm_0/.*", 0.0), (".*", 1.0)), (3, 1, 1)),
    ],
)
def test_running_statistics_are_frozen_with_their_layer(freeze, factors, wanted):
    """By the first step at which each layer's move."""
    config = default_config()
    config.transfer.freeze, config.optimizer.multipliers = freeze, factors
    numbers = hyperparameters.from_config(config, 1000)
    block = {"Conv_0": {"kernel": 0}, "BatchNorm_0": {"scale": 0}}
    params = {"Dense_0": {"kernel": 0}, "BatchNorm_0": {"scale": 0}, "stage1_block1": block,
              "Dense_1": {"kernel": 0}, "BatchNorm_1": {"scale": 0}}  # fmt: skip
    of_each = {"mean": 0, "var": 0}
    statistics = {"BatchNorm_0": of_each, "BatchNorm_1": of_each}
    statistics["stage1_block1"] = {"BatchNorm_0": of_each}
    for step in range(5):
        found = frozen_statistics(config, numbers, params, statistics, step)
        for name, first in zip(NORMALIZERS, wanted, strict=True):
            still = found.get(name, False)
            assert bool(still) == (first is None or step + 1 < first), (name, step)
            assert (still is True) == (first is None)  # then no program normalises by the batch


def test_a_frozen_layer_goes_by_its_running_statistics_in_training_too(source):
    """So it is the same function of its inputs in training as in evaluation."""
    freeze = (("(Dense|BatchNorm)_1/.*", "2 steps"), (FIRST, "100 percent"))
    run = from_changes(**{"transfer.checkpoint": str(source[0]), "transfer.freeze": freeze,
                          "compute.remat": True})  # fmt: skip
    state, report = start_from(run, run.init())
    assert "BatchNorm_0/mean" in report["frozen"] and len(report["frozen"]) == 5
    batch = {"inputs": run.train.inputs[:20], "labels": jnp.asarray(run.train.labels[:20])}
    step = jax.jit(make_train_step(run.config, run.task))
    evaluated = jax.jit(make_eval_step(run.config, run.task))
    moved, gaps = [], []
    for _ in range(3):
        before = state
        state, metrics = step(before, batch)
        means = ("BatchNorm_0", "BatchNorm_1")
        moved.append(
            [not np.array_equal(before.batch_stats[n]["mean"], state.batch_stats[n]["mean"])
             for n in means]
        )  # fmt: skip
        by_running = evaluated(before, {**batch, "mask": np.ones(20, bool)})
        by_itself, by_running = metrics.sums.means["loss"][0], by_running.means["loss"][0]
        gaps.append(abs(float(by_itself - by_running)))
    assert moved == [[False, False], [False, False], [False, True]]
    assert max(gaps[:2]) < 1e-4 < 1e-2 < gaps[2]


def test_averaged_weights_keep_the_statistics_of_frozen_layers():
    run = from_changes(**{"averaging.name": "ema", "transfer.freeze": ((FIRST, "100 percent"),)})
    state = run.init()
    state = state.replace(
        averages={**state.averages, "params": state.params, "batch_stats": state.batch_stats}
    )
    in_training = jax.jit(evaluation.make_recalibrate(run.config, run.task))(
        averages.averaged(state), run.train.inputs[:180].reshape(9, 20, 2)
    )
    at_the_end = evaluation.whole_average(run, state)
    for found in (in_training, at_the_end):
        kept, new = (found.batch_stats[f"BatchNorm_{n}"] for n in (0, 1))
        np.testing.assert_allclose(kept["mean"], 0, atol=1e-7)
        np.testing.assert_allclose(kept["var"], 1, rtol=1e-6)
        assert np.abs(new["mean"]).max() > 0.1


def test_a_frozen_trunk_needs_no_backward_pass():
    def cost(**changes):
        run = from_changes(**{"model.hidden": (256, 256), "batch_size": 100, **changes})
        batch = {"inputs": run.train.inputs[:100], "labels": jnp.asarray(run.train.labels[:100])}
        step = jax.jit(make_train_step(run.config, run.task))
        analysis = step.lower(jax.eval_shape(run.init), batch).compile().cost_analysis()
        return analysis["flops"]

    frozen = cost(**{"transfer.freeze": ((r"Dense_\d/.*|BatchNorm.*", "100 percent"),)})
    assert frozen < 0.5 * cost()


def test_recalibrated_statistics_are_the_whole_splits():
    run = from_changes(**{"compute.evaluation_batch_size": 64, "model.dropout_rate": 0.5})
    state = recalibrate(run.config, run.task, run.init(), run.train)  # 180: two and a bit
    x = np.asarray(run.train.inputs, np.float64)
    x = (x - run.statistics["shift"]) * run.statistics["scale"]
    first = x @ np.asarray(state.params["Dense_0"]["kernel"], np.float64)
    found = state.batch_stats["BatchNorm_0"]
    np.testing.assert_allclose(found["mean"], first.mean(0), atol=1e-6)
    np.testing.assert_allclose(found["var"], first.var(0), rtol=1e-5)


def test_the_command_tells_and_keeps_what_happened(source, command, tmp_path):
    (tmp_path / "config.py").write_text(
        "from research.config import default_config\n\n\n"
        "def get_config():\n"
        "    config = default_config()\n"
        "    config.data.name, config.data.toy_examples = 'spirals', 200\n"
        "    config.batch_size, config.duration, config.model.hidden = 20, '20 steps', (8, 8)\n"
        "    return config\n"
    )
    workdir = tmp_path / "run"
    arguments = (f"--config={tmp_path}/config.py", f"--workdir={workdir}")
    transfer = (f"--config.transfer.checkpoint={source[0]}",
                "--config.transfer.freeze=(('Dense_0/.*','100 percent'),)")  # fmt: skip
    done = command("main", *arguments, *transfer)
    assert done.returncode == 0, done.stderr
    assert "loaded 10: " in done.stdout and "frozen 1: Dense_0/kernel" in done.stdout
    events = [json.loads(line) for line in (workdir / "history.jsonl").read_text().splitlines()]
    assert events[1]["event"] == "transfer" and events[1]["fresh"] == ["head/bias", "head/kernel"]
    with Checkpoints(workdir, read_only=True) as checkpoints:
        weights = checkpoints.weights(20)
    np.testing.assert_array_equal(
        weights["params"]["Dense_0"]["kernel"], source[1].params["Dense_0"]["kernel"]
    )
    again = command("main", *arguments, *transfer)  # nested tuples survive config.json
    assert again.returncode == 0 and "is finished" in again.stdout
