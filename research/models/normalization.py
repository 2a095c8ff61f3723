"""Normalise, by name: (x, train, scale_init, *, numbers...) -> the same shape and dtype.

The functions are called inside `@nn.compact`. They make parameters, `scale` and `bias` for each
channel, and running statistics of their own. `scale` starts at `scale_init` (0 if a residual branch
is to add nothing at first), `bias` at `initial_bias`.
"""

import math

from flax import linen as nn

from research.errors import UserError
from research.models.batch_norm import BatchNorm


def none(x, train, scale_init):
    """Return x itself; layers then have biases."""
    return x


def batch_norm(
    x, train, scale_init, *, batch_norm_decay, ghost_batch_size, freeze_batch_stats, initial_bias
):
    """Normalise by batch statistics, in evaluation by running ones (Ioffe and Szegedy, 2015).

    With `ghost_batch_size`, each part of the batch of that size is normalised by its own statistics
    (Hoffer et al., 2017). With `freeze_batch_stats`, the running statistics are used and kept.
    """
    return BatchNorm(
        decay=batch_norm_decay,
        ghost_batch_size=ghost_batch_size,
        frozen=freeze_batch_stats,
        **_initial(scale_init, initial_bias),
    )(x, train)


def layer_norm(x, train, scale_init, *, initial_bias):
    """Normalise each position by the mean and variance of its channels (Ba et al., 2016).

    A position is a pixel, a patch, a token, or the row of a dense layer. `group_norm` with
    `norm_groups = 1` takes all positions of an example together, which for images is also called
    layer normalisation.

    Raises:
      UserError: one channel.
    """
    _check_values(x.shape[-1], x, "config.model.normalization = 'layer_norm'", "wider")
    return nn.LayerNorm(
        epsilon=1e-5, use_fast_variance=False, **_initial(scale_init, initial_bias)
    )(x)


def group_norm(x, train, scale_init, *, norm_groups, initial_bias):
    """Normalise by the mean and variance of each group of channels (Wu and He, 2018).

    They are computed for each example, over all its positions.

    Raises:
      UserError: the groups do not divide the channels, or hold one number each.
    """
    channels = x.shape[-1]
    if channels % norm_groups:
        raise UserError(
            f"config.model.norm_groups = {norm_groups} does not divide a layer's {channels} "
            f"channels (allowed: divisors, such as {math.gcd(channels, norm_groups)})"
        )
    values = math.prod(x.shape[1:]) // norm_groups
    _check_values(values, x, f"config.model.norm_groups = {norm_groups}", "fewer groups, or wider")
    return nn.GroupNorm(
        norm_groups,
        epsilon=1e-5,
        use_fast_variance=False,
        **_initial(scale_init, initial_bias),
    )(x)


def instance_norm(x, train, scale_init, *, initial_bias):
    """Normalise by the mean and variance of each channel of an image (Ulyanov et al., 2016).

    Raises:
      UserError: not images, or images of one pixel, where a channel is one number.
    """
    if x.ndim < 3:
        raise UserError(
            "config.model.normalization = 'instance_norm' works on images (allowed for dense "
            "layers: batch_norm, layer_norm, group_norm, none)"
        )
    name = "config.model.normalization = 'instance_norm'"
    _check_values(math.prod(x.shape[1:-1]), x, name, "another normaliser, or less pooled")
    return nn.InstanceNorm(
        epsilon=1e-5, use_fast_variance=False, **_initial(scale_init, initial_bias)
    )(x)


def _check_values(values: int, x, key: str, allowed: str) -> None:
    """Refuse a variance of one value, which is 0: every output would be the bias."""
    if values == 1:
        pixels = f"{x.shape[1]} x {x.shape[2]} pixels, " if x.ndim == 4 else ""
        raise UserError(
            f"{key} takes the variance of one value, which is 0, in a layer of {pixels}"
            f"{x.shape[-1]} channel{'s' * (x.shape[-1] > 1)} (allowed: {allowed} layers)"
        )


def _initial(scale, bias) -> dict:
    constant = nn.initializers.constant
    return {"scale_init": constant(scale), "bias_init": constant(bias)}
