"""A task: a subclass of the nearest one that overrides what differs."""

import jax.numpy as jnp
import numpy as np

from research.tasks.regression import Regression


class LogRegression(Regression):
    """Regression of positive targets by their logarithms: errors are relative."""

    def statistics(self, labels):
        """Return the mean and the deviation of the logarithms."""
        return super().statistics(np.log(labels))

    def targets(self, labels, statistics):
        """Return standardised logarithms."""
        return super().targets(jnp.log(labels), statistics)

    def natural(self, values, statistics):
        """Return values in the user's unit."""
        return jnp.exp(super().natural(values, statistics))
