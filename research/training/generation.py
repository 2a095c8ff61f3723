"""Write text with a language model, one token after the other."""

import jax
import jax.numpy as jnp
import numpy as np

from research.errors import UserError
from research.training import step as steps
from research.training.setup import Setup
from research.training.state import TrainState

_UNKNOWN = "\ufffd"


def text(
    run: Setup, state: TrainState, prompt: str, count: int, temperature: float, seed: int
) -> str:
    """Return the prompt with `count` more tokens of the run's vocabulary.

    The model sees at most as many tokens as an example of its training has: the last ones.

    Args:
      run: the run of the language model.
      state: its state.
      prompt: not empty; characters outside the vocabulary count as unknown.
      count: the number of tokens to add.
      temperature: divides the logits; 0 takes the most probable token.
      seed: of the draws.

    Raises:
      UserError: an empty prompt, or a negative temperature or count.
    """
    if not prompt:
        raise UserError("the prompt is empty (allowed: at least one character)")
    if temperature < 0 or count < 0:
        raise UserError(f"temperature = {temperature}, count = {count} (allowed: at least 0)")
    names = run.class_names
    number = {name: token for token, name in enumerate(names)}
    unknown = number.get(_UNKNOWN, 0)
    context = run.train.shape[0]
    known = [number.get(character, unknown) for character in prompt][-context:]
    window = np.zeros((1, context), np.int32)
    window[0, : len(known)] = known
    written = _continued(run, state, window, len(known), count, float(temperature), seed)
    return prompt + "".join(names[token] for token in written)


def _continued(run: Setup, state, window, length: int, count: int, temperature: float, seed: int):
    predict = steps.make_predict(run.config, run.task)

    def write(carry, key):
        window, length = carry
        logits = predict(state, window)[0, length - 1]
        drawn = jax.random.categorical(key, logits / jnp.maximum(temperature, 1e-6))
        token = jnp.where(temperature > 0, drawn, logits.argmax()).astype(jnp.int32)
        full = length == window.shape[1]
        window = jnp.where(full, jnp.roll(window, -1, axis=1), window)
        length = jnp.where(full, length, length + 1)
        return (window.at[0, length - 1].set(token), length), token

    keys = jax.random.split(jax.random.key(seed), count)
    _, tokens = jax.jit(lambda: jax.lax.scan(write, (window, jnp.int32(length)), keys))()
    return np.asarray(tokens)
