"""What preprocessing does, on digits: python -m benchmarks.preprocessing writes the table of
docs/preprocessing.md, which says what is measured.
"""

from pathlib import Path

import numpy as np
from scipy.special import log_softmax, softmax

from research.config import default_config
from research.data import preprocessing
from research.data.feed import preprocess
from research.names import public_functions
from research.training import setup

PAGE = Path(__file__).parent.parent / "docs" / "preprocessing.md"
MARK = "<!-- table -->\n"
STEPS = 200


def main() -> None:
    table = [
        "| Scheme | Condition number | Loss change, raw pixels | the same, preprocessed "
        "| Loss | Test accuracy |",
        "|---|---|---|---|---|---|",
    ]
    for name in public_functions(preprocessing):
        if name == "identity":  # not for bytes
            continue
        table.append(row(name))
        print(table[-1], flush=True)
    text = PAGE.read_text().partition(MARK)[0] + MARK + "\n".join(table) + "\n"
    PAGE.write_text(text)


def row(name: str) -> str:
    """The numbers of one scheme."""
    config = default_config()
    config.preprocessing.name = name
    run = setup.from_config(config)

    def seen(inputs):
        outputs = np.asarray(preprocess(run.statistics, inputs), np.float64)
        return outputs.reshape(len(inputs), -1)

    inputs, labels = seen(run.train.inputs), run.train.labels
    kernel, bias = descended(inputs, labels)
    # The same map of pixels from 0 to 1: what it gives for none of them, and for each alone.
    pixels = run.train.inputs.reshape(len(inputs), -1) / 255
    none = seen(np.zeros((1, *run.train.shape), np.float32))
    each = seen(255 * np.eye(pixels.shape[1], dtype=np.float32).reshape(-1, *run.train.shape))
    raw = (each - none) @ kernel, none[0] @ kernel + bias
    final = loss(inputs, labels, kernel, bias)
    np.testing.assert_allclose(loss(pixels, labels, *raw), final, rtol=1e-3)
    predicted = (seen(run.test.inputs) @ kernel + bias).argmax(1)
    return (
        f"| `{name}` | {condition(inputs):.3g} | {change(pixels, labels, *raw):.2%} "
        f"| {change(inputs, labels, kernel, bias):.2%} | {final:.3f} "
        f"| {np.mean(predicted == run.test.labels):.1%} |"
    )


def descended(inputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Softmax regression: gradient descent from 0 at the rate 1 / L, where L bounds the curvature.

    L = largest eigenvalue of E[x x^T] / 2, x with a 1 for the bias (Boehning, 1992).
    """
    x = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    curvature = np.linalg.eigvalsh(x.T @ x / len(x))[-1] / 2
    targets = np.eye(labels.max() + 1)[labels]
    weights = np.zeros((x.shape[1], targets.shape[1]))
    for _ in range(STEPS):
        gradient = x.T @ (softmax(x @ weights, axis=1) - targets) / len(x)
        weights -= gradient / curvature
    return weights[:-1], weights[-1]


def condition(inputs: np.ndarray) -> float:
    """Largest over smallest variance of all directions in which the inputs vary."""
    variances = np.linalg.eigvalsh(np.cov(inputs.T, bias=True))
    return variances[-1] / variances[variances > 1e-7 * variances[-1]][0]


def loss(inputs, labels, kernel, bias) -> float:
    """The mean cross-entropy."""
    return -log_softmax(inputs @ kernel + bias, axis=1)[np.arange(len(labels)), labels].mean()


def change(inputs, labels, kernel, bias) -> float:
    """The mean relative change of the loss when each weight, biases too, changes by 1 %."""
    random = np.random.default_rng(0)
    before = loss(inputs, labels, kernel, bias)

    def moved(array):
        return array * (1 + 0.01 * random.standard_normal(array.shape))

    after = [loss(inputs, labels, moved(kernel), moved(bias)) for _ in range(200)]
    return np.mean(np.abs(np.array(after) / before - 1))


if __name__ == "__main__":
    main()
