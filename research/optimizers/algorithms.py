"""Update rules by name: traced hyper-parameters -> an optax transformation without learning rate.

Each function takes the traced numbers of `config.optimizer` and returns the direction of descent;
`optimizers.build` adds clipping, decay and the scheduled learning rate around it.
"""

import optax


def sgd(hyperparameters) -> optax.GradientTransformation:
    """The gradient itself."""
    return optax.identity()


def momentum(hyperparameters) -> optax.GradientTransformation:
    """Heavy ball (Polyak, 1964): m <- momentum * m + g; direction m."""
    return optax.trace(decay=hyperparameters["momentum"])


def nesterov(hyperparameters) -> optax.GradientTransformation:
    """Nesterov momentum (Sutskever et al., 2013): m <- momentum * m + g; g + momentum * m."""
    return optax.trace(decay=hyperparameters["momentum"], nesterov=True)


def adam(hyperparameters) -> optax.GradientTransformation:
    """Adam with bias correction (Kingma and Ba, 2015, algorithm 1)."""
    return optax.scale_by_adam(
        b1=hyperparameters["beta1"],
        b2=hyperparameters["beta2"],
        eps=hyperparameters["epsilon"],
    )
