"""Data that are tested are loaded whole: never cut, with any split, any class, and however few."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from runs import write_classes

from research.config import default_config
from research.data import sources
from research.data.relabelling import relabelled
from research.errors import UserError

INPUTS = np.random.default_rng(0).normal(size=(30, 3))


def load(channels=0, **values):
    config = default_config().data
    config.update(values)
    return sources.load(config, whole=True, channels=channels)


@pytest.mark.parametrize(
    "names", [("inputs", "labels"), ("x_test", "y_test"), ("X_train", "y_train")]
)
@pytest.mark.parametrize("labels", [np.arange(30) % 3, np.arange(30), np.full(30, 7),
                                    np.array(["b", "a"])[np.arange(30) % 2]])  # fmt: skip
def test_an_npz_of_one_split_is_all_of_test(names, labels, tmp_path):
    np.savez(tmp_path / "data.npz", **dict(zip(names, (INPUTS, labels), strict=True)))
    dataset = load(name="npz", path=str(tmp_path / "data.npz"))
    assert list(dataset.splits()) == ["test"] and len(dataset.test) == 30
    named = [dataset.class_names[label] for label in dataset.test.labels]
    assert named == [str(label) for label in labels] and not dataset.messages[1:]


def test_official_splits_stay_and_may_have_other_classes(tmp_path):
    np.savez(tmp_path / "data.npz", x_val=INPUTS, y_val=np.zeros(30, int), x_test=INPUTS[:1],
             y_test=np.ones(1, int))  # fmt: skip
    dataset = load(name="npz", path=str(tmp_path / "data.npz"))
    assert {name: len(split) for name, split in dataset.splits().items()} == {
        "validation": 30, "test": 1,
    }  # fmt: skip
    assert dataset.class_names == ("0", "1") and dataset.test.labels.tolist() == [1]
    np.savez(tmp_path / "data.npz", inputs=INPUTS)
    with pytest.raises(UserError, match="without labels"):
        load(name="npz", path=str(tmp_path / "data.npz"))


@pytest.mark.parametrize("memory_mb", [100, 0])
def test_class_folders_are_all_of_test(memory_mb, tmp_path):
    write_classes(tmp_path / "one", ("dog",), count=2)
    write_classes(tmp_path / "test" / "test", ("dog", "cat"), count=1)
    write_classes(tmp_path / "both" / "train", ("cat",), count=3)
    write_classes(tmp_path / "both" / "test", ("dog",), count=1)
    for name, classes, counts in (
        ("one", ("dog",), {"test": 2}),
        ("test", ("cat", "dog"), {"test": 2}),
        ("both", ("cat", "dog"), {"train": 3, "test": 1}),
    ):
        dataset = load(name="folder", path=str(tmp_path / name), memory_mb=memory_mb)
        assert dataset.class_names == classes
        found = dataset.splits()
        assert {name: len(split) for name, split in found.items()} == counts
        grey = load(1, name="folder", path=str(tmp_path / name), memory_mb=memory_mb)
        assert (found["test"].shape, grey.test.shape) == ((4, 5, 3), (4, 5, 1))
    assert dataset.test.labels.tolist() == [1]


def test_a_grey_image_for_a_network_that_takes_colours(tmp_path):
    (tmp_path / "dog").mkdir()
    Image.new("L", (5, 4), 77).save(tmp_path / "dog" / "0.png")
    dataset = load(3, name="folder", path=str(tmp_path))
    assert dataset.test.shape == (4, 5, 3) and (dataset.test.inputs == 77).all()


def test_nothing_there_is_told(tmp_path):
    for folder in ("", "dog"):
        (tmp_path / folder).mkdir(exist_ok=True)
        with pytest.raises(UserError, match=r"0 class folders|no images"):
            load(name="folder", path=str(tmp_path))


class OnlyTrain(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(2, 2, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(names=["b", "a"]),
                }
            )
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(3):
            yield number, {"image": np.full((2, 2, 1), number, np.uint8), "label": number % 2}


def test_a_prepared_set_of_one_split(tmp_path):
    OnlyTrain(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    name = {"name": "only_train", "data_dir": str(tmp_path)}
    dataset = load(**name)
    assert list(dataset.splits()) == ["train"] and len(dataset.train) == 3
    found = relabelled(dataset, ("a", "b"))
    assert np.array_equal(found.train.labels, 1 - dataset.train.labels)
    config = default_config().data
    config.update(name)
    with pytest.raises(UserError, match="has no split 'test'"):  # nor has the cache
        sources.load(config)
