"""Section 2: data preprocessing. All schemes, on digits: docs/preprocessing.md."""

import numpy as np

from benchmarks import preprocessing as measures
from benchmarks.claims.common import Claim, Net, percent
from research.data import preprocessing, toys
from research.data.feed import preprocess

TITLE = "Data preprocessing"


def sensitivity() -> Claim:
    rows, changes = [], {}
    points, labels = toys.blobs(1000, 0.2, 0)
    for distance in (0.0, 3.0, 10.0, 30.0):
        raw = points.astype(np.float64) + distance
        fitted = preprocessing.per_pixel([raw])
        seen = (raw - fitted["shift"]) * fitted["scale"]
        kernel, bias = measures.descended(seen, labels)
        # The same function of raw points: (x - shift) scale kernel + bias.
        by_raw = fitted["scale"][:, None] * kernel
        raw_bias = bias - fitted["shift"] @ by_raw
        changes[distance] = [
            measures.change(raw, labels, by_raw, raw_bias),
            measures.change(seen, labels, kernel, bias),
        ]
        rows.append([f"{distance:g}", *(percent(value, 2) for value in changes[distance])])
    before, after = changes[10.0]
    return Claim(
        "After normalisation the loss is less sensitive to small changes of the weights",
        "Lecture, section 2",
        "Three clouds of points, moved away from 0 along both axes; softmax regression of 200 "
        "steps. "
        "The relative change of the loss when each weight changes by 1 % (mean of 200 draws), for "
        "the same function written in raw and in normalised (`per_pixel`) coordinates. On images: "
        "docs/preprocessing.md.",
        [["Moved by", "Raw", "Normalised"], *rows],
        after < 0.5 * before,
        f"At 10 deviations' distance it changes by {percent(before, 1)} in raw coordinates and by "
        f"{percent(after, 2)} in normalised ones. Without a distance there is nothing to gain.",
    )


def conditioning() -> Claim:
    kept, rows, found = 300, [], {}
    for scheme, epsilon in (
        ("per_channel", 0.01),
        ("per_pixel", 0.01),
        ("pca", 0.01),
        ("pca_whitening", 0.01),
        ("pca_whitening", 1e-5),
        ("zca", 1e-5),
    ):
        net = Net(
            {
                "data.name": "mnist",
                "data.validation": 0.8,
                "preprocessing.name": scheme,
                "preprocessing.epsilon": epsilon,
            }
        )
        seen = np.asarray(preprocess(net.run.statistics, net.run.train.inputs))
        covariance = np.cov(seen.reshape(len(seen), -1), rowvar=False, dtype=np.float64)
        variances = np.linalg.eigvalsh(covariance)[::-1]
        beside = np.abs(covariance - np.diag(np.diag(covariance))).max() / covariance.max()
        case = f"{scheme}, epsilon {epsilon:g}" if "white" in scheme or scheme == "zca" else scheme
        found[case] = variances[0] / variances[kept - 1], beside
        rows.append([f"`{case}`", f"{found[case][0]:.4g}", f"{beside:.2g}"])
    before, after = found["per_channel"][0], found["pca_whitening, epsilon 1e-05"][0]
    return Claim(
        "PCA makes the covariance diagonal, whitening makes it the identity",
        "Lecture, section 2",
        "12,000 images of MNIST behind statistics fitted to them, float32: the condition number of "
        f"their covariance in its {kept} directions of most variance (of 784), and its largest "
        "entry "
        "beside the diagonal, as a share of the largest.",
        [["Scheme", "Condition number", "Beside the diagonal"], *rows],
        found["pca"][1] < 1e-5 and after < 1.01,
        f"From {before:.3g} to {after:.4g}; with the default epsilon, .01 of the mean variance, to "
        f"{found['pca_whitening, epsilon 0.01'][0]:.3g}. ZCA is the identity but for the pixels "
        "that "
        "are always black, which stay so.",
    )
