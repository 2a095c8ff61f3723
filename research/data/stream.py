"""Stream splits too large for memory from disk, with Grain's threads, ahead of the training.

The examples of a batch are the same function of (seed, step) as for data in memory, and the same
labels decide how splits are cut. So a run does not depend on where its data lie, and a checkpoint
has nothing to store. A stream can begin at any step, for any number of processes.
"""

import os
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from research.data.dataset import Arrays, Records
from research.data.shuffle import MAX_POSITIONS, batch_epochs, batch_indices
from research.errors import UserError


class TrainingBatches:
    """An endless iterator over batches {'inputs': (B, ...), 'labels': int32 (B,)}.

    A batch also holds the 'indices' and 'epochs' of its examples, both int32 (B,). Inputs have the
    dtype of the records, uint8 or float32. `next` raises the `UserError` of a damaged image.

    Args:
      records: the training split.
      batch_size: number of examples of a batch, over all processes.
      seed: it decides the order.
      rows: the rows of a batch that this process reads.
    """

    def __init__(
        self, records: Records, batch_size: int, seed: int, rows: np.ndarray | slice = slice(None)
    ):
        try:
            self._host = jax.local_devices(backend="cpu")[0]
        except RuntimeError:  # jax is set to use accelerators only
            self._host = jax.local_devices()[0]

        @jax.jit
        def places_at(step):
            return {
                "indices": batch_indices(np.uint32(seed), step, batch_size, len(records)),
                "epochs": batch_epochs(step, batch_size, len(records)),
            }

        self._places_at = places_at
        self._records, self._rows = records, rows
        self._steps = MAX_POSITIONS // batch_size
        self.seek(0)

    def seek(self, step: int) -> None:
        """Continue with the batch of this step."""
        self._ahead = iter(ahead(lambda number: self._batch(step + number), self._steps - step))

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        return next(self._ahead)

    def _batch(self, step: int) -> dict[str, np.ndarray]:
        with jax.default_device(self._host):
            places = jax.device_get(self._places_at(np.uint32(step)))
        places = {name: array[self._rows] for name, array in places.items()}
        arrays = self._records.load(places["indices"])
        return {"inputs": arrays.inputs, "labels": arrays.labels, **places}


def chunks(split: Arrays | Records, size: int) -> Iterator[Arrays]:
    """Yield all examples in order, `size` at a time; the last chunk may be smaller."""
    if isinstance(split, Arrays):
        for start in range(0, len(split), size):
            stop = start + size
            yield Arrays(split.inputs[start:stop], split.labels[start:stop])  # views
        return

    def chunk(number: int) -> Arrays:
        return split.load(np.arange(number * size, min((number + 1) * size, len(split))))

    yield from ahead(chunk, -(-len(split) // size))


class _Function:
    """A source for Grain, made of a function of 0 ... length - 1."""

    def __init__(self, function, length: int):
        self._function, self._length = function, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int):
        return self._function(int(number))


def ahead(function: Callable, length: int) -> Iterable:
    """Return a Grain data set of the function's values at 0 ... length - 1, in order.

    Threads call the function for some numbers ahead of the one that is needed.

    Raises:
      UserError: Grain is not installed.
    """
    try:
        import grain
    except ModuleNotFoundError:
        raise UserError(
            "the data are larger than config.data.memory_mb and are streamed by Grain, which is "
            "not installed: bash setup.sh grain"
        ) from None
    cores = len(os.sched_getaffinity(0))
    options = grain.ReadOptions(num_threads=cores, prefetch_buffer_size=2 * cores)
    return grain.MapDataset.source(_Function(function, length)).to_iter_dataset(options)
