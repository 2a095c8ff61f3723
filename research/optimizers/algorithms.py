"""Update rules by name: (*, numbers...) -> an optax transformation without learning rate.

Each takes those numbers of `config.optimizer` that it names, traced, and returns the direction of
descent; `optimizers.build` adds clipping, decay and the scheduled learning rate around it. A rule
that names `weight_decay` has it inside; so has one that names `scheduled` the link that multiplies
by minus the rate. Below, g is the gradient, t the step from 1 on. Where a rule differs from its
paper's, it says by how much at the default numbers.
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
    """The gradient itself."""
    return optax.identity()


def momentum(*, momentum):
    """Heavy ball (Polyak, 1964): m <- momentum m + g; direction m.

    The rate multiplies m; theirs multiplies g before it is added. A constant rate makes no
    difference; after a cut to a tenth theirs goes on fast: its next step is 9.1 times as long.
    """
    return optax.trace(decay=momentum)


def nesterov(*, momentum):
    """Nesterov momentum (Sutskever et al., 2013): m <- momentum m + g; g + momentum m.

    The weights are those that theirs looks ahead to. For rates that change, see `momentum`.
    """
    return optax.trace(decay=momentum, nesterov=True)


def adagrad(*, epsilon):
    """s <- s + g^2; g / (sqrt(s) + epsilon) (Duchi et al., 2011, figure 1)."""

    def update(updates, state, params=None):
        sums = jax.tree.map(lambda s, g: s + g**2, state.sum_of_squares, updates)

        def scaled(g, s):  # optax's own has epsilon inside the root; 0 where all g have been 0
            return jnp.where(s > 0, g / (jnp.sqrt(s) + epsilon), 0.0)

        return jax.tree.map(scaled, updates, sums), optax.ScaleByRssState(sums)

    zeros = optax.tree.zeros_like
    return optax.GradientTransformation(lambda params: optax.ScaleByRssState(zeros(params)), update)


def rmsprop(*, rms_decay, epsilon):
    """v <- rms_decay v + (1 - rms_decay) g^2; g / (sqrt(v) + epsilon) (Tieleman, Hinton, 2012)."""
    return optax.scale_by_rms(decay=rms_decay, eps=epsilon, eps_in_sqrt=False)


def rmsprop_centered(*, rms_decay, epsilon):
    """As `rmsprop`, by the deviation, v - m^2, m the decayed mean of g (Graves, 2013, eq. 38).

    Theirs has epsilon inside the root: where gradients deviate by 0.001, directions here are 0.5 %
    longer, where by 1e-05, 10.1 times as long.
    """
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
    """`rmsprop`, then heavy ball as in `momentum`."""
    return optax.chain(rmsprop(rms_decay=rms_decay, epsilon=epsilon), optax.trace(decay=momentum))


def adadelta(*, rms_decay, epsilon):
    """g sqrt(d + epsilon) / sqrt(v + epsilon), d of squared directions (Zeiler, 2012, alg. 1).

    The paper has no learning rate: 1 is its own. Here d is of directions before the rate.
    """
    return optax.scale_by_adadelta(rho=rms_decay, eps=epsilon)


def adam(*, beta1, beta2, epsilon):
    """Adam with bias correction (Kingma and Ba, 2015, algorithm 1); with decay AdamW."""
    return optax.scale_by_adam(b1=beta1, b2=beta2, eps=epsilon)


def amsgrad(*, beta1, beta2, epsilon):
    """m / (sqrt(largest v so far) + epsilon), m and v Adam's (Reddi et al., 2018, algorithm 2).

    As there, without bias correction: of a constant gradient the first direction is 3.16, the 12th
    6.57 and the 1000th 1.26 times Adam's; a warm-up goes with it.
    """
    return optax.scale_by_amsgrad(
        b1=beta1, b2=beta2, eps=epsilon, bias_correction_mu=False, bias_correction_nu=False
    )


def adamax(*, beta1, beta2, epsilon):
    """Adam by the decayed maximum: u <- max(beta2 u, abs(g) + epsilon).

    Kingma and Ba, 2015, algorithm 2, which divides by 0 where all g have been 0: it has no epsilon.
    """
    return optax.scale_by_adamax(b1=beta1, b2=beta2, eps=epsilon)


def nadam(*, beta1, beta2, epsilon):
    """Adam with Nesterov momentum (Dozat, 2016).

    Theirs starts with half of beta1: beta1 (1 - 0.96^(t / 250) / 2), and multiplies v by beta2. Of
    a constant gradient the first direction here is 12.4 % longer and the tenth 0.7 %; of pure noise
    the 100th is 0.33 times as long.
    """
    return optax.scale_by_adam(b1=beta1, b2=beta2, eps=epsilon, nesterov=True)


def radam(*, beta1, beta2, epsilon):
    """Adam whose first steps are rectified for few samples (Liu et al., 2020, algorithm 2).

    From 5 samples on, as in their code; in the paper from more than 4. That is one step, the fifth:
    of a constant gradient its direction here is 57.8 times as long.
    """
    return optax.scale_by_radam(b1=beta1, b2=beta2, eps=epsilon)


def adabelief(*, beta1, beta2, epsilon):
    """Adam by s <- beta2 s + (1 - beta2) (g - m)^2 + epsilon (Zhuang et al., 2020, algorithm 2).

    As there, epsilon is added at each step: sqrt(s) stays above sqrt(epsilon / (1 - beta2)), that
    is 0.00316. Their own code takes epsilon = 1e-16, which keeps it above 3.16e-07.
    """
    return optax.scale_by_belief(b1=beta1, b2=beta2, eps=epsilon, eps_root=epsilon)


def yogi(*, beta1, beta2, epsilon):
    """Adam with v <- v - (1 - beta2) sign(v - g^2) g^2 (Zaheer et al., 2018, algorithm 2).

    Theirs has no bias correction: of a constant gradient the first direction here is 0.316, the
    tenth 0.153 and the 1000th 0.795 of theirs.
    """
    return optax.scale_by_yogi(b1=beta1, b2=beta2, eps=epsilon, initial_accumulator_value=0.0)


def lion(*, beta1, beta2):
    """sign(beta1 m + (1 - beta1) g); m <- beta2 m + (1 - beta2) g (Chen et al., 2023, alg. 2)."""
    return optax.scale_by_lion(b1=beta1, b2=beta2)


def lars(scheduled, *, momentum, weight_decay, decay_multipliers):
    """v <- momentum v + rate ratio (g + weight_decay w), ratio = |w| / (|g| + weight_decay |w|).

    For each kernel; direction v (You et al., 2017, algorithm 1). There is no key for the trust
    coefficient eta: for kernels the learning rate here is theirs times eta. The ratio is 1 for all
    else, and for kernels of 0: by theirs these could never move.
    """
    decay = decayed(weight_decay, decay_multipliers)

    def local(gradients, params):
        pulls, _ = decay.update(optax.tree.zeros_like(gradients), optax.EmptyState(), params)

        def scaled(g, pull, w, kernel):
            return _at_length_of(w, g + pull, _length(g) + _length(pull)) if kernel else g + pull

        return jax.tree.map(scaled, gradients, pulls, params, is_kernel(params))

    # The names are in checkpoints: those of a momentum without the rate inside are refused.
    return optax.named_chain(
        ("local", optax.stateless(local)),
        ("scheduled", scheduled),
        ("velocity", optax.trace(decay=momentum)),
    )


def lamb(*, beta1, beta2, epsilon, weight_decay, decay_multipliers):
    """Adam plus weight_decay w, brought to each kernel's own length (You et al., 2020, alg. 2).

    Biases, scales and kernels of 0 keep Adam's length: theirs could never move them from 0.
    """
    return optax.chain(
        adam(beta1=beta1, beta2=beta2, epsilon=epsilon),
        decayed(weight_decay, decay_multipliers),
        _kernels_own_length(),
    )


def adafactor():
    """g / sqrt(v), v of rows and columns where both have 128, RMS at most 1, times that of w.

    Shazeer and Stern (2018), algorithm 4; decay 1 - t^-0.8. Directions have the size of weights:
    rates are near 0.01. They take rows and columns of every matrix: for one of 64 x 64 whose
    gradients are pure noise, what is here is 62 % from theirs at step 1 and 8 % at step 100.
    """
    return optax.chain(
        optax.scale_by_factored_rms(),
        optax.clip_by_block_rms(1.0),
        optax.scale_by_param_block_rms(),
    )


def muon(*, momentum, beta1, beta2, epsilon):
    """Nesterov momentum, made nearly orthogonal by five Newton-Schulz steps (Jordan et al., 2024).

    Times sqrt(max(1, out / fan_in)). For hidden kernels, as matrices (fan_in, out); Adam for the
    head and all else. The momentum is bias-corrected, theirs is not: for a kernel of 16 x 32
    whose gradients are pure noise, the second direction is 8.2 % from theirs, the tenth 1.6 %.
    """

    def partitioned(params) -> optax.GradientTransformation:
        found = leaves.of(params)
        by_path = leaves_by_path(found)

        def sides(hidden):  # the tree of all parameters, in which others than hidden kernels lack
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
            lambda leaf: "muon" if leaf.role == "kernel" and not leaf.head else "adam", found
        )
        rules = {"muon": orthogonal, "adam": adam(beta1=beta1, beta2=beta2, epsilon=epsilon)}
        return optax.partition(rules, kinds)

    return optax.GradientTransformation(
        lambda params: partitioned(params).init(params),
        lambda updates, state, params: partitioned(params).update(updates, state, params),
    )


def lbfgs(*, memory, line_search_steps):
    """Inverse curvature from the last `memory` steps, times a step length that a line search finds.

    L-BFGS with strong Wolfe conditions (Nocedal and Wright, 2006, algorithms 7.4, 3.5 and 3.6), a
    length of 1 tried first (section 3.5). Instead of the condition on the loss, that of Hager and
    Zhang (2005, approximate Wolfe) is enough where the loss grows by less than 1e-6 of itself. For
    all training data as one batch, without noise; a constant learning rate of 1 is its own length.
    """
    return optax.chain(
        optax.scale_by_lbfgs(memory_size=memory),
        optax.scale(-1.0),
        # Wants a direction of descent.
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
    """Return update * |param| / length, or `update` itself where either is 0."""
    own = _length(param)
    usable = (length > 0) & (own > 0)
    return update * jnp.where(usable, own / jnp.where(usable, length, 1.0), 1.0)


def _length(array):
    return jnp.linalg.norm(array.ravel())
