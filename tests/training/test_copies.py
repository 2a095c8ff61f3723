"""Copies of a state: what is fetched is what was there, wherever they were."""

import types

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from research.training import copies
from research.training.copies import copied

DTYPES = (jnp.float32, jnp.bfloat16, jnp.int32, jnp.uint8, jnp.bool_)
SHAPES = ((), (0,), (3,), (2, 0, 3), (4, 5), (2, 3, 4))


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(
    st.lists(st.tuples(st.sampled_from(DTYPES), st.sampled_from(SHAPES), st.booleans()), max_size=9)
)
def test_what_is_fetched_is_what_was_copied(moons, leaves):
    """Of every dtype and shape, of NumPy or not, in every order."""
    random = np.random.default_rng(0)
    params = {}
    for number, (dtype, shape, on_host) in enumerate(leaves):
        array = jnp.asarray(random.integers(0, 200, shape), dtype)
        params[f"leaf{number}"] = np.asarray(array) if on_host else array
    state = moons.init().replace(params=params)
    leaves = copies.saved_leaves(state)
    wanted = {name: np.array(leaf) for name, leaf in leaves.items()}
    here, there = copied(state, on_device=False), copied(state)
    for leaf in leaves.values():
        if isinstance(leaf, jax.Array):
            leaf.delete()  # as where training goes on in its memory
    for arrays in (here.fetch(), there.fetch()):
        assert arrays.keys() == wanted.keys()
        for name, array in arrays.items():
            assert isinstance(array, np.ndarray) and array.dtype == wanted[name].dtype
            np.testing.assert_array_equal(array, wanted[name])


def test_copies_wait_for_nothing_on_the_device_and_leave_it_when_fetched(moons):
    state = moons.init()
    copied(state)  # compiles

    products = 30 if jax.default_backend() == "cpu" else 10_000  # some tenths of a second

    @jax.jit
    def later(state):
        slow = jax.lax.fori_loop(0, products, lambda _, a: a @ a * 1e-3, jnp.ones((1000, 1000)))
        return state.replace(params=jax.tree.map(lambda leaf: leaf + slow[0, 0], state.params))

    jax.block_until_ready(later(state))
    found = copied(later(state))
    there = jax.tree.leaves((found._packed, found._others))
    assert len(there) == 2 and all(isinstance(array, jax.Array) for array in there)  # by dtype
    assert not all(array.is_ready() for array in there)
    found.fetch()
    assert not jax.tree.leaves((found._packed, found._others))
    found = copied(state, on_device=False)
    there = jax.tree.leaves((found._packed, found._others))
    assert there and not any(isinstance(array, jax.Array) for array in there)


@pytest.mark.parametrize(
    "free, has_room", [(None, False), (1.9, False), (2.1, True)], ids=["not told", "less", "more"]
)
def test_an_accelerator_has_room_for_two_copies_or_none_are_made_there(
    free, has_room, moons, monkeypatch
):
    """Told by what such a device would answer: there is none here."""
    state = moons.init()
    assert copies.has_room(state)  # as here
    size = sum(leaf.nbytes for leaf in copies.saved_leaves(state).values())
    told = {"peak_bytes_in_use": 5 * size, "bytes_limit": int((5 + (free or 0)) * size)}
    device = types.SimpleNamespace(memory_stats=lambda: told if free else None)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert copies.has_room(state) == has_room
