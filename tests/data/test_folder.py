"""A user's own data: folders of images, whole and damaged."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from research.config import default_config
from research.data import sources, stream
from research.data.dataset import Arrays, Records
from research.errors import UserError
from research.training import advance, evaluation, setup


def write_images(root, classes=("cat", "dog"), count=5, size=(6, 4), mode="RGB"):
    random = np.random.default_rng(1)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(count):
            shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
            pixels = random.integers(0, 256, shape).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")


def load_folder(path, **values):
    config = default_config().data
    config.update({"name": "folder", "path": str(path), **values})
    return sources.load(config)


def test_a_folder_of_classes(tmp_path):
    write_images(tmp_path)
    dataset = load_folder(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.train.inputs.shape == (8, 4, 6, 3) and dataset.test.inputs.shape == (2, 4, 6, 3)
    picture = np.asarray(Image.open(tmp_path / "dog" / "0.png"))
    everything = [*dataset.train.inputs, *dataset.test.inputs]
    assert any(np.array_equal(picture, image) for image in everything)


def test_a_folder_with_train_and_test(tmp_path):
    write_images(tmp_path / "train", mode="L")
    write_images(tmp_path / "test", count=1, mode="L")
    dataset = load_folder(tmp_path)
    assert dataset.train.inputs.shape == (10, 4, 6, 1)
    assert dataset.test.labels.tolist() == [0, 1]
    (tmp_path / "test" / "bird").mkdir()
    with pytest.raises(UserError, match="'bird' is not in"):
        load_folder(tmp_path)
    (tmp_path / "test").rename(tmp_path / "val")
    with pytest.raises(UserError, match="has train/ but no test/"):
        load_folder(tmp_path)


def test_unequal_sizes_ask_for_an_image_size(tmp_path):
    write_images(tmp_path)
    Image.new("L", (30, 9)).save(tmp_path / "cat" / "wide.png")
    with pytest.raises(UserError, match=r"unequal sizes.*set config.data.image_size"):
        load_folder(tmp_path)
    dataset = load_folder(tmp_path, image_size=8)
    assert dataset.train.inputs.shape[1:] == (8, 8, 3)


def test_what_is_no_folder_of_images_is_named(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        load_folder(tmp_path / "nothing")
    with pytest.raises(UserError, match="0 class folders"):
        load_folder(tmp_path)
    write_images(tmp_path, count=2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no images"):
        load_folder(tmp_path)
    (tmp_path / "empty" / "a.heic").write_text("a photo")
    with pytest.raises(UserError, match=r"empty: no images .*; there are a.heic\)"):
        load_folder(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"text", "half"])
def test_a_damaged_image_is_named(tmp_path, damage):
    write_images(tmp_path)
    victim = tmp_path / "dog" / "3.png"
    victim.write_bytes(victim.read_bytes()[:60] if damage == "half" else damage)
    with pytest.raises(UserError, match="3.png: not a readable image"):
        load_folder(tmp_path)


def test_too_few_images_for_a_test_split(tmp_path):
    write_images(tmp_path / "images", count=1)
    with pytest.raises(UserError, match="each of the 2 classes has a single example"):
        load_folder(tmp_path / "images")


def bars(root, save, count=60, classes=("across", "down")):
    """Noisy stripes, uint8 (24, 24), each given to `save(image, path, number)`."""
    random = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(count):
            waves = np.sin(2 * np.pi * np.arange(24) / 6 + random.uniform(0, 6))
            pixels = 128 + 80 * np.broadcast_to(waves, (24, 24)) + random.normal(0, 20, (24, 24))
            pixels = pixels.clip(0, 255).round().astype(np.uint8)
            pixels = pixels if name == classes[1] else pixels.T.copy()
            save(pixels, root / name / f"{number}.png", number)


def plain(pixels, path, number):
    Image.fromarray(pixels).save(path)


def half_turned(pixels, path, number):
    exif = Image.Exif()
    exif[274] = 6 if number % 2 else 1
    Image.fromarray(np.rot90(pixels) if number % 2 else pixels).save(path, exif=exif)


def drawn_in_alpha(pixels, path, number):
    black = Image.new("RGBA", (24, 24))
    black.putalpha(Image.fromarray(pixels))
    black.save(path)


def sixteen_bits(pixels, path, number):
    Image.fromarray(pixels.astype(np.uint16)).save(path)


def small_floats(pixels, path, number):
    Image.fromarray(pixels / np.float32(1e6)).save(path.with_suffix(".TIF"))


@pytest.mark.parametrize(
    ("save", "memory"),
    [(plain, 4096), (half_turned, 4096), (drawn_in_alpha, 4096), (sixteen_bits, 0),
     (small_floats, 4096)],
)  # fmt: skip
def test_stripes_are_told_apart_however_they_are_stored(tmp_path, save, memory):
    bars(tmp_path, save)
    config = default_config()
    config.data.update({"name": "folder", "path": str(tmp_path), "memory_mb": memory})
    config.model.hidden, config.batch_size, config.duration = (32,), 16, "20 epochs"
    run = setup.from_config(config)
    state = run.init()
    if isinstance(run.train, Arrays):
        state, _ = advance.over_arrays(run, state)(state, run.plan().total_steps)
    else:
        batches = stream.TrainingBatches(run.train, 16, 0)
        state, _ = advance.over_batches(run, state, batches)(state, run.plan().total_steps)
    assert evaluation.evaluate(config, run.task, state, run.test)["accuracy"] == 1


def test_mistakes_among_deep_images_are_drawn(tmp_path):
    bars(tmp_path, sixteen_bits, 10)
    config = default_config()
    config.data.update({"name": "folder", "path": str(tmp_path)})
    config.batch_size = 4
    run = setup.from_config(config)
    labels = run.test.labels
    wrong = run.task.score(9 * np.eye(2)[1 - labels][None], labels, {})
    found = run.task.pictures(wrong, run.test, lambda rows: run.test.load(rows).inputs)
    drawn, raw = found["mistake_images"], run.test.inputs
    assert drawn.dtype == np.uint8 and drawn.shape == (4, 24, 24, 1)
    assert drawn.min() == 0 and drawn.max() == 255
    order = [np.argmin(np.abs(raw - raw.min() - image / 255 * np.ptp(raw)).mean((1, 2, 3)))
             for image in drawn]  # fmt: skip
    assert sorted(order) == [0, 1, 2, 3]


@pytest.mark.parametrize("memory", [0, 4096])
@pytest.mark.parametrize("other", [sixteen_bits, small_floats])
def test_a_mixture_of_depths_is_refused(tmp_path, memory, other):
    bars(tmp_path, lambda *image: (other if image[2] == 7 else plain)(*image), 10)
    with pytest.raises(UserError, match=r"7.(png|TIF) has pixels of .*, .*0.png of 8 bits: their"):
        load_folder(tmp_path, memory_mb=memory)
    for file in tmp_path.glob("*/7.*"):  # such files are seen when they are read
        file.rename(file.with_suffix(".jpg"))
    with pytest.raises(UserError, match=r"7.jpg has pixels of"):
        train = load_folder(tmp_path, memory_mb=memory).train
        train.load(np.arange(len(train)))


def test_the_background_is_a_key(tmp_path):
    bars(tmp_path, drawn_in_alpha, 5)
    white, black = load_folder(tmp_path), load_folder(tmp_path, background="black")
    assert white.train.inputs.std() > 20 and not black.train.inputs.any()
    assert load_folder(tmp_path, memory_mb=0).messages == white.messages
    (message,) = white.messages
    assert "10 (across/0.png, across/1.png" in message and "background = 'white'" in message


def copied(source, *targets):
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def test_all_images_are_found_and_the_rest_is_counted(tmp_path):
    write_images(tmp_path, count=5)
    picture = tmp_path / "cat" / "0.png"
    copied(picture, tmp_path / "cat" / "plain", tmp_path / "cat" / "more" / "deep" / "a.PNG",
           tmp_path / "dog" / "x.dcm", tmp_path / "dog" / "more" / "a.jpg",
           tmp_path / "outside.png")  # fmt: skip
    Image.open(picture).save(tmp_path / "dog" / "a.tif")
    Image.open(picture).save(tmp_path / "dog" / "a.TIFF")
    Image.open(picture).convert("L").save(tmp_path / "dog" / "portrait.pgm", "PPM")
    (tmp_path / "dog" / "labels.csv").write_text("file,label")
    (tmp_path / "dog" / "photo.heic").write_bytes(b"\0\0\0 ftypheic")
    (tmp_path / "README").write_text("Please read.")
    for memory in (0, 4096):
        dataset = load_folder(tmp_path, memory_mb=memory)
        assert len(dataset.train) + len(dataset.test) == 17
        counts = np.bincount(dataset.train.labels) + np.bincount(dataset.test.labels)
        assert counts.tolist() == [7, 10]
        nested, unread = dataset.messages
        assert (
            "images in subfolders of their class: 2 (cat/more/deep/a.PNG, dog/more/a.jpg)" in nested
        )
        assert "files that are no images: 3 (README, dog/labels.csv, dog/photo.heic)" in unread
        assert "images outside of classes: 1 (outside.png)" in unread
        assert not any("\n" in line for line in dataset.messages)


def test_litter_is_no_class_and_no_image(tmp_path):
    write_images(tmp_path / "train")
    write_images(tmp_path / "test", count=2)
    picture = tmp_path / "train" / "cat" / "0.png"
    for place in (tmp_path, tmp_path / "train", tmp_path / "train" / "cat", tmp_path / "test"):
        copied(picture, place / ".ipynb_checkpoints" / "0-checkpoint.png", place / "._0.png",
               place / "__MACOSX" / "cat" / "._0.png", place / ".hidden.png",
               place / ".git" / "x.png", place / "@eaDir" / "x.png")  # fmt: skip
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (place / name).write_bytes(b"\0\1Bud1")
    (tmp_path / "train" / "cat" / "._0.png").write_bytes(b"\0\5\x16\7")  # as macOS writes it
    dataset = load_folder(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert (len(dataset.train), len(dataset.test)) == (10, 4)
    (message,) = dataset.messages
    assert "not read: hidden and system files: 36 (" in message


@pytest.mark.parametrize("memory", [0, 4096])
@pytest.mark.parametrize(
    "names",
    [("train", "val", "test"), ("Training", "Validation", "Testing"), ("TRAIN", "valid", "TEST"),
     ("train_set", "dev", "Test-Data")],
)  # fmt: skip
def test_splits_by_other_names_and_an_official_validation_split(tmp_path, names, memory):
    for name, count in zip(names, (5, 3, 2), strict=True):
        write_images(tmp_path / name, count=count)
    (tmp_path / "extra" / "cat").mkdir(parents=True)
    config = default_config()
    config.data.update({"name": "folder", "path": str(tmp_path), "memory_mb": memory})
    config.batch_size, config.duration = 4, "1 epochs"
    run = setup.from_config(config)
    assert [len(split) for split in (run.train, run.validation, run.test)] == [10, 6, 4]
    assert run.validation.labels.tolist() == [0, 0, 0, 1, 1, 1]
    used, unread = run.messages
    assert f"{names[1]}/ is the validation split" in used
    assert "folders beside those of the splits: 1 (extra)" in unread


def test_layouts_that_cannot_be_are_told_with_what_helps(tmp_path):
    def refusal(path) -> str:
        with pytest.raises(UserError) as error:
            load_folder(path)
        assert "\n" not in str(error.value)
        return str(error.value)

    root = tmp_path / "a"
    write_images(root / "data" / "Train")
    inner = str(root / "data" / "Train")
    assert f"2 folders in config.data.path = {inner!r}" in refusal(root)
    assert "has Train/ but no test/" in refusal(root / "data") and inner in refusal(root / "data")
    write_images(root / "data" / "val", count=1)
    assert "val/ under the name test/" in refusal(root / "data")
    assert str(root / "data") in refusal(root)
    shutil.move(root / "data" / "val", root / "data" / "Testing")
    (root / "data" / "Testing" / "dog").rename(root / "data" / "Testing" / "Dog")
    assert "class 'Dog' is not in" in refusal(root / "data")
    assert "did you mean 'dog'" in refusal(root / "data")
    write_images(root / "data" / "TEST")
    assert "which is the test split?" in refusal(root / "data")

    root = tmp_path / "unlabelled"
    write_images(root / "train")
    shutil.copytree(root / "train" / "cat", root / "test")
    assert f"{root / 'test'}: 0 class folders, 5 files" in refusal(root)
    write_images(tmp_path / "one", classes=("cat",))
    assert "1 class folders" in refusal(tmp_path / "one")
    assert "0 class folders, 5 files beside" in refusal(tmp_path / "one" / "cat")
    write_images(tmp_path / "swapped" / "cat", classes=("train", "test"))
    write_images(tmp_path / "swapped" / "dog", classes=("train", "test"))
    assert "swapped/train/cat/" in refusal(tmp_path / "swapped")
    write_images(tmp_path / "only" / "test")
    assert "has test/ but no train/" in refusal(tmp_path / "only")


def test_a_class_may_be_called_train(tmp_path):
    write_images(tmp_path, classes=("train", "bus"))
    assert load_folder(tmp_path).class_names == ("bus", "train")


def test_a_class_without_test_images_is_told(tmp_path):
    write_images(tmp_path / "train", classes=("cat", "dog", "emu"))
    write_images(tmp_path / "test", classes=("cat", "dog"), count=2)
    (tmp_path / "test" / "dog" / "0.png").unlink()
    (tmp_path / "test" / "dog" / "1.png").unlink()
    dataset = load_folder(tmp_path)
    assert dataset.test.labels.tolist() == [0, 0] and len(dataset.class_names) == 3
    assert "classes without images in test/: 2 (dog, emu)" in dataset.messages[0]
    shutil.rmtree(tmp_path / "test" / "cat")
    with pytest.raises(UserError, match="no images"):
        load_folder(tmp_path)


def test_links_are_followed_but_not_in_circles(tmp_path):
    write_images(tmp_path / "real")
    root = tmp_path / "linked"
    root.mkdir()
    (root / "cat").symlink_to(tmp_path / "real" / "cat")
    (root / "dog").mkdir()
    (root / "dog" / "more").symlink_to(tmp_path / "real" / "dog")
    (root / "dog" / "a.png").symlink_to(tmp_path / "real" / "dog" / "0.png")
    (tmp_path / "real" / "dog" / "again").symlink_to(tmp_path / "real" / "dog")
    (root / "dog" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(root / "dog" / "pipe.png")
    dataset = load_folder(root)
    assert len(dataset.train) + len(dataset.test) == 11
    assert "broken links and pipes: 2 (dog/lost.png, dog/pipe.png)" in dataset.messages[1]
    assert "links to a folder above: 1 (dog/more/again)" in dataset.messages[1]


def test_a_stream_is_split_as_data_in_memory_are(tmp_path):
    """60, 60 and 1 images: the one stays in train, and each split has the same examples."""
    write_images(tmp_path, count=60)
    write_images(tmp_path, classes=("emu",), count=1)
    found = []
    for memory in (0, 4096):
        config = default_config()
        config.data.update({"name": "folder", "path": str(tmp_path), "memory_mb": memory})
        config.batch_size = 16
        run = setup.from_config(config)
        assert isinstance(run.train, Arrays if memory else Records)
        splits = [run.train, run.validation, run.test]
        found.append([split.load(np.arange(len(split))) for split in splits])
    for streamed, resident in zip(*found, strict=True):
        np.testing.assert_array_equal(streamed.inputs, resident.inputs)
        np.testing.assert_array_equal(streamed.labels, resident.labels)
    assert np.bincount(found[0][1].labels).tolist() == [5, 5]
    assert (found[0][0].labels == 2).sum() == 1
