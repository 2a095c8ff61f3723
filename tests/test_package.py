"""The order of examples, and the safe XLA flag."""

import jax
import jax.numpy as jnp
import numpy as np

import research
from research.data.shuffle import batch_indices


def test_every_epoch_visits_every_example_once_in_another_order():
    for examples, batch in ((10, 3), (97, 8), (1000, 128)):
        steps = np.arange(-(-3 * examples // batch))
        row = jax.vmap(lambda step, b=batch, n=examples: batch_indices(7, step, b, n))(steps)
        row = np.asarray(row).reshape(-1)[: 3 * examples].reshape(3, examples)
        for epoch in row:
            assert sorted(epoch.tolist()) == list(range(examples))
        assert not np.array_equal(row[0], row[1])


def test_the_flag_is_set_only_where_jaxlib_knows_it_and_the_user_did_not():
    flag = "--xla_cpu_experimental_ynn_fusion_type="
    assert research._safe_xla_flags("", "0.10.2") == flag
    assert research._safe_xla_flags("", "0.10.1") == ""
    assert research._safe_xla_flags(flag + "-reduce", "0.10.2") == flag + "-reduce"


def test_a_vmapped_reduction_over_many_rows_is_right():
    """jaxlib 0.10.2's default is silently wrong here (jax issue 39103)."""
    rows = jnp.ones((32769, 128), jnp.float32)
    matrix = jnp.ones((16, 128), jnp.float32)
    result = jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))(rows)
    np.testing.assert_allclose(np.asarray(result), 16 * 128.0**2)
