"""Our side: the trainer's own program, as research/main.py compiles it."""

import numpy as np

from benchmarks.workloads import Workload, make_data
from research import platform
from research.data import preprocessing
from research.data.sources import Arrays
from research.names import bind
from research.training import advance, setup


def prepare(workload: Workload):
    """Returns a function that trains for one round and returns the last loss."""
    platform.enable_compilation_cache()
    config = workload.build_config()
    images, labels = make_data(workload)
    train = Arrays(images, labels)
    scheme = getattr(preprocessing, config.preprocessing.name)
    chunks = np.array_split(images, 50)
    statistics = bind(scheme, config.preprocessing, {})(chunks)
    names = tuple("0123456789")
    run = setup.Setup(config, train, train, train, names, statistics)
    state = run.init()
    program, data = advance.resident_program(run, state)
    held = [state]

    def round_() -> float:
        held[0], metrics = program(held[0], data, np.int32(workload.steps))
        return float(metrics["loss"]) / int(metrics["count"])

    return round_
