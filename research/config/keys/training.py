"""Keys of the training itself: the top level, loss, stopping, transfer, ensembles and devices."""

import math

from research.config.key import AT_LEAST_0, BELOW_1, COUNT, COUNT_OR_0, Key, options

TOP = {
    "seed": Key(
        0,
        "Seed of initial weights, shuffling, dropout and augmentation.",
        range=(0, 2**32),
        traced=True,
    ),
    "batch_size": Key(
        0,
        "Number of examples in a step. 0 chooses 16 to 128 by the number of training examples.",
        range=COUNT_OR_0,
        automatic=0,
    ),
    "duration": Key(
        "auto",
        "Length of the training. 'auto' is 40 epochs, and at least 1,500 steps.",
        duration=True,
        traced=True,
        automatic="auto",
    ),
    "log_every": Key(
        "1 epochs",
        "How often the training metrics since the last time are written.",
        duration=True,
        interval=True,
    ),
    "evaluate_every": Key(
        "1 epochs",
        "How often the network is evaluated on validation data, never on test data. Each "
        "checkpoint is evaluated too if checkpoints are rarer.",
        duration=True,
        interval=True,
    ),
    "on_divergence": Key(
        "stop",
        "What happens when numbers are not finite: 'stop' ends the training, 'skip_step' leaves "
        "such updates out, 'rollback' returns to the last checkpoint with half the learning rate.",
        choices=("stop", "skip_step", "rollback"),
        resumable=True,
    ),
    "max_rollbacks": Key(
        3, "Largest number of rollbacks before the training ends.", range=COUNT_OR_0, resumable=True
    ),
}

CHECKPOINT = {
    "checkpoint.every": Key(
        "5 epochs",
        "How often a checkpoint is saved; one is always saved at the end. Each evaluation is saved "
        "too if evaluations are rarer.",
        duration=True,
        interval=True,
    ),
    "checkpoint.on_error": Key(
        "stop",
        "What happens when a file cannot be written: 'stop', or 'continue' and try again later.",
        choices=("stop", "continue"),
        resumable=True,
    ),
}

LOGGING = {
    "logging.writers": Key(
        ("tensorboard",),
        "Where metrics go besides `metrics.jsonl`, which is always written.",
        choices_in="research.reporting.writers",
        resumable=True,
    ),
}

TASK = {
    "task.name": Key(
        "classification",
        "What the network learns.",
        choices_in="research.tasks",
    ),
    "metrics": Key(
        (),
        "Metrics that are reported besides those of the task.",
        choices_in="research.tasks.metrics",
    ),
}

LOSS = {
    "loss.name": Key(
        None,
        "Loss of an example. None is the first one of the task, such as softmax_cross_entropy.",
        choices_in="research.tasks.losses",
    ),
    "loss.options": options(),
    "loss.class_weights": Key(
        (),
        "Weight of each class in the training loss of classification, as a tuple of numbers. "
        "('balanced',) is N / (C n_c) (King and Zeng, 2001).",
        form="a tuple of numbers, or ('balanced',)",
    ),
    "loss.focal_gamma": Key(
        2.0,
        "How little examples count that the network already gets right (Lin et al., 2017).",
        range=AT_LEAST_0,
        traced=True,
    ),
    "loss.huber_delta": Key(
        1.0,
        "Errors up to this size, in standard deviations of the target, are squared.",
        range=(1e-6, math.inf),
        traced=True,
    ),
    "loss.quantile": Key(
        0.5,
        "Share of the targets that are to lie below the prediction.",
        range=BELOW_1,
        traced=True,
    ),
    "loss.label_smoothing": Key(
        0.0,
        "Share of the target that is spread evenly over all classes (Szegedy et al., 2016, "
        "section 7).",
        range=BELOW_1,
        traced=True,
    ),
    "loss.l1": Key(
        0.0,
        "Adds l1 * sum(abs(w)) over kernels to the loss; together with l2 it is the elastic net "
        "(Zou and Hastie, 2005).",
        range=AT_LEAST_0,
        traced=True,
    ),
    "loss.l2": Key(
        0.0,
        "Adds l2 / 2 * sum(w ** 2) over kernels to the loss, so it goes through the optimiser.",
        range=AT_LEAST_0,
        traced=True,
    ),
}

EARLY_STOPPING = {
    "early_stopping.metric": Key(
        None,
        "Validation metric that decides which checkpoint is the best: 'loss' or a metric that the "
        "run reports. None is the objective of the task, such as accuracy.",
        form="`loss` or the name of a metric",
        resumable=True,
    ),
    "early_stopping.patience": Key(
        "0 epochs",
        "The training stops after this long without a new best (Prechelt, 1998). 0 is off.",
        duration=True,
        traced=True,
    ),
    "early_stopping.minimal_improvement": Key(
        0.0,
        "A new best counts only if it is better than the old best by this much.",
        range=AT_LEAST_0,
        traced=True,
    ),
}

TRANSFER = {
    "transfer.checkpoint": Key(
        None, "Run folder or .safetensors file whose weights the training starts from."
    ),
    "transfer.step": Key(
        "last", "Checkpoint of that run folder: 'last', 'best', or the number of a step."
    ),
    "transfer.skip": Key(
        ("head/.*",), "Patterns of the parameters that start afresh instead of from the checkpoint."
    ),
    "transfer.rename": Key(
        (),
        "Renames parameters of the checkpoint to those of the model: (pattern, replacement) pairs.",
        pairs=r"(('trunk/(.*)', r'\1'),)",
    ),
    "transfer.preprocessing": Key(
        True,
        "Whether the checkpoint's preprocessing is kept; else it is fitted to the training data.",
    ),
    "transfer.freeze": Key(
        (),
        "Parameters that are not trained until a given time: (pattern, duration) pairs; "
        "'100 percent' is for good. Batch norm of a frozen layer keeps its running statistics and "
        "normalises by them in training too; a pattern such as 'BatchNorm_0/mean' also matches "
        "them.",
        pairs="(('Conv_.*', '100 percent'),)",
        second="duration",
    ),
    "transfer.recalibrate": Key(
        False,
        "Whether batch norm statistics are computed anew over the training data at the start, in "
        "frozen layers too.",
    ),
}

ENSEMBLE = {
    "ensemble.members": Key(
        1,
        "Number of networks that are trained together from seeds `seed`, `seed` + 1, ..., and "
        "whose predictions are averaged (Lakshminarayanan et al., 2017).",
        range=(1, 2**16),
    ),
    "ensemble.lane_mode": Key(
        "auto",
        "How the members share a program.",
        choices_in="research.training.lanes",
    ),
    "ensemble.snapshots": Key(
        0,
        "Number of networks that the schedule cosine_restarts keeps, one at the end of each of its "
        "last cycles (Huang et al., 2017).",
        range=(0, 2**16),
    ),
}

COMPUTE = {
    "compute.steps_per_dispatch": Key(
        0,
        "Number of steps in one call of the compiled program. 0 chooses about half a second.",
        range=COUNT_OR_0,
        resumable=True,
    ),
    "compute.evaluation_batch_size": Key(
        1024,
        "Largest number of examples in one step of an evaluation.",
        range=COUNT,
        resumable=True,
    ),
    "compute.microbatches": Key(
        1, "Number of parts that a step cuts its batch into, to need less memory.", range=COUNT
    ),
    "compute.dtype": Key(
        "float32",
        "Type of activations; parameters and sums are float32 in any case.",
        choices=("float32", "bfloat16"),
    ),
    "compute.remat": Key(
        False,
        "Whether blocks of the model are computed again in the backward pass, to need less memory "
        "(Chen et al., 2016).",
        resumable=True,
    ),
}

PARALLEL = {
    "parallel.mode": Key(
        "jit",
        "How a step is spread over all devices of all processes.",
        choices_in="research.training.parallel",
        resumable=True,
    ),
    "parallel.model_devices": Key(
        1,
        "With mode 'jit': number of devices that wide parameters are divided over; batches are "
        "divided over the rest.",
        range=COUNT,
        resumable=True,
    ),
    "parallel.shard_parameters": Key(
        (r"(.*/)?(Dense|Conv)_\d+/kernel",),
        "Patterns of the parameters that are divided over model_devices.",
        resumable=True,
    ),
    "parallel.local_batch_norm": Key(
        False,
        "Whether batch norm takes the statistics of each device's part of the batch instead of "
        "those of the whole batch.",
    ),
}
