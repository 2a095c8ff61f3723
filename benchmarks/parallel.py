"""The modes of config.parallel side by side on the devices there are, as rows of a table.

    JAX_NUM_CPU_DEVICES=8 python -m benchmarks.parallel

Prints mode, devices, all-reduces in the program of a step, and the best milliseconds a step.
"""

import re
import time

import jax
import numpy as np

from research.config import default_config
from research.training import advance, parallel, setup

STEPS, TIMES = 20, 8
MODELS = {
    "MLP 64-512-512-10": {"model.hidden": (512, 512)},
    "CNN 16-32": {
        "model.name": "cnn",
        "model.channels": (16, 32),
        "augmentation.names": ("flip", "crop"),
    },
}


def main() -> None:
    print("| Model | Mode | Devices | All-reduces | ms a step |\n|---|---|---|---|---|")
    for model, changes in MODELS.items():
        for mode in ("jit", "shard_map", "pmap"):
            config = default_config()
            config.batch_size = 512
            config.model.dropout_rate = 0.2
            config.update_from_flattened_dict({**changes, "parallel.mode": mode})
            assert hasattr(parallel, mode)
            run = setup.from_config(config)
            state = run.init()
            program, data = advance.resident_program(run, state)
            text = program.as_text() if hasattr(program, "as_text") else ""
            sums = len(re.findall(r" all-reduce(?:-start)?\(", text)) if text else "as shard_map"
            best = float("inf")
            for _ in range(TIMES):
                start = time.perf_counter()
                state, metrics = program(state, data, np.int32(STEPS))
                jax.block_until_ready(metrics)
                best = min(best, (time.perf_counter() - start) / STEPS)
            devices = jax.device_count()
            print(f"| {model} | `{mode}` | {devices} | {sums} | {1000 * best:.1f} |", flush=True)


if __name__ == "__main__":
    main()
