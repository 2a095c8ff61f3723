"""Keras 3 on its JAX backend: the same model through `fit`."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np
from keras import layers

from benchmarks.workloads import Workload, make_data


def prepare(workload: Workload):
    """Returns a function that trains for one round and returns the last loss."""
    config = workload.build_config()
    images, labels = make_data(workload)
    count = min(workload.steps * workload.batch_size, len(images))
    inputs = (images[:count].astype(np.float32) / 255 - 0.5) / 0.3
    body = []
    if config.model.name == "mlp":
        body.append(layers.Flatten())
        for units in config.model.hidden:
            body += [layers.Dense(units, use_bias=False), layers.BatchNormalization()]
            body.append(layers.ReLU())
    else:
        for channels in config.model.channels:
            body.append(layers.Conv2D(channels, 3, padding="same", use_bias=False))
            body += [layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D()]
        body += [layers.Flatten(), layers.Dropout(config.model.dropout_rate)]
    model = keras.Sequential([layers.Input(workload.shape), *body, layers.Dense(10)])
    model.compile(
        keras.optimizers.Adam(config.optimizer.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )

    def round_() -> float:
        history = model.fit(
            inputs, labels[:count], batch_size=workload.batch_size, epochs=1, verbose=0
        )
        return history.history["loss"][-1]

    return round_
