"""Small data sets that ship with scikit-learn: () -> inputs, labels, names of the outputs.

Inputs of tables are float64 (N, D), in their own units. Labels are int32 (N,) classes, float32
(N, 1) numbers, or uint8 (N, L).
"""

import numpy as np


def iris():
    """Return 150 irises of 3 species, by the sizes of their leaves (Fisher, 1936)."""
    return _classes("load_iris")


def wine():
    """Return 178 Italian wines of 3 growers, by 13 chemical measurements (Forina et al., 1988)."""
    return _classes("load_wine")


def breast_cancer():
    """Return 569 tumours, malignant or benign, by 30 measures of their cells (Street et al., 1993).

    The measures are means, standard errors and worst values of 10 properties of cell nuclei.
    """
    return _classes("load_breast_cancer")


def diabetes():
    """Return 442 patients: the progress of their disease in a year, by 10 measurements.

    The data are from Efron et al. (2004), in their own units. Targets are from 25 to 346.
    """
    from sklearn import datasets

    found = datasets.load_diabetes(scaled=False)
    return found.data, found.target.astype(np.float32)[:, None], ("disease_progression",)


def _classes(loader: str):
    from sklearn import datasets  # takes 2 seconds

    found = getattr(datasets, loader)()
    return found.data, found.target.astype(np.int32), tuple(map(str, found.target_names))


def digit_properties():
    """Return scikit-learn's 1,797 digits of 8 x 8 pixels, with the properties of each number.

    Inputs are uint8 (N, 8, 8, 1), from 0 to 255. Labels are uint8 (N, 4): whether the number is
    even, prime, above four, and drawn with a closed loop (0, 6, 8, 9).
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    properties = {
        "even": (0, 2, 4, 6, 8),
        "prime": (2, 3, 5, 7),
        "above four": (5, 6, 7, 8, 9),
        "loop": (0, 6, 8, 9),
    }
    labels = [np.isin(digits.target, numbers) for numbers in properties.values()]
    return images, np.stack(labels, axis=1).astype(np.uint8), tuple(properties)
