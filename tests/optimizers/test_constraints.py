"""Max-norm: nothing longer than the limit, nothing else touched."""

import jax
import jax.numpy as jnp
import numpy as np

from research.optimizers.constraints import max_norm


def test_columns_are_shortened_and_others_left():
    random = np.random.default_rng(0)
    params = {
        "Dense_0": {
            "kernel": np.float32(random.normal(size=(30, 6)) * [1, 1, 1, 0.1, 0.1, 0]),
            "bias": np.full(6, 9.0, np.float32),
        },
        "Conv_0": {"kernel": random.normal(size=(3, 3, 4, 5)).astype(np.float32)},
    }
    got = jax.jit(max_norm)(params, 2.0)
    for name, axes in (("Dense_0", 0), ("Conv_0", (0, 1, 2))):
        before = params[name]["kernel"].astype(np.float64)
        length = np.sqrt((before**2).sum(axes))
        want = before * np.minimum(1, 2 / np.maximum(length, 1e-9))
        np.testing.assert_allclose(got[name]["kernel"], want, rtol=1e-5)
        assert (length > 2).any()
    np.testing.assert_array_equal(got["Dense_0"]["bias"], params["Dense_0"]["bias"])
    lanes = jax.vmap(lambda limit: max_norm(params, limit))(jnp.asarray([1.0, 2.0]))
    np.testing.assert_array_equal(lanes["Conv_0"]["kernel"][1], got["Conv_0"]["kernel"])
