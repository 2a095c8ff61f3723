"""Packing: a tree as a vector for each dtype, and back."""

import hypothesis
import jax
import numpy as np
from hypothesis import strategies as st

from research.training.packing import Packing


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 3), max_size=3), st.sampled_from(["float32", "int32", "bool"])
        ),
        min_size=1,
    )
)
def test_packing_and_back_is_nothing(leaves):
    random = np.random.default_rng(0)
    tree = [random.normal(size=shape).astype(dtype) for shape, dtype in leaves]
    packing = Packing(tree)
    vectors = packing.pack(tree)
    assert {name: len(vector) for name, vector in vectors.items()} == packing.sizes
    same = np.testing.assert_array_equal
    jax.tree.map(same, packing.unpack(vectors), tree)
    jax.tree.map(same, dict(jax.jit(packing.pack)(tree)), vectors)
