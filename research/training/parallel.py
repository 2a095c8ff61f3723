"""Run a program on many devices: (sharding, function, arguments, shared, donated) -> program.

- `function(state, ...) -> (state, metrics)`: runs any number of steps.
- `arguments`: an example of each argument, placed by the sharding; the first is a train state.
- `shared`: the numbers of the arguments that hold rows of a batch.
- `donated`: the numbers of the arguments whose memory the results may use.

The program takes such arguments and returns the function's results, the state placed as before.
"""

import jax
import numpy as np
from jax.sharding import PartitionSpec

from research import batch_axis, platform
from research.batch_axis import DATA


def jit(sharding, function, arguments, shared, donated):
    """Compile one program for the whole batch; the compiler partitions it by the arrays' shardings.

    This is the only mode that also shards parameters (`parallel.model_devices`).
    """
    state, *others = arguments
    states = sharding.of_state(state)
    inputs = [sharding.rows() if n in shared else sharding.copied for n in range(1, len(arguments))]
    program = jax.jit(
        function,
        in_shardings=(states, *inputs),
        out_shardings=(states, sharding.copied),
        donate_argnums=donated,
    )
    return program.lower(state, *others).compile(platform.loop_options())


def shard_map(sharding, function, arguments, shared, donated):
    """Compile one program for a device's part of the batch, which names the axis of its sums."""
    specs = _specs(arguments, shared)
    mapped = jax.shard_map(
        _gathering(function, shared),
        mesh=sharding.mesh,
        in_specs=specs,
        out_specs=PartitionSpec(),
        check_vma=False,  # `batch_axis` sums over devices; automatic sums would do it twice
    )
    return jax.jit(mapped, donate_argnums=donated).lower(*arguments).compile()


def pmap(sharding, function, arguments, shared, donated):
    """Use jax's older interface, `pmap`, for the same program as `shard_map`."""
    gathering = _gathering(function, shared)
    mapped = jax.pmap(
        lambda _, *arguments: gathering(*arguments),
        axis_name=DATA,
        in_axes=(0, *(0 if n in shared else None for n in range(len(arguments)))),
        out_axes=None,
        donate_argnums=tuple(n + 1 for n in donated),
    )
    devices = np.arange(jax.local_device_count())  # pmap needs an argument that is mapped

    def program(*arguments):
        arguments = [
            jax.tree.map(_by_device, argument) if n in shared else argument
            for n, argument in enumerate(arguments)
        ]
        return jax.tree.map(whole, mapped(devices, *arguments))

    def whole(array):  # pmap returns only what is on this process's devices
        copies = [shard.data for shard in array.addressable_shards]
        return jax.make_array_from_single_device_arrays(array.shape, sharding.copied, copies)

    program(*jax.tree.map(_copy, arguments))  # several processes compile only in a call
    return program


def _specs(arguments, shared) -> tuple:
    rows, whole = PartitionSpec(DATA), PartitionSpec()
    return tuple(rows if n in shared else whole for n in range(len(arguments)))


def _gathering(function, shared):
    """Return the function, which then gathers the whole batch from all devices.

    Each device needs all examples for augmentation.
    """

    def gathered(*arguments):
        return function(
            *(
                batch_axis.whole(argument) if n in shared else argument
                for n, argument in enumerate(arguments)
            )
        )

    return gathered


def _by_device(array):
    """Cut the local rows of a global array by device: (devices here, B / devices, ...)."""
    rows = [np.asarray(shard.data) for shard in array.addressable_shards]
    return np.stack(rows)


def _copy(leaf):
    return leaf.copy() if isinstance(leaf, jax.Array) else leaf
