"""An optimiser: learning rate -> an optax transformation."""

import optax


def sign_momentum(learning_rate, *, beta=0.9):
    """Return -learning_rate * sign(m), m the mean of gradients (Bernstein et al., 2018)."""
    return optax.chain(
        optax.ema(beta, debias=False), optax.scale_by_sign(), optax.scale(-learning_rate)
    )
