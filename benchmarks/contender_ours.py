"""Our side: the trainer's own program, as research/main.py compiles it."""

import numpy as np
from ml_collections import ConfigDict

from benchmarks.workloads import Workload, make_data
from research import platform
from research.data import preprocessing
from research.data.dataset import Arrays
from research.names import bind, resolve
from research.training import advance, setup


def prepare(workload: Workload):
    """Returns a function that trains for one round and returns the last loss."""
    platform.enable_compilation_cache()
    run = setup_of(workload.build_config(), *make_data(workload))
    state = run.init()
    program, data = advance.resident_program(run, state)
    held = [state]

    def round_() -> float:
        held[0], metrics = program(held[0], data, np.int32(workload.steps))
        return float(metrics.loss)

    return round_


def setup_of(config: ConfigDict, images: np.ndarray, labels: np.ndarray) -> setup.Setup:
    """What the trainer makes of a data set, here of ten classes and of one split."""
    data = Arrays(images, labels)
    scheme = resolve("config.preprocessing.name", config.preprocessing.name, preprocessing)
    statistics = bind(scheme, config.preprocessing, {})(np.array_split(images, 50))
    return setup.Setup(config, data, data, data, tuple("0123456789"), statistics)
