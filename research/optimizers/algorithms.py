"""Update rules by name: (*, numbers...) -> an optax transformation without learning rate.

Each takes those numbers of `config.optimizer` that it names, traced, and returns the direction of
descent; `optimizers.build` adds clipping, decay and the scheduled learning rate around it. A rule
that names `weight_decay` has it inside. Below, g is the gradient, t the step from 1 on.
"""

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from research.optimizers.decay import decayed
from research.optimizers.masks import is_kernel


def sgd():
    """The gradient itself."""
    return optax.identity()


def momentum(*, momentum):
    """Heavy ball (Polyak, 1964): m <- momentum m + g; direction m."""
    return optax.trace(decay=momentum)


def nesterov(*, momentum):
    """Nesterov momentum (Sutskever et al., 2013): m <- momentum m + g; g + momentum m."""
    return optax.trace(decay=momentum, nesterov=True)


def adagrad(*, epsilon):
    """s <- s + g^2; g / sqrt(s + epsilon) (Duchi et al., 2011)."""
    return optax.scale_by_rss(initial_accumulator_value=0.0, eps=epsilon)


def rmsprop(*, rms_decay, epsilon):
    """v <- rms_decay v + (1 - rms_decay) g^2; g / (sqrt(v) + epsilon) (Tieleman, Hinton, 2012)."""
    return optax.scale_by_rms(decay=rms_decay, eps=epsilon, eps_in_sqrt=False)


def rmsprop_centered(*, rms_decay, epsilon):
    """As `rmsprop`, by the deviation, v - m^2, m the decayed mean of g (Graves, 2013, eq. 38)."""
    zeros = optax.tree.zeros_like
    old, new = rms_decay, 1 - rms_decay

    def update(updates, state, params=None):
        means = jax.tree.map(lambda m, g: old * m + new * g, state[0], updates)
        squares = jax.tree.map(lambda v, g: old * v + new * g**2, state[1], updates)

        def scaled(g, m, v):  # optax's own takes the root of what rounding makes negative
            return g / (jnp.sqrt(jnp.maximum(v - m**2, 0)) + epsilon)

        return jax.tree.map(scaled, updates, means, squares), (means, squares)

    return optax.GradientTransformation(lambda params: (zeros(params), zeros(params)), update)


def rmsprop_momentum(*, rms_decay, epsilon, momentum):
    """`rmsprop`, then heavy ball."""
    return optax.chain(rmsprop(rms_decay=rms_decay, epsilon=epsilon), optax.trace(decay=momentum))


def adadelta(*, rms_decay, epsilon):
    """g sqrt(d + epsilon) / sqrt(v + epsilon), d of squared directions (Zeiler, 2012, alg. 1)."""
    return optax.scale_by_adadelta(rho=rms_decay, eps=epsilon)


def adam(*, beta1, beta2, epsilon):
    """Adam with bias correction (Kingma and Ba, 2015, algorithm 1); with decay AdamW."""
    return optax.scale_by_adam(b1=beta1, b2=beta2, eps=epsilon)


def amsgrad(*, beta1, beta2, epsilon):
    """Adam by the largest second moment so far (Reddi et al., 2018, algorithm 2)."""
    return optax.scale_by_amsgrad(b1=beta1, b2=beta2, eps=epsilon)


def adamax(*, beta1, beta2, epsilon):
    """Adam by the decayed maximum: u <- max(beta2 u, abs(g) + epsilon) (ibid., algorithm 2)."""
    return optax.scale_by_adamax(b1=beta1, b2=beta2, eps=epsilon)


def nadam(*, beta1, beta2, epsilon):
    """Adam with Nesterov momentum (Dozat, 2016)."""
    return optax.scale_by_adam(b1=beta1, b2=beta2, eps=epsilon, nesterov=True)


def radam(*, beta1, beta2, epsilon):
    """Adam whose first steps are rectified for few samples (Liu et al., 2020, algorithm 2)."""
    return optax.scale_by_radam(b1=beta1, b2=beta2, eps=epsilon)


def adabelief(*, beta1, beta2, epsilon):
    """Adam by the second moment of g - m (Zhuang et al., 2020, algorithm 2)."""
    return optax.scale_by_belief(b1=beta1, b2=beta2, eps=epsilon, eps_root=0.0)


def yogi(*, beta1, beta2, epsilon):
    """Adam with v <- v - (1 - beta2) sign(v - g^2) g^2 (Zaheer et al., 2018, algorithm 2)."""
    return optax.scale_by_yogi(b1=beta1, b2=beta2, eps=epsilon, initial_accumulator_value=0.0)


def lion(*, beta1, beta2):
    """sign(beta1 m + (1 - beta1) g); m <- beta2 m + (1 - beta2) g (Chen et al., 2023, alg. 2)."""
    return optax.scale_by_lion(b1=beta1, b2=beta2)


def lars(*, momentum, weight_decay, decay_multipliers):
    """Heavy ball on g + weight_decay w, brought to each kernel's own length (You et al., 2017).

    There is no key for the paper's trust coefficient eta: for kernels the learning rate here is
    theirs times eta.
    """
    return optax.chain(
        decayed(weight_decay, decay_multipliers),
        _kernels_own_length(),
        optax.trace(decay=momentum),
    )


def lamb(*, beta1, beta2, epsilon, weight_decay, decay_multipliers):
    """Adam plus weight_decay w, brought to each kernel's own length (You et al., 2020, alg. 2)."""
    return optax.chain(
        adam(beta1=beta1, beta2=beta2, epsilon=epsilon),
        decayed(weight_decay, decay_multipliers),
        _kernels_own_length(),
    )


def adafactor():
    """g / sqrt(v), v of rows and columns where both have 128, RMS at most 1, times that of w.

    Shazeer and Stern (2018), algorithm 4; decay 1 - t^-0.8. Directions have the size of weights:
    rates are near 0.01.
    """
    return optax.chain(
        optax.scale_by_factored_rms(),
        optax.clip_by_block_rms(1.0),
        optax.scale_by_param_block_rms(),
    )


def muon(*, momentum, beta1, beta2, epsilon):
    """Nesterov momentum, made nearly orthogonal by five Newton-Schulz steps (Jordan et al., 2024).

    Times sqrt(max(1, out / fan_in)). For hidden kernels, of convolutions as (fan_in, out); Adam for
    the head and all else.
    """

    def kinds(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, kernel: "muon" if kernel and path[0].key != "head" else "adam",
            is_kernel(params),
        )

    def sides(params):
        return jax.tree.map(
            lambda w: contrib.MuonDimensionNumbers(tuple(range(w.ndim - 1)), w.ndim - 1), params
        )

    def shaped(updates, params):
        return jax.tree.map(
            lambda u: u * max(1.0, u.shape[-1] ** 2 / u.size) ** 0.5 if u.size else u, updates
        )

    orthogonal = optax.chain(
        contrib.scale_by_muon(beta=momentum, weight_dimension_numbers=sides),
        optax.stateless(shaped),
    )
    return optax.partition(
        {"muon": orthogonal, "adam": adam(beta1=beta1, beta2=beta2, epsilon=epsilon)}, kinds
    )


def lbfgs(*, memory, line_search_steps):
    """Inverse curvature from the last `memory` steps, times a step length that a line search finds.

    L-BFGS with strong Wolfe conditions (Nocedal and Wright, 2006, algorithms 7.4, 3.5 and 3.6). For
    all training data as one batch, without noise; a constant learning rate of 1 is its own length.
    """
    return optax.chain(
        optax.scale_by_lbfgs(memory_size=memory),
        optax.scale(-1.0),
        optax.scale_by_zoom_linesearch(line_search_steps),  # wants a direction of descent
        optax.scale(-1.0),
    )


def _kernels_own_length() -> optax.GradientTransformation:
    """Scales the direction of each kernel to the kernel's length; others, and zeros, stay."""

    def scaled(update, param, kernel):
        if not kernel:
            return update
        ours, theirs = jnp.linalg.norm(update.ravel()), jnp.linalg.norm(param.ravel())
        usable = (ours > 0) & (theirs > 0)
        return update * jnp.where(usable, theirs / jnp.where(usable, ours, 1.0), 1.0)

    return optax.stateless(
        lambda updates, params: jax.tree.map(scaled, updates, params, is_kernel(params))
    )
