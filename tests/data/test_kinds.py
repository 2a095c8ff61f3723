"""Labels of every kind: converted, refused in one line, cut, batched and known by a fingerprint."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from research.config import default_config
from research.data import description, feed, identity, sources, splits
from research.data.checks import TASKS, check_arrays
from research.data.dataset import Arrays, Dataset, compact
from research.data.relabelling import relabelled
from research.errors import UserError
from research.training import setup
from research.tuning import folds

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(40, 3)).astype(np.float32)
ROWS = RANDOM.integers(0, 2, (40, 3))
TARGETS = RANDOM.normal(50, 20, (40, 2))
TOKENS = RANDOM.integers(0, 9, (40, 6))
LABELS = {
    "classes": np.arange(40, dtype=np.int32) % 4,
    "labels": ROWS.astype(np.uint8),
    "numbers": TARGETS.astype(np.float64),
    "tokens": TOKENS.astype(np.int32),
}


def data_config(**values):
    config = default_config().data
    config.update(values)
    return config


def load(path, kind, whole=False, **arrays) -> Dataset:
    np.savez(path / "data.npz", **arrays)
    return sources.load(data_config(name="npz", path=str(path / "data.npz")), whole, kind=kind)


def test_rows_of_0_and_1_are_labels(tmp_path):
    for rows in (ROWS, ROWS.astype(float), ROWS.astype(bool)):
        dataset = load(tmp_path, "labels", x_train=INPUTS, y_train=rows, x_test=INPUTS, y_test=rows)
        assert dataset.kind == "labels" and dataset.class_names == ("0", "1", "2")
        assert dataset.train.labels.dtype == np.uint8
        np.testing.assert_array_equal(dataset.train.labels, ROWS)
    named = load(tmp_path, "labels", x=INPUTS, y=ROWS, label_names=np.array(["a", "b", "c"]))
    assert named.class_names == ("a", "b", "c") and not named.ignored
    assert len(named.test) == 8


def test_numbers_are_targets(tmp_path):
    for targets, names in (
        (TARGETS, ("target_0", "target_1")),
        (TARGETS[:, 0], ("target",)),
        (np.arange(40), ("target",)),
    ):
        split = {"x_train": INPUTS, "y_train": targets, "x_test": INPUTS, "y_test": targets}
        dataset = load(tmp_path, "numbers", **split)
        assert dataset.class_names == names and dataset.train.labels.dtype == np.float64
        expected = targets.reshape(40, -1).astype(np.float64)
        np.testing.assert_array_equal(dataset.train.labels, expected)
    split["target_names"] = np.array(["price"])
    assert load(tmp_path, "numbers", **split).class_names == ("price",)


def test_tokens_without_labels_are_shifted(tmp_path):
    dataset = load(tmp_path, "tokens", inputs=TOKENS.astype(np.uint8))
    together = [np.concatenate([getattr(of, part) for of in (dataset.train, dataset.test)])
                for part in ("inputs", "labels")]  # fmt: skip
    np.testing.assert_array_equal(together[0], TOKENS[:, :-1])  # in order: the cut is contiguous
    np.testing.assert_array_equal(together[1], TOKENS[:, 1:])
    assert {array.dtype for array in together} == {np.dtype(np.int32)}
    assert dataset.class_names == tuple(map(str, range(9))) and len(dataset.test) == 8
    padded = TOKENS.copy()
    padded[:, 4:] = -1
    dataset = load(tmp_path, "tokens", x_test=padded, whole=True)
    np.testing.assert_array_equal(dataset.test.labels[:, 3:], -1)
    np.testing.assert_array_equal(dataset.test.inputs[:, 4:], 0)
    both = load(tmp_path, "tokens", x=TOKENS, y=TOKENS * (TOKENS < 5))
    assert both.train.inputs.shape == (32, 6) and both.train.labels.max() == 4


def test_names_of_classes_give_their_order(tmp_path):
    words = np.array(["ox", "cat", "gnu"])
    for labels in (words[np.arange(40) % 3], np.arange(40) % 3, np.eye(3)[np.arange(40) % 3]):
        dataset = load(tmp_path, "classes", x=INPUTS, y=labels, class_names=words)
        assert dataset.class_names == tuple(words)
        both = np.concatenate([dataset.train.labels, dataset.test.labels])
        assert np.bincount(both).tolist() == [14, 13, 13]


NAN = np.where(np.arange(80).reshape(40, 2) == 7, np.nan, TARGETS)


@pytest.mark.parametrize(
    ("kind", "labels", "message"),
    [
        ("numbers", NAN, "labels: target 1 of example 3 is nan .*1 such examples"),
        ("numbers", np.where(np.isnan(NAN), -np.inf, NAN), "target 1 of example 3 is -inf"),
        ("numbers", TARGETS * 1e40, r"target 0 of example 0 is .*at most 3.4e\+38"),
        ("numbers", TARGETS.astype(str), r"labels are <U32 .* numbers \(N,\) or \(N, K\)"),
        ("numbers", TARGETS[:, :, None], r"shape \(40, 2, 1\) .*'regression'"),
        ("numbers", TARGETS[:39], "40 inputs but 39 labels"),
        ("numbers", TARGETS[:, :0], r"shape \(40, 0\)"),
        ("labels", np.arange(40), r"shape \(40,\) .*'multilabel': numbers \(N, L\)"),
        ("labels", ROWS - 1, "label . of example 0 is -1 .allowed: 0 or 1"),
        ("labels", ROWS * 2, "is 2 .allowed: 0 or 1"),
        ("labels", np.where(ROWS, np.nan, 0), "is nan .allowed: 0 or 1"),
        ("labels", ROWS.astype(str), "labels are <U21"),
        ("classes", TARGETS[:, 0], "look like targets of a regression.*task.name=regression"),
        ("classes", np.arange(40) * 7, "40 different .*--config.task.name=regression"),
        ("classes", ROWS, "is not one-hot .*--config.task.name=multilabel"),
        ("classes", TARGETS, "is not one-hot .*--config.task.name=regression"),
        ("tokens", TOKENS[:, :3], r"labels have shape \(40, 3\) .*\(40, 6\)"),
        ("tokens", TOKENS - 2, "label -2 of example .* out of range .allowed: -1 to 8"),
        ("tokens", TOKENS * 1.5, "labels are float64"),
    ],
)
def test_unfit_labels_are_named_in_a_line(tmp_path, kind, labels, message):
    inputs = TOKENS if kind == "tokens" else INPUTS
    with pytest.raises(UserError, match=message) as told:
        load(tmp_path, kind, inputs=inputs, labels=labels)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("kind", "arrays", "message"),
    [
        ("tokens", {"x": INPUTS}, r"x are float32 .* whole numbers \(N, T\)"),
        ("tokens", {"x": TOKENS[:, :1]}, "at least 2 tokens"),
        ("tokens", {"x": TOKENS - 1}, "token -1 of example"),
        ("tokens", {"x": TOKENS + 2**40}, "hold the token 10995116277.. .allowed: 0 to 16777215"),
        ("tokens", {"x_train": TOKENS, "x_test": TOKENS + 1}, "label 9 of example .*0|-1 to 8"),
        ("classes", {"x": TOKENS}, "holds x .train without labels. .allowed: inputs and labels"),
        ("labels", {"x": INPUTS, "y": ROWS, "class_names": np.array(["a"])}, "1 names for them: a"),
        ("labels", {"x": INPUTS, "y": ROWS, "class_names": np.arange(3)}, "class_names is int64"),
        ("labels", {"x": INPUTS, "y": ROWS, "class_names": np.array(["a", "b", "a"])},
         "allowed: different words"),
        ("classes", {"x": INPUTS, "y": LABELS["classes"], "class_names": np.array(["a", "b"])},
         "label 2 of example 2 has no name .allowed: 0 to 1, or a, b; 20 such"),
        ("classes", {"x": INPUTS, "y": np.full(40, "c"), "class_names": np.array(["a", "b"])},
         "label c of example 0 has no name"),
        ("numbers", {"x_train": INPUTS, "y_train": TARGETS, "x_test": INPUTS,
                     "y_test": TARGETS[:, 0]}, "y_test have 1 columns, .*y_train have 2"),
    ],
)  # fmt: skip
def test_unfit_arrays_are_named_in_a_line(tmp_path, kind, arrays, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, kind, **arrays)


def test_a_source_without_such_labels_names_its_task():
    for name, kind, task in (
        ("moons", "numbers", "classification"),
        ("digits", "tokens", "classification"),
        ("iris", "labels", "classification"),
        ("diabetes", "classes", "regression"),
        ("text", "classes", "next_token"),
    ):
        told = f"'{name}' has no labels for config.task.name = '{TASKS[kind]}' .*'{task}'"
        with pytest.raises(UserError, match=told):
            sources.load(data_config(name=name), kind=kind)


def test_small_tables_are_those_of_scikit_learn():
    from sklearn import datasets

    for name, kind in (("iris", "classes"), ("wine", "classes"), ("breast_cancer", "classes"),
                       ("diabetes", "numbers")):  # fmt: skip
        dataset = sources.load(data_config(name=name), kind=kind)
        options = {"scaled": False} if name == "diabetes" else {}
        inputs, labels = getattr(datasets, f"load_{name}")(return_X_y=True, **options)
        found = [
            np.concatenate([getattr(of, part) for of in (dataset.train, dataset.test)])
            for part in ("inputs", "labels")
        ]
        rows = np.concatenate([of.numbers for of in (dataset.train, dataset.test)])
        np.testing.assert_array_equal(found[0], inputs[rows])
        np.testing.assert_array_equal(found[1].ravel(), labels[rows])
        assert len(dataset.test) == round(len(inputs) / 5)
        assert len(sources.load(data_config(name=name), whole=True, kind=kind).test) == len(inputs)


@pytest.mark.parametrize("kind", ["labels", "numbers"])
@hypothesis.given(st.integers(2, 200), st.integers(0, 99), st.integers(0, 9))
def test_without_classes_the_share_is_exact_and_its_rows_are_random(kind, count, percent, seed):
    labels = np.zeros((count, 2))
    labels[:, 0] = np.arange(count)
    train, validation = splits.train_validation(labels, percent / 100, seed, kind)
    assert sorted([*train, *validation]) == list(range(count))
    assert len(validation) == min(round(percent * count / 100), count - 1)
    again = splits.train_validation(labels[::-1], percent / 100, seed, kind)
    np.testing.assert_array_equal(again[1], validation)  # labels play no part


@hypothesis.given(st.integers(2, 200), st.integers(0, 99), st.integers(2, 9))
def test_tokens_are_cut_in_their_order(count, percent, k):
    labels = np.zeros((count, 5), np.int32)
    train, validation = splits.train_validation(labels, percent / 100, 0, "tokens")
    np.testing.assert_array_equal(np.concatenate([train, validation]), np.arange(count))
    assert len(validation) == min(round(percent * count / 100), count - 1)
    if k > count:
        with pytest.raises(UserError, match=f"the data have {count} examples"):
            splits.k_fold(labels, k, 0, "tokens")
        return
    cuts = splits.k_fold(labels, k, 0, "tokens")
    np.testing.assert_array_equal(np.concatenate([of for _, of in cuts]), np.arange(count))
    assert {len(of) for _, of in cuts} <= {count // k, -(-count // k)}
    assert all(len(np.union1d(*cut)) == count for cut in cuts)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("batch_size", [7, 40, 64])
def test_padded_batches_and_device_arrays_keep_the_labels(kind, batch_size):
    labels = compact(LABELS[kind])
    batches = feed.padded_batches(INPUTS, labels, batch_size, multiple=2)
    assert batches["labels"].dtype == labels.dtype
    np.testing.assert_array_equal(batches["labels"][batches["mask"]], labels)
    np.testing.assert_array_equal(batches["inputs"][batches["mask"]], INPUTS)
    put = feed.to_device(INPUTS, labels)["labels"]
    assert put.dtype == labels.dtype
    np.testing.assert_array_equal(put, labels)


def dataset_of(kind, labels=None, names=None) -> Dataset:
    labels = LABELS[kind] if labels is None else labels
    inputs = TOKENS.astype(np.int32) if kind == "tokens" else INPUTS
    outputs = {"classes": 4, "labels": 3, "numbers": 2, "tokens": 9}[kind]
    names = names or tuple(map(str, range(outputs)))
    return Dataset("mine", *[Arrays(inputs, labels)] * 2, class_names=names, kind=kind)


@pytest.mark.parametrize("kind", LABELS)
def test_a_fingerprint_sees_each_label_of_any_kind(kind):
    labels = LABELS[kind].copy()
    labels.flat[-1] = 1 - labels.flat[-1]
    known, found = (
        identity.of((), {"train": dataset_of(kind, of).train}) for of in (LABELS[kind], labels)
    )
    assert identity.differences(known, found) == ["train has other labels"]
    assert identity.differences(known, known) == []


@pytest.mark.parametrize("kind", LABELS)
def test_all_kinds_are_checked(kind):
    dataset = dataset_of(kind)
    outputs = len(dataset.class_names)
    check_arrays(dataset.train, outputs, "mine", kind)
    bad = {"numbers": np.nan, "labels": 2}.get(kind, outputs)
    labels = LABELS[kind].copy()
    labels.flat[-1] = bad
    with pytest.raises(UserError, match=f"mine: label {bad} of example 39 is out of range"):
        check_arrays(Arrays(dataset.train.inputs, labels), outputs, "mine", kind)
    shapes = Arrays(dataset.train.inputs, labels[..., None])
    with pytest.raises(UserError, match=r"shape .* \(allowed for config.task.name"):
        check_arrays(shapes, outputs, "mine", kind)


def test_a_line_describes_each_kind():
    lines = {
        kind: description.line("mine", {"train": of.train}, of.class_names, kind=kind)
        for kind, of in ((kind, dataset_of(kind)) for kind in LABELS)
    }
    assert "; 4 classes (0, 1, 2, ...); 3 float32 from " in lines["classes"]
    assert f"; 3 labels (0, 1, 2), {ROWS.sum() / 40:.3g} for each example; 3 fl" in lines["labels"]
    low, high, mean = (of(TARGETS[:, 0]) for of in (np.min, np.max, np.mean))
    told = f"; 2 targets (0 from {low:.4g} to {high:.4g}, mean {mean:.4g}; 1 from "
    assert told in lines["numbers"]
    assert lines["tokens"].endswith(
        "; vocabulary of 9 tokens ('0', '1', '2', ...), 240 to predict in train; 6 tokens"
    )
    rows = ROWS.astype(np.uint8) * np.array([1, 0, 1], np.uint8)
    (line,) = description.absent({"train": Arrays(INPUTS, rows)}, ("a", "b", "c"), "labels")
    assert line == "train has no example of 1 of the 3 labels (b)"
    numbers = Arrays(INPUTS, LABELS["numbers"] * np.float32([0, 1]))
    (line,) = description.absent({"test": numbers}, ("a", "b"), "numbers")
    assert line == "test has only one value of 1 of the 2 targets (a)"
    assert not description.absent({"train": dataset_of("tokens").train}, ("a",), "tokens")


def test_outputs_are_put_in_the_order_of_a_run():
    for kind, names in (("labels", ("2", "0", "1")), ("numbers", ("1", "0"))):
        found = relabelled(dataset_of(kind), names)
        order = [int(name) for name in names]
        np.testing.assert_array_equal(found.test.labels, LABELS[kind][:, order])
        with pytest.raises(UserError, match="mine lacks .* of the run: new"):
            relabelled(dataset_of(kind), (*names, "new"))
        with pytest.raises(UserError, match="does not know: 0"):
            relabelled(dataset_of(kind), tuple(name for name in names if name != "0"))


def test_tokens_of_a_run_and_unknown_ones():
    tokens = np.array([[0, 1, 2, 3]], np.int32)
    labels = np.array([[1, 2, 3, -1]], np.int32)
    text = Dataset("t", None, Arrays(tokens, labels), ("a", "b", "c", "\ufffd"), kind="tokens")
    found = relabelled(text, ("c", "x", "a", "\ufffd"))
    assert found.test.inputs.tolist() == [[2, 3, 0, 3]]
    assert found.test.labels.tolist() == [[3, 0, 3, -1]]
    assert found.messages == ("t: 1 tokens are unknown to the run (b)",)
    assert found.fingerprint()["test"]["inputs"] == identity.checksum(found.test.inputs)
    with pytest.raises(UserError, match="tokens that the run does not know: b"):
        relabelled(text, ("a", "c"))


@pytest.mark.parametrize("kind", ["labels", "numbers", "tokens"])
def test_runs_and_folds_are_cut_by_their_kind(kind):
    config = default_config()
    config.task.name = TASKS[kind]
    dataset = dataset_of(kind)
    training, validation = setup.cut(config, dataset)
    assert len(validation) == 4
    assert (validation.tolist() == [36, 37, 38, 39]) == (kind == "tokens")
    run = setup.from_split(config, sources.in_float32(dataset), training, validation)
    labels = LABELS[kind][validation]
    np.testing.assert_array_equal(run.validation.labels, compact(labels))
    assert run.description()[0] == description.line(
        "mine", {"train": run.train, "validation": run.validation, "test": run.test},
        run.class_names, kind=kind,
    )  # fmt: skip
    if kind == "tokens":
        assert run.statistics == {} and run.train.dtype == np.int32
    cuts = folds.cut(config, dataset.train.labels, 5, 1, kind=kind)
    assert sorted(np.concatenate([of for _, of in cuts])) == list(range(40))
    if kind == "tokens":
        with pytest.raises(UserError, match="a text is cut in its order"):
            folds.cut(config, dataset.train.labels, 5, 2, kind=kind)
