"""The same from Python, with the objects themselves: python examples/python_example.py."""

import numpy as np
import optax
from own_parts.data import rings
from own_parts.loss import poly1
from own_parts.metric import brier
from own_parts.model import Gated
from own_parts.task import LogRegression

import research


def main() -> None:
    """Train twice: parts of one's own, then a task of one's own."""
    config = research.default_config()
    config.duration = "1000 steps"
    result = research.fit(
        config,
        data=rings(examples=2000),
        model=Gated(outputs=3, width=32),
        loss=poly1,
        optimizer=optax.adam(1e-2),
        metrics=[brier],
    )
    print(result.summary["test_accuracy"], result.history[-1]["brier"], result.report())
    print(result.predict(np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]], np.float32)).round(2))

    random = np.random.default_rng(0)
    lengths = random.uniform(1, 10, (1000, 3)).astype(np.float32)
    volumes = lengths.prod(1)
    result = research.fit(config, data=(lengths, volumes), task=LogRegression)
    print(result.summary["test_r2"], result.predict(np.array([[2.0, 3.0, 4.0]], np.float32)))


if __name__ == "__main__":
    main()
