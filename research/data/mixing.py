"""Mix examples with others of the batch: (key, inputs, targets, *, numbers...) -> mixed pair.

Functions run after preprocessing, on float inputs (B, ...) and targets (B, classes) that are
distributions. A random cyclic shift of the batch gives each example another one as its partner. The
whole batch has one share, as in the papers. Training accuracy counts the class with the larger
share.
"""

import jax
import jax.numpy as jnp


def none(key, inputs, targets):
    """Return inputs and targets unchanged."""
    return inputs, targets


def mixup(key, inputs, targets, *, mixup_alpha):
    """Return s x_i + (1 - s) x_j, s ~ Beta(alpha, alpha) (Zhang et al., 2018, eq. 1).

    Targets are mixed in the same way.
    """
    share, partner = _draw(key, len(inputs), mixup_alpha)

    def mixed(array):
        return share * array + (1 - share) * jnp.roll(array, partner, axis=0)

    return mixed(inputs), mixed(targets)


def cutmix(key, inputs, targets, *, cutmix_alpha):
    """Paste in a rectangle of another image (Yun et al., 2019, eq. 1 and 2).

    Images are (B, H, W, C). The sides of the rectangle are sqrt(1 - share) of theirs, around a
    random pixel. Targets are mixed by the true area of the rectangle.
    """
    where, draws = jax.random.split(key)
    share, partner = _draw(draws, len(inputs), cutmix_alpha)
    height, width = inputs.shape[1:3]
    centre = jax.random.uniform(where, (2,)) * jnp.array([height, width])
    half = jnp.sqrt(1 - share) / 2

    def inside(size, centre):
        low = jnp.clip(jnp.floor(centre - half * size), 0, size)
        high = jnp.clip(jnp.floor(centre + half * size), 0, size)
        return (jnp.arange(size) >= low) & (jnp.arange(size) < high)

    other = inside(height, centre[0])[:, None] & inside(width, centre[1])[None, :]
    kept = 1 - other.mean()
    inputs = jnp.where(other[None, :, :, None], jnp.roll(inputs, partner, axis=0), inputs)
    return inputs, kept * targets + (1 - kept) * jnp.roll(targets, partner, axis=0)


def _draw(key, batch: int, alpha):
    """Draw the share of each example in its mixture, and the cyclic shift to its partner."""
    shares, partners = jax.random.split(key)
    share = jax.random.beta(shares, alpha, alpha)
    return share, jax.random.randint(partners, (), 1, max(batch, 2))
