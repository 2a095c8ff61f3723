"""Small data sets by default settings, beside scikit-learn's MLPClassifier and MLPRegressor.

    python -m benchmarks.small_data [--splits=N] [FILE.npz...]

Each split holds a fifth of the examples out, class by class. Both sides see the same rows; ours
cuts its validation split off the rest, scikit-learn trains on all of it, standardised or as it is.
MLPRegressor has our size, 64-64, and standardised targets too.
Sets: those that ship with scikit-learn, two drawn sets of the sizes of the public "vowel" (990
examples, 10 numbers, 11 classes) and "sonar" (208, 60, 2), and files with `x` and `y`.
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
from sklearn import clone, datasets
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from research import platform
from research.config import default_config
from research.data.dataset import Arrays, Dataset
from research.data.splits import train_validation
from research.training import advance, evaluation, setup

_SHIPPED = ("iris", "wine", "breast_cancer", "digits", "diabetes")
_DRAWN = {
    "vowel-sized": {"n_samples": 990, "n_features": 10, "n_informative": 8, "n_classes": 11},
    "sonar-sized": {"n_samples": 208, "n_features": 60, "n_informative": 20, "n_classes": 2},
}


def sets(files: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return inputs (N, D) and labels (N,) by the name of the set; floats are regressed on."""
    found = {}
    for name in _SHIPPED:
        found[name] = getattr(datasets, f"load_{name}")(return_X_y=True)
    for name, sizes in _DRAWN.items():
        found[name] = datasets.make_classification(class_sep=1.6, random_state=0, **sizes)
    for file in files:
        with np.load(file) as arrays:
            found[Path(file).stem] = arrays["x"], arrays["y"]
    return found


def ours(inputs, labels, test_inputs, test_labels, seed: int) -> float:
    """Return the test accuracy, or R2, of the default config."""
    config = default_config()
    config.seed = seed
    kind, names = "classes", tuple(map(str, range(int(labels.max()) + 1)))
    if labels.dtype.kind == "f":
        config.task.name, kind, names = "regression", "numbers", ("target",)
    train, test = (
        Arrays(rows.astype(np.float32), _as(kind, of_rows))
        for rows, of_rows in ((inputs, labels), (test_inputs, test_labels))
    )
    cut = train_validation(train.labels, config.data.validation, config.data.split_seed, kind)
    run = setup.from_split(config, Dataset("small", train, test, names, kind=kind), *cut)
    state = run.init()
    state, _ = advance.over_arrays(run, state)(state, run.plan().total_steps)
    found = evaluation.evaluate(run.config, run.task, state, run.test)
    return found["accuracy" if kind == "classes" else "r2"]


def _as(kind: str, labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.int32) if kind == "classes" else labels.astype(np.float32)[:, None]


def measured(inputs: np.ndarray, labels: np.ndarray, splits: int) -> np.ndarray:
    """Return test accuracies, or R2, (3, splits): ours, scikit-learn standardised, and as it is."""
    regression, found = labels.dtype.kind == "f", []
    for seed in range(splits):
        train, test, train_labels, test_labels = train_test_split(
            inputs,
            labels,
            test_size=0.2,
            stratify=None if regression else labels,
            random_state=seed,
        )
        rows = train, train_labels, test, test_labels
        plain = MLPClassifier(random_state=seed)
        if regression:
            plain = MLPRegressor(hidden_layer_sizes=(64, 64), random_state=seed)
        standardised = make_pipeline(StandardScaler(), clone(plain))
        if regression:
            standardised = TransformedTargetRegressor(standardised, transformer=StandardScaler())
        theirs = standardised, plain
        scores = [model.fit(train, train_labels).score(test, test_labels) for model in theirs]
        found.append([ours(*rows, seed), *scores])
    return np.array(found).T


def main(argv: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("files", nargs="*")
    arguments = parser.parse_args(argv)
    platform.enable_compilation_cache()
    warnings.simplefilter("ignore", ConvergenceWarning)
    heads = ("Set", "Examples", "Ours", "scikit-learn, standardised", "as it is", "Difference")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, (inputs, labels) in sets(arguments.files).items():
        each = measured(inputs, labels, arguments.splits)
        cells = [f"{row.mean():.2%} +- {row.std(ddof=1):.2%}" for row in each]
        gap = each[0] - each[1]
        error = gap.std(ddof=1) / np.sqrt(len(gap))
        cells.append(f"{100 * gap.mean():+.1f} +- {100 * error:.1f} points")
        print(f"| {name} | {len(labels):,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
