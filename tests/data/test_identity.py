"""Fingerprints of data: every change of the examples is seen, no change of the place is."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from runs import write_classes

from research.config import default_config
from research.data import identity, sources
from research.data.dataset import Arrays, Dataset
from research.data.relabelling import relabelled
from research.errors import UserError

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(40, 3)).astype(np.float32)
LABELS = np.arange(40) % 4


def load(**values):
    config = default_config().data
    config.update(values)
    dataset = sources.load(config)
    return identity.of(dataset.class_names, dataset.splits())


def of_npz(path, inputs=INPUTS, labels=LABELS):
    np.savez(path, inputs=inputs, labels=labels)
    return load(name="npz", path=str(path))


def changed(array, *place_and_value):
    *place, value = place_and_value
    array = array.copy()
    array[tuple(place)] = value
    return array


def test_an_npz_elsewhere_is_the_same_and_one_changed_number_is_not(tmp_path):
    known = of_npz(tmp_path / "here.npz")
    (tmp_path / "there").mkdir()
    assert identity.differences(known, of_npz(tmp_path / "there" / "x.npz")) == []
    for inputs, labels, told in (
        (changed(INPUTS, 7, 2, 0.125), LABELS, "train has other inputs"),
        (INPUTS, changed(LABELS, 7, 0), "train has"),  # and so another cut
        (INPUTS[::-1], LABELS, "train has other inputs"),
        (np.r_[INPUTS, INPUTS], np.r_[LABELS, LABELS], "train has 64 examples, and had 32"),
        (np.c_[INPUTS, INPUTS], LABELS, r"train has inputs of shape \[6\], and had \[3\]"),
        (np.zeros((40, 3, 1), np.uint8), LABELS, "train has inputs of shape"),
    ):
        found = of_npz(tmp_path / "other.npz", inputs, labels)
        with pytest.raises(UserError, match=f"the run holds results of other data: .*{told}"):
            identity.demand_same(known, found, "the run")


def test_labels_alone_are_seen(tmp_path):
    arrays = {"x_train": INPUTS, "y_train": LABELS, "x_test": INPUTS, "y_test": LABELS}
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez(tmp_path / "b.npz", **{**arrays, "y_test": LABELS[::-1]})
    known, found = (load(name="npz", path=str(tmp_path / f"{name}.npz")) for name in "ab")
    assert identity.differences(known, found) == ["test has other labels"]


@pytest.mark.parametrize("memory_mb", [100, 0])
def test_a_folder_elsewhere_is_the_same_and_a_changed_one_is_not(memory_mb, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    write_classes(here)

    def found(root):
        return load(name="folder", path=str(root), memory_mb=memory_mb)

    known = found(here)
    write_classes(there)
    for file in there.rglob("*.png"):
        os.utime(file, (1, 1))
    assert identity.differences(known, found(there)) == []
    Image.new("RGB", (5, 4)).save(there / "dog" / "3.png")  # of another size, for it is empty
    (told, *_) = identity.differences(known, found(there))
    assert "has other inputs" in told or "has other files" in told
    shutil.rmtree(there)
    write_classes(there)
    (there / "dog" / "3.png").unlink()
    assert "train has 9 examples, and had 10" in identity.differences(known, found(there))
    (there / "cat").rename(there / "lynx")
    told, *_ = identity.differences(known, found(there))
    assert told == "the classes are dog, lynx, and were cat, dog"


def test_data_in_memory_and_on_disk_are_compared_by_what_both_know(tmp_path):
    write_classes(tmp_path)
    memory, disk = (
        load(name="folder", path=str(tmp_path), memory_mb=megabytes) for megabytes in (100, 0)
    )
    assert memory["train"].keys() != disk["train"].keys()
    assert identity.differences(memory, disk) == identity.differences(disk, memory) == []


def test_a_prepared_set_on_disk_is_known_by_its_files(tmp_path, monkeypatch):
    def found(name):
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / name))
        config = default_config().data
        config.memory_mb = 0
        return sources.load(config)

    known = found("a").fingerprint()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    moved = found("b")
    assert known["train"]["examples"] == 1442
    assert identity.differences(known, moved.fingerprint()) == []
    (file,) = (tmp_path / "b" / "digits" / "1.0.0").glob("*train*")
    assert moved.train.files() == [(file.name, file.stat().st_size)]


def test_other_rows_of_the_same_files_are_other_data(tmp_path):
    write_classes(tmp_path)
    config = default_config().data
    config.update({"name": "folder", "path": str(tmp_path), "memory_mb": 0})
    train = sources.load(config).train
    for rows, told in (
        ([0, 1, 2], []),
        ([0, 1, 3], ["train has other examples of the same files"]),
    ):
        a, b = (identity.of((), {"train": train.subset(np.array(of))}) for of in ([0, 1, 2], rows))
        assert identity.differences(a, b) == told


def test_long_lists_of_classes_name_what_differs():
    known = {"class_names": [f"class {number}" for number in range(300)]}
    found = {"class_names": [*known["class_names"][:150], "new", *known["class_names"][151:]]}
    (told,) = identity.differences(known, found)
    assert told.endswith("(new: new; gone: class 150)") and len(told) < 800


@pytest.mark.parametrize(
    "known",
    [None, [], "x", {}, {"train": 3}, {"class_names": 5, "test": []}, {"class_names": [[]]},
     {"train": {"examples": 1.5}}],
)  # fmt: skip
def test_what_is_no_fingerprint_makes_no_traceback(known):
    found = identity.of(("a", "b"), {"train": Arrays(INPUTS, LABELS)})
    assert len(identity.differences(known, found)) <= 1


def test_classes_are_found_by_name():
    dataset = Dataset(
        "new", None, Arrays(INPUTS[:3], np.array([0, 1, 0], np.int32)), ("dog", "cat")
    )
    found = relabelled(dataset, ("ape", "cat", "dog"))
    assert found.test.labels.tolist() == [2, 1, 2] and found.class_names == ("ape", "cat", "dog")
    assert found.train is None
    with pytest.raises(UserError, match=r"does not know: dog \(its classes: dog, cat; .* ape, cat"):
        relabelled(dataset, ("ape", "cat"))


def test_data_are_known_as_they_were_read_and_not_as_they_are_trained_on(tmp_path):
    """What trains on them may convert them: other numbers, or their classes in another order."""
    np.savez(tmp_path / "data.npz", inputs=INPUTS, labels=np.array(["a", "b"])[LABELS % 2])
    config = default_config().data
    config.update({"name": "npz", "path": str(tmp_path / "data.npz")})
    dataset = sources.load(config)
    known = identity.of(dataset.class_names, dataset.splits())
    dataset.train.inputs[:] = 0
    assert dataset.fingerprint() == known
    other = relabelled(dataset, ("b", "a")).fingerprint()
    assert other["class_names"] == ["b", "a"] and other["test"]["inputs"] == known["test"]["inputs"]
    assert other["test"]["labels"] == identity.checksum(1 - dataset.test.labels)
