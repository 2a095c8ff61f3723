"""TFDS sets without TensorFlow: the embedded digits, the real MNIST, and what can be wrong."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from research.config import default_config
from research.data import sources, tfds_source
from research.data.dataset import Arrays, Records
from research.errors import UserError
from research.training import setup


def load(**values):
    config = default_config().data
    config.update(values)
    return sources.load(config)


class Unlabelled(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Tensor(shape=(2, 2, 1), dtype=np.uint8)}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(), "test": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"image": np.zeros((2, 2, 1), np.uint8)}


class Pictures(tfds.core.GeneratorBasedBuilder):
    """PNGs of two sizes, with a validation split in place of a test split."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["a", "b"]),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(6), "validation": self._generate_examples(2)}

    def _generate_examples(self, count):
        from PIL import Image

        for number in range(count):
            size = (8, 8 + 4 * (number % 2))
            yield number, {"image": Image.new("RGB", size, (number, 2, 3)), "label": number % 2}


class Photos(tfds.core.GeneratorBasedBuilder):
    """Files as they come: turned by EXIF, transparent; with more splits than are read."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        counts = {"train": 41, "validation": 4, "test": 5, "extra": 3}
        return {name: self._generate_examples(count) for name, count in counts.items()}

    def _generate_examples(self, count):
        from PIL import Image

        for number in range(count):
            file, exif = io.BytesIO(), Image.Exif()
            exif[274] = 6 if number % 2 else 1
            image = Image.new("RGBA", (8, 8), (number, 0, 0, 255))
            image.paste((0, 0, 0, 0), (0, 0, 2, 8))  # nothing at the left
            image = image.transpose(Image.Transpose.ROTATE_90) if number % 2 else image
            image.save(file, "PNG", exif=exif)
            label = 2 if number == 20 else number % 2
            yield number, {"image": io.BytesIO(file.getvalue()), "label": label}


def prepare(builder, folder):
    builder(data_dir=str(folder), file_format="array_record").download_and_prepare()


def test_digits_are_scikit_learns(capfd):
    dataset = load(name="digits")
    assert capfd.readouterr().out == ""  # prepared quietly
    original = load_digits()
    assert dataset.train.inputs.shape == (1442, 8, 8, 1)
    assert dataset.test.inputs.shape == (355, 8, 8, 1)
    ours = np.concatenate([dataset.train.inputs, dataset.test.inputs]).reshape(-1, 64)
    theirs = np.round(original.data * (255 / 16)).astype(np.uint8)
    assert sorted(map(bytes, ours)) == sorted(map(bytes, theirs))
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    assert np.bincount(labels).tolist() == np.bincount(original.target).tolist()
    assert dataset.class_names == tuple("0123456789")


def test_the_second_load_reads_the_cache_and_a_damaged_cache_is_made_anew(monkeypatch):
    first = load(name="digits")
    caches = Path(os.environ["XDG_CACHE_HOME"], "onestep", "data")
    (cache,) = caches.glob("digits-*")
    with monkeypatch.context() as patch:
        patch.setattr(tfds_source, "_open", None)  # not to be called
        second = load(name="digits")
    np.testing.assert_array_equal(first.train.inputs, second.train.inputs)
    whole = cache.read_bytes()
    for damaged in (whole[:-7], whole[:5000] + b"?" + whole[5001:], b"", b"{}\n", b"\n"):
        cache.write_bytes(damaged)
        third = load(name="digits")
        np.testing.assert_array_equal(first.train.inputs, third.train.inputs)
        np.testing.assert_array_equal(first.test.labels, third.test.labels)
        assert cache.read_bytes() == whole


def test_mnist(real_data):
    dataset = load(name="mnist", data_dir=real_data)
    assert dataset.train.inputs.shape == (60_000, 28, 28, 1)
    assert dataset.test.inputs.shape == (10_000, 28, 28, 1)
    # LeCun's own counts of the training digits, and the mean and deviation everyone uses.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(dataset.train.labels).tolist() == counts
    assert dataset.train.inputs.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert dataset.train.inputs.std() / 255 == pytest.approx(0.3081, abs=1e-4)
    assert load(name="mnist:3.0.1", data_dir=real_data).name == "mnist"


def test_unprepared_sets_say_where_they_were_looked_for_and_how_to_get_them(tmp_path):
    with pytest.raises(UserError) as error:
        load(name="mnist", data_dir=str(tmp_path))
    text = str(error.value)
    assert str(tmp_path) in text and "config.data.download=true" in text and "\n" not in text
    prepare(Unlabelled, tmp_path)
    with pytest.raises(UserError, match="did you mean 'digits'"):
        load(name="digit", data_dir=str(tmp_path))
    with pytest.raises(UserError, match="there: unlabelled"):
        load(name="mnist", data_dir=str(tmp_path))
    with pytest.raises(UserError, match="no such folder"):
        load(name="mnist", data_dir=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="not a name"):
        load(name="../x", data_dir=str(tmp_path))


def test_a_set_without_labels_is_refused(tmp_path):
    prepare(Unlabelled, tmp_path)
    with pytest.raises(UserError, match=r"needs one image and one class label.*image \(Tensor\)"):
        load(name="unlabelled", data_dir=str(tmp_path))


def test_images_of_two_sizes_and_a_validation_split_for_test(tmp_path):
    prepare(Pictures, tmp_path)
    with pytest.raises(UserError, match="set config.data.image_size"):
        load(name="pictures", data_dir=str(tmp_path))
    dataset = load(name="pictures", data_dir=str(tmp_path), image_size=4)
    assert dataset.train.inputs.shape == (6, 4, 4, 3) and len(dataset.test.labels) == 2
    assert dataset.class_names == ("a", "b")
    assert sorted(dataset.train.inputs[:, 0, 0, 0]) == list(range(6))


def test_damaged_records_are_named(tmp_path):
    prepare(Pictures, tmp_path)
    (record,) = (tmp_path / "pictures" / "1.0.0").glob("*train*array_record*")
    whole = bytearray(record.read_bytes())
    whole[whole.find(b"PNG") + 20] ^= 0x5A
    record.write_bytes(bytes(whole))
    with pytest.raises(UserError, match="pictures train: its files are damaged"):
        load(name="pictures", data_dir=str(tmp_path), image_size=4)


def test_what_a_killed_preparation_left_behind_is_passed_over(tmp_path):
    prepare(Pictures, tmp_path)
    folder = tmp_path / "pictures"
    (folder / "incomplete.A9B8_9.0.0").mkdir()
    (folder / "incomplete.A9B8_9.0.0" / "dataset_info.json").write_text("{")
    assert len(load(name="pictures", data_dir=str(tmp_path), image_size=4).train) == 6


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_damaged_descriptions_are_named(tmp_path, name):
    prepare(Pictures, tmp_path)
    (tmp_path / "pictures" / "1.0.0" / name).write_text('{"x": ')
    with pytest.raises(UserError, match="not a prepared data set"):
        load(name="pictures", data_dir=str(tmp_path), image_size=4)


@pytest.mark.parametrize("memory", [0, 4096])
def test_encoded_images_are_seen_as_files_are(tmp_path, memory):
    prepare(Photos, tmp_path)
    train = load(name="photos", data_dir=str(tmp_path), memory_mb=memory).train
    images = train.load(np.arange(len(train))).inputs
    assert (images[:, :, :2] == 255).all()  # nothing, on white: at the left, once turned
    assert sorted(images[:, 0, 7, 0]) == list(range(41))


def test_an_official_validation_split_is_used_and_what_is_not_read_is_told(tmp_path):
    prepare(Photos, tmp_path)
    for _ in range(2):  # decoded, and from the cache
        dataset = load(name="photos", data_dir=str(tmp_path))
        assert [len(split) for split in dataset.splits().values()] == [41, 4, 5]
        assert sorted(dataset.validation.inputs[:, 0, 7, 0]) == [0, 1, 2, 3]
        assert "its own validation split is used" in dataset.messages[0]
        assert "not read: extra (3)" in dataset.messages[1]
    prepare(Pictures, tmp_path)
    dataset = load(name="pictures", data_dir=str(tmp_path), image_size=4)
    assert dataset.validation is None and "as the test split" in dataset.messages[0]


def test_labels_of_a_stream_are_read_alone_and_once(tmp_path, monkeypatch):
    prepare(Photos, tmp_path)

    def config(memory):
        config = default_config()
        config.batch_size = 4
        config.data.update(name="photos", data_dir=str(tmp_path), memory_mb=memory)
        return config

    streamed = sources.load(config(0).data).train
    with monkeypatch.context() as patch:
        patch.setattr(tfds_source.images, "read_image", None)  # not to be called
        labels = streamed.labels
    resident = sources.load(config(4096).data).train
    np.testing.assert_array_equal(labels, resident.labels)
    assert labels.dtype == np.int32 and np.bincount(labels).tolist() == [20, 20, 1]
    monkeypatch.setattr(tfds_source, "_labels", None)
    again = sources.load(config(0).data).train
    np.testing.assert_array_equal(again.subset(np.array([3, 9])).labels, labels[[3, 9]])


def test_a_stream_is_split_as_data_in_memory_are(tmp_path):
    found = []
    for memory in (0, 4096):
        config = default_config()
        config.data.memory_mb = memory
        run = setup.from_config(config)
        assert isinstance(run.train, Arrays if memory else Records)
        found.append((run.train, run.validation))
    for streamed, resident in zip(*found, strict=True):
        everything = streamed.load(np.arange(len(streamed)))
        np.testing.assert_array_equal(everything.inputs, resident.inputs)
        np.testing.assert_array_equal(everything.labels, resident.labels)
