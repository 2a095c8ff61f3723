"""Return an update rule, by name: (*, numbers...) -> an optax transformation without learning rate.

Each takes the numbers of `config.optimizer` that it names, traced, and returns the direction of
descent; `optimizers.build` adds clipping, decay and the scheduled learning rate around it. A rule
that names `weight_decay` applies it itself. A rule that names `scheduled` contains that link, which
multiplies by minus the rate. Below, g is the gradient, t the step from 1 on. If a rule differs from
its paper, its docstring says by how much at the default numbers.
"""

import math

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from research.models import leaves
from research.models.leaves import is_kernel, path_name
from research.optimizers.decay import decayed
from research.optimizers.masks import leaves_by_path


def sgd():
    """Use the gradient itself."""
    return optax.identity()


def momentum(*, momentum):
    """Use the heavy ball (Polyak, 1964): m <- momentum m + g; direction m.

    The rate multiplies m; in the paper it multiplies g before g is added. For a constant rate both
    are equal. After a cut of the rate to a tenth, the paper's next step is 9.1 times as long.
    """
    return optax.trace(decay=momentum)


def nesterov(*, momentum):
    """Use Nesterov momentum (Sutskever et al., 2013): m <- momentum m + g; g + momentum m.

    The weights are the paper's look-ahead weights. For rates that change, see `momentum`.
    """
    return optax.trace(decay=momentum, nesterov=True)


def adagrad(*, epsilon):
    """Use g / (sqrt(s) + epsilon); s <- s + g^2 (Duchi et al., 2011, figure 1)."""

    def update(updates, state, params=None):
        sums = jax.tree.map(lambda s, g: s + g**2, state.sum_of_squares, updates)

        def scaled(g, s):  # optax has epsilon inside the root; 0 if all g have been 0
            return jnp.where(s > 0, g / (jnp.sqrt(s) + epsilon), 0.0)

        return jax.tree.map(scaled, updates, sums), optax.ScaleByRssState(sums)

    zeros = optax.tree.zeros_like
    return optax.GradientTransformation(lambda params: optax.ScaleByRssState(zeros(params)), update)


def rmsprop(*, rms_decay, epsilon):
    """Use g / (sqrt(v) + epsilon); v <- rms_decay v + (1 - rms_decay) g^2.

    Tieleman and Hinton (2012).
    """
    return optax.scale_by_rms(decay=rms_decay, eps=epsilon, eps_in_sqrt=False)


def rmsprop_centered(*, rms_decay, epsilon):
    """Use v - m^2 in `rmsprop`, m the decayed mean of g (Graves, 2013, eq. 38).

    The paper has epsilon inside the root. If gradients deviate by 0.001, directions here are 0.5 %
    longer; if by 1e-05, 10.1 times as long.
    """
    zeros = optax.tree.zeros_like
    old, new = rms_decay, 1 - rms_decay

    def update(updates, state, params=None):
        means = jax.tree.map(lambda m, g: old * m + new * g, state[0], updates)
        squares = jax.tree.map(lambda v, g: old * v + new * g**2, state[1], updates)

        def scaled(g, m, v):  # rounding may make v - m^2 negative; optax takes its root
            return g / (jnp.sqrt(jnp.maximum(v - m**2, 0)) + epsilon)

        return jax.tree.map(scaled, updates, means, squares), (means, squares)

    return optax.GradientTransformation(lambda params: (zeros(params), zeros(params)), update)


def rmsprop_momentum(*, rms_decay, epsilon, momentum):
    """Apply `rmsprop`, then the heavy ball of `momentum`."""
    return optax.chain(rmsprop(rms_decay=rms_decay, epsilon=epsilon), optax.trace(decay=momentum))


def adadelta(*, rms_decay, epsilon):
    """Use g sqrt(d + epsilon) / sqrt(v + epsilon), d of squared directions (Zeiler, 2012, alg. 1).

    The paper has no learning rate: use 1. Here d is of directions before the rate.
    """
    return optax.scale_by_adadelta(rho=rms_decay, eps=epsilon)


def adam(*, beta1, beta2, epsilon):
    """Use Adam with bias correction (Kingma and Ba, 2015, algorithm 1); with decay, AdamW."""
    return optax.scale_by_adam(b1=beta1, b2=beta2, eps=epsilon)


def amsgrad(*, beta1, beta2, epsilon):
    """Use m / (sqrt(largest v so far) + epsilon), m and v Adam's (Reddi et al., 2018, algorithm 2).

    There is no bias correction, as in the paper: for a constant gradient the first direction is
    3.16, the 12th 6.57 and the 1000th 1.26 times Adam's. A warm-up helps.
    """
    return optax.scale_by_amsgrad(
        b1=beta1, b2=beta2, eps=epsilon, bias_correction_mu=False, bias_correction_nu=False
    )


def adamax(*, beta1, beta2, epsilon):
    """Use Adam with the decayed maximum: u <- max(beta2 u, abs(g) + epsilon).

    Kingma and Ba, 2015, algorithm 2, has no epsilon, and divides by 0 if all g have been 0.
    """
    return optax.scale_by_adamax(b1=beta1, b2=beta2, eps=epsilon)


def nadam(*, beta1, beta2, epsilon):
    """Use Adam with Nesterov momentum (Dozat, 2016).

    The paper starts with half of beta1: beta1 (1 - 0.96^(t / 250) / 2), and multiplies v by beta2.
    For a constant gradient the first direction here is 12.4 % longer and the tenth 0.7 %; for pure
    noise the 100th is 0.33 times as long.
    """
    return optax.scale_by_adam(b1=beta1, b2=beta2, eps=epsilon, nesterov=True)


def radam(*, beta1, beta2, epsilon):
    """Use Adam, rectified in the first steps for few samples (Liu et al., 2020, algorithm 2).

    Rectification starts from 5 samples on, as in the authors' code; in the paper from more than 4.
    This changes one step, the fifth: for a constant gradient its direction here is 57.8 times as
    long.
    """
    return optax.scale_by_radam(b1=beta1, b2=beta2, eps=epsilon)


def adabelief(*, beta1, beta2, epsilon):
    """Use Adam with s <- beta2 s + (1 - beta2) (g - m)^2 + epsilon (Zhuang et al., 2020, alg. 2).

    As in the paper, epsilon is added at each step: sqrt(s) stays above sqrt(epsilon / (1 - beta2)),
    that is 0.00316. The authors' code takes epsilon = 1e-16, which keeps it above 3.16e-07.
    """
    return optax.scale_by_belief(b1=beta1, b2=beta2, eps=epsilon, eps_root=epsilon)


def yogi(*, beta1, beta2, epsilon):
    """Use Adam with v <- v - (1 - beta2) sign(v - g^2) g^2 (Zaheer et al., 2018, algorithm 2).

    The paper has no bias correction: for a constant gradient the first direction here is 0.316, the
    tenth 0.153 and the 1000th 0.795 of the paper's.
    """
    return optax.scale_by_yogi(b1=beta1, b2=beta2, eps=epsilon, initial_accumulator_value=0.0)


def lion(*, beta1, beta2):
    """Use sign(beta1 m + (1 - beta1) g); m <- beta2 m + (1 - beta2) g (Chen et al., 2023)."""
    return optax.scale_by_lion(b1=beta1, b2=beta2)


def lars(scheduled, *, momentum, weight_decay, decay_multipliers):
    """Use v <- momentum v + rate ratio (g + decay w), ratio = |w| / (|g| + decay |w|).

    This holds for each kernel; decay is `weight_decay`, the direction is v (You et al., 2017,
    algorithm 1). There is no key for the trust coefficient eta: for kernels the learning rate here
    is the paper's times eta. The ratio is 1 for all else, and for kernels of 0, which could never
    move in the paper.
    """
    decay = decayed(weight_decay, decay_multipliers)

    def local(gradients, params):
        pulls, _ = decay.update(optax.tree.zeros_like(gradients), optax.EmptyState(), params)

        def scaled(g, pull, w, kernel):
            return _at_length_of(w, g + pull, _length(g) + _length(pull)) if kernel else g + pull

        return jax.tree.map(scaled, gradients, pulls, params, is_kernel(params))

    # Checkpoints have these names: those of a momentum without the rate inside are refused.
    return optax.named_chain(
        ("local", optax.stateless(local)),
        ("scheduled", scheduled),
        ("velocity", optax.trace(decay=momentum)),
    )


def lamb(*, beta1, beta2, epsilon, weight_decay, decay_multipliers):
    """Scale Adam plus weight_decay w to each kernel's own length (You et al., 2020, alg. 2).

    Biases, scales and kernels of 0 keep Adam's length; in the paper kernels of 0 could never move.
    """
    return optax.chain(
        adam(beta1=beta1, beta2=beta2, epsilon=epsilon),
        decayed(weight_decay, decay_multipliers),
        _kernels_own_length(),
    )


def adafactor():
    """Use g / sqrt(v), v of rows and columns if both have 128, RMS at most 1, times that of w.

    Shazeer and Stern (2018), algorithm 4; decay 1 - t^-0.8. Directions have the size of weights:
    rates are near 0.01. The paper uses rows and columns for every matrix. For a matrix of 64 x 64
    whose gradients are pure noise, this rule differs by 62 % at step 1 and by 8 % at step 100.
    """
    return optax.chain(
        optax.scale_by_factored_rms(),
        optax.clip_by_block_rms(1.0),
        optax.scale_by_param_block_rms(),
    )


def muon(*, momentum, beta1, beta2, epsilon):
    """Orthogonalise Nesterov momentum, nearly, by five Newton-Schulz steps (Jordan et al., 2024).

    The result is multiplied by sqrt(max(1, out / fan_in)). This is for hidden kernels, as matrices
    (fan_in, out); the head and all else use Adam. The momentum is bias-corrected, unlike the
    authors': for a kernel of 16 x 32 whose gradients are pure noise, the second direction differs
    by 8.2 %, the tenth by 1.6 %.
    """

    def partitioned(params) -> optax.GradientTransformation:
        roles = leaves.of(params)
        by_path = leaves_by_path(roles)

        def sides(hidden):  # the tree of all parameters, without those that are not hidden kernels
            return jax.tree_util.tree_map_with_path(
                lambda path, weight: contrib.MuonDimensionNumbers(
                    by_path[path_name(path)].fan_in, by_path[path_name(path)].fan_out(weight.ndim)
                ),
                hidden,
            )

        def shaped(update, side):
            fan_in = math.prod(update.shape[axis] for axis in side.reduction_axis)
            return update * max(1.0, update.size / fan_in**2) ** 0.5 if update.size else update

        orthogonal = optax.chain(
            contrib.scale_by_muon(beta=momentum, weight_dimension_numbers=sides),
            optax.stateless(lambda updates, _: jax.tree.map(shaped, updates, sides(updates))),
        )
        kinds = jax.tree.map(
            lambda leaf: "muon" if leaf.role == "kernel" and not leaf.head else "adam", roles
        )
        rules = {"muon": orthogonal, "adam": adam(beta1=beta1, beta2=beta2, epsilon=epsilon)}
        return optax.partition(rules, kinds)

    return optax.GradientTransformation(
        lambda params: partitioned(params).init(params),
        lambda updates, state, params: partitioned(params).update(updates, state, params),
    )


def lbfgs(*, memory, line_search_steps):
    """Use the inverse curvature of the last `memory` steps, times a line search's step length.

    L-BFGS with strong Wolfe conditions (Nocedal and Wright, 2006, algorithms 7.4, 3.5 and 3.6). A
    length of 1 is tried first (section 3.5). If the loss grows by less than 1e-6 of itself, the
    approximate Wolfe condition of Hager and Zhang (2005) replaces that on the loss. The rule is for
    all training data as one batch, without noise, with a constant learning rate of 1.
    """
    return optax.chain(
        optax.scale_by_lbfgs(memory_size=memory),
        optax.scale(-1.0),
        # The line search takes a direction of descent.
        optax.scale_by_zoom_linesearch(line_search_steps, initial_guess_strategy="one"),
        optax.scale(-1.0),
    )


def _kernels_own_length() -> optax.GradientTransformation:
    """Scale the direction of each kernel to the kernel's length; leave others as they are."""

    def scaled(update, param, kernel):
        return _at_length_of(param, update, _length(update)) if kernel else update

    return optax.stateless(
        lambda updates, params: jax.tree.map(scaled, updates, params, is_kernel(params))
    )


def _at_length_of(param, update, length):
    """Return update * |param| / length, or `update` itself if either is 0."""
    own = _length(param)
    usable = (length > 0) & (own > 0)
    return update * jnp.where(usable, own / jnp.where(usable, length, 1.0), 1.0)


def _length(array):
    return jnp.linalg.norm(array.ravel())
