"""The stateless shuffle: coverage, uniformity, independence."""

import hypothesis
import jax
import numpy as np
from hypothesis import strategies as st
from scipy import stats

from research.data.shuffle import batch_indices, permute


def epochs(seed, examples: int, count: int) -> np.ndarray:
    index = np.arange(examples, dtype=np.uint32)
    run = jax.jit(jax.vmap(lambda epoch: permute(index, epoch, np.uint32(seed), examples)))
    return np.asarray(run(np.arange(count, dtype=np.uint32)))


@hypothesis.settings(deadline=None, max_examples=15)
@hypothesis.given(st.integers(1, 3000), st.integers(0, 2**32 - 1))
def test_each_epoch_is_a_permutation(examples, seed):
    for order in epochs(seed, examples, 3):
        assert np.array_equal(np.sort(order), np.arange(examples))


def test_batches_run_through_epochs_without_a_gap():
    for examples, batch in ((10, 3), (97, 8), (1000, 128), (5, 5), (3, 7)):
        steps = np.arange(-(-3 * examples // batch))
        rows = jax.vmap(lambda step, b=batch, n=examples: batch_indices(7, step, b, n))(steps)
        row = np.asarray(rows).reshape(-1)[: 3 * examples].reshape(3, examples)
        assert np.array_equal(row, epochs(7, examples, 3))


def test_a_traced_number_of_examples_gives_the_same_order():
    """Below and above powers of 4, where the number of rounds changes."""
    most = 4**6 + 3
    index = np.arange(3, dtype=np.uint32)
    run = jax.jit(lambda examples: permute(index, np.uint32(2), np.uint32(5), examples, most))
    for examples in (3, 4, 5, 255, 256, 257, 1023, 1024, 1025, 4095, 4096, 4097, most):
        want = permute(index, np.uint32(2), np.uint32(5), examples)
        assert np.array_equal(run(np.uint32(examples)), want), examples


def test_a_large_set_is_covered_and_its_last_position_reached():
    (order,) = epochs(1, 1_281_167, 1)
    assert np.array_equal(np.bincount(order, minlength=1_281_167), np.ones(1_281_167))


def test_every_example_is_equally_likely_at_every_position():
    """Chi-squared over position x example, 20,000 epochs of 12."""
    orders = epochs(3, 12, 20_000)
    counts = np.stack([np.bincount(orders[:, position], minlength=12) for position in range(12)])
    # Rows and columns sum to 20,000 each: (12 - 1)^2 degrees of freedom.
    chi = ((counts - 20_000 / 12) ** 2 / (20_000 / 12)).sum()
    assert 1e-4 < stats.chi2.sf(chi, 121) < 1 - 1e-4


def test_all_orders_of_four_are_equally_likely():
    orders = epochs(5, 4, 24_000)
    names = orders @ np.array([64, 16, 4, 1])
    _, counts = np.unique(names, return_counts=True)
    assert len(counts) == 24
    chi = ((counts - 1000) ** 2 / 1000).sum()
    assert 1e-4 < stats.chi2.sf(chi, 23) < 1 - 1e-4


def test_epochs_and_seeds_are_independent():
    """Of unrelated permutations one position agrees on average, and ranks do not correlate."""
    orders = epochs(11, 1000, 400)
    others = epochs(12, 1000, 400)
    for pairs in ((orders[:-1], orders[1:]), (orders, others)):
        agree = (pairs[0] == pairs[1]).sum(1)
        assert abs(agree.mean() - 1) < 4 / np.sqrt(len(agree))
        ranks = [stats.spearmanr(a, b).statistic for a, b in zip(*pairs, strict=True)]
        assert abs(np.mean(ranks)) < 4 / np.sqrt(1000 * len(ranks))
        assert 0.85 < np.std(ranks) * np.sqrt(1000) < 1.15


def test_neighbours_do_not_stay_neighbours():
    orders = epochs(2, 1000, 400).astype(int)
    near = (np.abs(np.diff(orders, axis=1)) == 1).mean()
    assert abs(near - 2 / 1000) < 4 * np.sqrt(2 / 1000 / (400 * 999))


def test_the_seed_may_be_traced_and_vmapped():
    seeds = np.array([0, 1, 2**32 - 1], np.uint32)
    rows = jax.jit(jax.vmap(lambda seed: batch_indices(seed, 3, 16, 100)))(seeds)
    for seed, row in zip(seeds, rows, strict=True):
        assert np.array_equal(row, batch_indices(seed, 3, 16, 100))
