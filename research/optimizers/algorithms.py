"""Update rules by name: traced numbers -> an optax transformation without learning rate.

Each function takes those numbers of `config.optimizer` that it names and returns the direction of
descent; `optimizers.build` adds clipping, decay and the scheduled learning rate around it.
"""

import optax


def sgd() -> optax.GradientTransformation:
    """The gradient itself."""
    return optax.identity()


def momentum(*, momentum) -> optax.GradientTransformation:
    """Heavy ball (Polyak, 1964): m <- momentum * m + g; direction m."""
    return optax.trace(decay=momentum)


def nesterov(*, momentum) -> optax.GradientTransformation:
    """Nesterov momentum (Sutskever et al., 2013): m <- momentum * m + g; g + momentum * m."""
    return optax.trace(decay=momentum, nesterov=True)


def adam(*, beta1, beta2, epsilon) -> optax.GradientTransformation:
    """Adam with bias correction (Kingma and Ba, 2015, algorithm 1)."""
    return optax.scale_by_adam(b1=beta1, b2=beta2, eps=epsilon)
