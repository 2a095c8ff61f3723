"""Which parameters a penalty or a decay concerns, told by their names."""

import jax


def is_kernel(params):
    """Marks the weights of affine maps; biases and the scales of normalisers are left alone.

    Returns:
      A tree like `params` of bools: True where the parameter's own name is 'kernel'.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path[-1:], simple=True) == "kernel", params
    )
