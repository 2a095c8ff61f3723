"""Build a TFDS data set from scikit-learn's 8 x 8 digits: real data without a download."""

import contextlib
import io

import numpy as np
import tensorflow_datasets as tfds

VERSION = "1.0.0"


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 handwritten digits (Alpaydin and Kaynak, 1998, UCI), 8 x 8 pixels of 17 greys.

    Bytes 0 ... 255 store the greys 0 ... 16. The test split is every fifth image of each class, in
    the original order. There are 1,442 images for training and 355 for testing.
    """

    VERSION = tfds.core.Version(VERSION)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        from sklearn.datasets import load_digits  # 2.4 s, once

        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
        test = np.zeros(len(images), bool)
        for label in range(10):
            test[np.flatnonzero(digits.target == label)[4::5]] = True
        labels = digits.target.astype(np.int64)
        return {
            "train": self._generate_examples(images[~test], labels[~test]),
            "test": self._generate_examples(images[test], labels[test]),
        }

    def _generate_examples(self, images, labels):
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield number, {"image": image, "label": int(label)}


def prepare(data_dir: str) -> None:
    """Write the data set into a TFDS data folder, without output; do nothing if it exists."""
    tfds.disable_progress_bar()
    builder = Digits(data_dir=data_dir, file_format="array_record")
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces a download
        builder.download_and_prepare()
