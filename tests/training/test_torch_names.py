"""PyTorch's ResNets from .safetensors: the same logits for the same random weights."""

import json
import tempfile
from pathlib import Path

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from research import models
from research.config import default_config
from research.errors import UserError
from research.training import hyperparameters, torch_names

STAGES = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
CLASSES, SIZE = 7, 65  # an odd size, where paddings differ
LOGITS = Path(__file__).parent / "torch_resnet_logits.json"


def random_weights(depth) -> dict[str, np.ndarray]:
    """By torchvision's names and shapes, drawn from a seed: what a file of weights would hold."""
    random, arrays = np.random.default_rng(depth), {}

    def conv(name, features, inputs, size):
        deviation = np.sqrt(2 / (inputs * size * size))
        weights = random.normal(0, deviation, (features, inputs, size, size))
        arrays[f"{name}.weight"] = weights.astype(np.float32)

    def norm(name, features):
        for leaf, low, high in (
            ("weight", 0.5, 1), ("bias", -0.2, 0.2),
            ("running_mean", -0.2, 0.2), ("running_var", 0.5, 1.5),
        ):  # fmt: skip
            arrays[f"{name}.{leaf}"] = random.uniform(low, high, features).astype(np.float32)
        arrays[f"{name}.num_batches_tracked"] = np.array(3)

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    inputs, expansion = 64, 1 if depth == 18 else 4
    for stage, blocks in enumerate(STAGES[depth]):
        width = 64 * 2**stage
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            if depth == 18:
                shapes = [(width, inputs, 3), (width, width, 3)]
            else:
                shapes = [(width, inputs, 1), (width, width, 3), (4 * width, width, 1)]
            for number, (features, fan, size) in enumerate(shapes, 1):
                conv(f"{name}.conv{number}", features, fan, size)
                norm(f"{name}.bn{number}", features)
            if block == 0 and (stage > 0 or depth == 50):
                conv(f"{name}.downsample.0", expansion * width, inputs, 1)
                norm(f"{name}.downsample.1", expansion * width)
            inputs = expansion * width
    arrays["fc.weight"] = random.normal(0, 0.05, (CLASSES, inputs)).astype(np.float32)
    arrays["fc.bias"] = random.normal(0, 1, CLASSES).astype(np.float32)
    return arrays


def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3)).astype(np.float32)


def torch_logits(depth) -> np.ndarray:
    """The forward pass of He et al. (2015) as torchvision has it, by functions of torch."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    arrays = {name: torch.from_numpy(np.array(a)) for name, a in random_weights(depth).items()}

    def conv(x, name, stride=1):
        weight = arrays[f"{name}.weight"]
        return functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(x, name):
        leaves = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(arrays[f"{name}.{leaf}"] for leaf in leaves))

    x = torch.from_numpy(images()).permute(0, 3, 1, 2)
    x = functional.max_pool2d(norm(conv(x, "conv1", 2), "bn1").relu(), 3, 2, 1)
    for stage, blocks in enumerate(STAGES[depth]):
        for block in range(blocks):
            name, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            maps, strided = (2, 1) if depth == 18 else (3, 2)
            y = x
            for number in range(1, maps + 1):
                y = conv(y, f"{name}.conv{number}", stride if number == strided else 1)
                y = norm(y, f"{name}.bn{number}")
                y = y.relu() if number < maps else y
            if f"{name}.downsample.0.weight" in arrays:
                x = norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = (x + y).relu()
    x = x.mean((2, 3))
    return (x @ arrays["fc.weight"].T + arrays["fc.bias"]).numpy()


def our_logits(depth, path) -> np.ndarray:
    config = default_config()
    config.model.name, config.model.depth = "resnet", depth
    model = models.build(config, hyperparameters.from_config(config, 1000), CLASSES)
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), train=False)
    )
    arrays = torch_names.read(path)
    leaves, structure = jax.tree_util.tree_flatten_with_path(shapes)
    names = [jax.tree_util.keystr(path[1:], simple=True, separator="/") for path, _ in leaves]
    assert set(names) == set(arrays)
    for name, (_, leaf) in zip(names, leaves, strict=True):
        assert arrays[name].shape == leaf.shape, name
    variables = jax.tree.unflatten(structure, [jnp.asarray(arrays[name]) for name in names])
    return np.asarray(jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images()))


@pytest.mark.parametrize("depth", STAGES)
def test_logits_are_pytorchs(depth, tmp_path):
    """Against torch where it is installed, and always against what it once gave."""
    save_file(random_weights(depth), tmp_path / "weights.safetensors")
    got = our_logits(depth, tmp_path / "weights.safetensors")
    kept = np.array(json.loads(LOGITS.read_text())[str(depth)])
    scale = np.abs(kept).max()
    np.testing.assert_allclose(got, kept, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("depth", STAGES)
def test_the_kept_logits_are_still_pytorchs(depth):
    kept = np.array(json.loads(LOGITS.read_text())[str(depth)])
    np.testing.assert_allclose(torch_logits(depth), kept, rtol=1e-4, atol=1e-4)


def test_other_names_and_damaged_files_are_told(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"encoder.conv1.weight": np.zeros((1, 1, 3, 3), np.float32)}, path)
    with pytest.raises(UserError, match="'encoder.conv1.weight' is no parameter of a ResNet"):
        torch_names.read(path)
    save_file({"conv1.bias": np.zeros(3, np.float32)}, path)
    with pytest.raises(UserError, match="'conv1.bias' is no parameter"):
        torch_names.read(path)
    save_file({"conv1.weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(UserError, match=r"'conv1.weight' has shape \(3,\)"):
        torch_names.read(path)
    for name in ("layer1.0.downsample.0.weight", f"layer1.{'7' * 5000}.conv1.weight"):
        save_file({name: np.zeros((1, 1, 3, 3), np.float32)}, path)
        with pytest.raises(UserError, match="is no parameter"):
            torch_names.read(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="is damaged"):
        torch_names.read(path)


def lying(**changes) -> bytes:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
    text = json.dumps({"x": entry}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(8)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"junk", bytes(8), b"\xff" * 8 + b"{}", (2).to_bytes(8, "little") + b"[]",
        (10**5).to_bytes(8, "little") + b"[" * 10**5,
        lying(shape=[3]), lying(shape=[10**12]), lying(shape=[-2]), lying(shape=[-1, -2]),
        lying(shape=[2.0]), lying(shape="2"), lying(shape=None), lying(data_offsets=[0, 9]),
        lying(data_offsets=[-8, 0]), lying(data_offsets=[8, 0]), lying(data_offsets=[4, 12]),
        lying(data_offsets=[0]), lying(dtype="F31"), lying(dtype=[]),
        lying(dtype="F8_E8M0", shape=[8]),
    ],
)  # fmt: skip
def test_files_that_lie_are_refused_in_one_line(content, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(lying())
    with pytest.raises(UserError, match="'x' is no parameter"):  # a file that does not lie
        torch_names.read(path)
    path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged: ") as refused:
        torch_names.read(path)
    assert "\n" not in str(refused.value)


@hypothesis.given(st.data())
def test_damaged_files_are_refused_or_hold_no_more_than_they_have(data):
    arrays = {"a": np.arange(6, dtype=np.int32), "b": np.ones((2, 3))}
    content = bytearray(save(arrays))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(0, len(content)))])
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(content)
        file.flush()
        with pytest.raises(UserError, match="is damaged|is no parameter") as refused:
            torch_names.read(Path(file.name))
    assert "\n" not in str(refused.value)
