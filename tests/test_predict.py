"""python -m research.predict: on images, tables, arrays and the start of a text."""

import csv
import io
import subprocess

import numpy as np
import pytest
from conftest import ROOT, command_line
from PIL import Image
from runs import one_line
from sklearn import datasets

import research


def fitted(folder, **changes):
    config = research.default_config()
    config.duration, config.batch_size = "60 steps", 64
    config.update_from_flattened_dict(changes)
    return research.fit(config, workdir=folder)


def predict(*arguments):
    command = command_line("predict", *map(str, arguments))
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture(scope="module")
def images():
    return datasets.load_digits().images[:4]


def table(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text)))


def test_image_files_and_folders_get_labels_and_probabilities(digits, images, tmp_path):
    pixels = np.round(images * (255 / 16)).astype(np.uint8)
    folder = tmp_path / "more"
    folder.mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save((folder if number > 1 else tmp_path) / f"{number}.png")
    done = predict(digits.workdir, tmp_path / "0.png", tmp_path / "1.png", folder)
    rows = table(done.stdout)
    shares = digits.predict(pixels[..., None])
    assert [row["input"].rpartition("/")[2] for row in rows] == [f"{n}.png" for n in range(4)]
    for row, wanted in zip(rows, shares, strict=True):
        assert row["prediction"] == str(wanted.argmax())
        found = [float(row[str(label)]) for label in range(10)]
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_arrays_go_to_a_file_and_runs_are_averaged(digits, images, tmp_path):
    pixels = np.round(images * (255 / 16)).astype(np.uint8)[..., None]
    np.savez(tmp_path / "new.npz", x_test=pixels, y_test=np.zeros(4))
    other = fitted(tmp_path / "other", seed=1)
    output = tmp_path / "out.npz"
    done = predict(digits.workdir, other.workdir, tmp_path / "new.npz", f"--output={output}")
    assert done.returncode == 0 and done.stdout.strip() == str(output)
    with np.load(output) as arrays:
        mean = (digits.predict(pixels) + other.predict(pixels)) / 2
        np.testing.assert_allclose(arrays["predictions"], mean, rtol=1e-12)
        assert list(arrays["names"]) == [str(label) for label in range(10)]


def test_a_table_is_read_by_the_columns_of_the_training_data(tmp_path):
    random = np.random.default_rng(0)
    rows = [
        {"height": round(float(h), 2), "kind": kind, "weight": round(float(3 * h + shift), 2)}
        for h in random.uniform(1, 2, 60)
        for kind, shift in (("a", 0.0), ("b", 5.0))
    ]

    def written(name, columns, chosen):
        with open(tmp_path / name, "w", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(chosen)
        return tmp_path / name

    path = written("all.csv", ["height", "kind", "weight"], rows)
    run = fitted(
        tmp_path / "run",
        **{"task.name": "regression", "data.name": "csv", "data.path": str(path),
           "duration": "600 steps", "optimizer.learning_rate": 0.01},
    )  # fmt: skip
    new = written("new.csv", ["kind", "height"], rows[:6])  # another order, without the target
    found = table(predict(run.workdir, new).stdout)
    for row, wanted in zip(found, rows, strict=False):
        assert float(row["weight"]) == pytest.approx(wanted["weight"], abs=0.8)
    without = written("without.csv", ["kind"], rows[:6])
    assert "height" in one_line(predict(run.workdir, without))


def test_a_language_model_goes_on_with_a_text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("abcde" * 2000)  # windows of 16 begin anywhere in it
    run = fitted(
        tmp_path / "run",
        **{"task.name": "next_token", "data.name": "text", "data.path": str(path),
           "data.context": 16, "model.name": "transformer", "model.width": 32,
           "model.blocks": 1, "model.normalization": "layer_norm", "batch_size": 16,
           "duration": "150 steps", "optimizer.learning_rate": 0.01},
    )  # fmt: skip
    done = predict(run.workdir, "bc", "--characters=20", "--temperature=0")
    assert done.stdout == "bcdeabcdeabcdeabcdeabc\n"
    assert run.summary["test_bits_per_character"] < 0.5
    assert "prompt is empty" in one_line(predict(run.workdir, ""))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (["no-such-file.png"], ["no-such-file.png", "no such file"]),
        ([], ["which run", "usage"]),
        (["README.md"], ["README.md", "is no image"]),
    ],
)
def test_a_mistake_is_told_in_one_line(digits, inputs, words):
    line = one_line(predict(digits.workdir, *inputs))
    assert all(word in line for word in words)
