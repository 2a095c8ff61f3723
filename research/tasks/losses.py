"""Losses by name: (outputs, targets, *, numbers...) -> the loss of each example.

All take float arrays of equal shape (B, K) and return float32 (B,). Keyword-only parameters are
keys of `config.loss`. A task states which of them fit its targets.
"""

import jax
import jax.numpy as jnp
import optax


def softmax_cross_entropy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Return -sum_k t_k log softmax(z)_k in nats, for targets that are distributions."""
    return optax.softmax_cross_entropy(outputs, targets)


def focal(outputs: jax.Array, targets: jax.Array, *, focal_gamma) -> jax.Array:
    """Return -sum_k t_k (1 - p_k)^gamma log p_k, p = softmax(z) (Lin et al., 2017, eq. 4).

    Examples that the network already gets right count less. gamma 0 is `softmax_cross_entropy`.
    """
    logs = jax.nn.log_softmax(outputs)
    # 1 - p, without the cancellation that makes its power's gradient infinite at p = 1.
    rest = jnp.maximum(-jnp.expm1(logs), jnp.finfo(jnp.float32).tiny)
    return -(targets * rest**focal_gamma * logs).sum(-1)


def hinge(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Return sum_{k != y} max(0, 1 + z_k - z_y), the multi-class SVM (Weston and Watkins, 1999).

    For targets that are distributions: the mean over y, weighted by the target of class y.
    """
    margins = jax.nn.relu(1 + outputs[:, None, :] - outputs[:, :, None])  # [b, y, k]
    others = 1 - jnp.eye(outputs.shape[-1])
    return jnp.einsum("by,byk,yk->b", targets, margins, others)


def binary_cross_entropy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the sum over outputs of -t log s(z) - (1 - t) log(1 - s(z)), s the logistic function.

    For classes it trains each against all others.
    """
    return optax.sigmoid_binary_cross_entropy(outputs, targets).sum(-1)


def mean_squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the mean over outputs of (z - t)^2."""
    return jnp.square(outputs - targets).mean(-1)


def mean_absolute_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the mean over outputs of |z - t|; it is least at the median."""
    return jnp.abs(outputs - targets).mean(-1)


def huber(outputs: jax.Array, targets: jax.Array, *, huber_delta) -> jax.Array:
    """Return the mean over outputs of e^2 / 2 up to |e| = delta, delta (|e| - delta / 2) beyond.

    Huber (1964). Outliers pull with a bounded force.
    """
    return optax.huber_loss(outputs, targets, delta=huber_delta).mean(-1)


def quantile(outputs: jax.Array, targets: jax.Array, *, quantile) -> jax.Array:
    """Return the mean over outputs of max(q e, (q - 1) e), e = t - z (Koenker and Bassett, 1978).

    It is least where a share q of the targets lies below the output.
    """
    error = targets - outputs
    return jnp.maximum(quantile * error, (quantile - 1) * error).mean(-1)
