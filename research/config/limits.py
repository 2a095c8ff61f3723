"""State what each key may be (ranges, words, pairs), and which numbers are traced."""

import math

# Traced hyper-parameters and where they must lie: low <= value < high.
TRACED: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32),
    "augmentation.cutout_size": (0, math.inf),
    "augmentation.noise": (0, math.inf),
    "augmentation.brightness": (0, math.inf),
    "augmentation.contrast": (0, math.inf),
    "augmentation.saturation": (0, math.inf),
    "augmentation.mixup_alpha": (1e-3, math.inf),
    "augmentation.cutmix_alpha": (1e-3, math.inf),
    "model.leaky_slope": (-math.inf, math.inf),
    "model.prelu_slope": (-math.inf, math.inf),
    "model.elu_alpha": (0, math.inf),
    "model.batch_norm_decay": (0, 1),
    "model.initializer_scale": (0, math.inf),
    "model.initial_bias": (-math.inf, math.inf),
    "model.dropout_rate": (0, 1),
    "model.input_dropout_rate": (0, 1),
    "model.dropconnect_rate": (0, 1),
    "model.stochastic_depth_rate": (0, 1),
    "loss.label_smoothing": (0, 1),
    "loss.l1": (0, math.inf),
    "loss.l2": (0, math.inf),
    "optimizer.learning_rate": (0, math.inf),
    "optimizer.weight_decay": (0, math.inf),
    "optimizer.clip_value": (0, math.inf),
    "optimizer.clip_norm": (0, math.inf),
    "optimizer.clip_adaptive": (0, math.inf),
    "optimizer.max_norm": (0, math.inf),
    "optimizer.layer_decay": (0, math.inf),
    "optimizer.sam_radius": (0, math.inf),
    "optimizer.lookahead_share": (0, 1),
    "optimizer.momentum": (0, 1),
    "optimizer.rms_decay": (0, 1),
    "optimizer.beta1": (0, 1),
    "optimizer.beta2": (0, 1),
    "optimizer.epsilon": (0, math.inf),
    "averaging.decay": (0, 1),
    "early_stopping.minimal_improvement": (0, math.inf),
    "schedule.final": (0, math.inf),
    "schedule.power": (0, math.inf),
    "schedule.cycles": (1, math.inf),
    "schedule.decay_share": (0, 1),
    "schedule.rise_share": (0, 1),
    "schedule.initial": (0, 1),
    "schedule.factor": (0, math.inf),
    "schedule.patience": (0, math.inf),
    "schedule.threshold": (0, 1),
}
# Durations that the mathematics uses: traced too, as numbers of steps.
TRACED_DURATIONS = (
    "duration",
    "averaging.start",
    "averaging.every",
    "early_stopping.patience",
    "schedule.warmup",
    "schedule.milestones",
    "schedule.window",
)
# The rest of the numbers: low <= value < high.
LIMITS: dict[str, tuple[float, float]] = {
    "batch_size": (0, 2**31),
    "max_rollbacks": (0, 2**31),
    "data.validation": (0, 1),
    "data.split_seed": (0, 2**32),
    "data.image_size": (0, 2**15),
    "data.max_megapixels": (1, 2**31),
    "data.memory_mb": (0, math.inf),
    "data.toy_examples": (2, 10**8),
    "data.toy_noise": (0, math.inf),
    "preprocessing.components": (0, 2**31),
    "preprocessing.epsilon": (1e-6, math.inf),
    "preprocessing.patch_size": (1, 2**15),
    "augmentation.crop_padding": (0, 2**15),
    "model.hidden": (1, 2**31),
    "model.channels": (1, 2**31),
    "model.pooling_window": (1, 2**15),
    "model.pooling_ratio": (1, 2),
    "model.maxout_pieces": (1, 2**31),
    "model.ghost_batch_size": (0, 2**31),
    "model.norm_groups": (1, 2**31),
    "model.sparse_connections": (1, 2**31),
    "optimizer.lookahead_steps": (0, 2**31),
    "optimizer.memory": (1, 2**15),
    "optimizer.line_search_steps": (1, 2**15),
    "ensemble.members": (1, 2**16),
    "ensemble.snapshots": (0, 2**16),
    "averaging.recalibration_examples": (0, 2**31),
    "compute.steps_per_dispatch": (0, 2**31),
    "compute.evaluation_batch_size": (1, 2**31),
    "compute.microbatches": (1, 2**31),
    "parallel.model_devices": (1, 2**31),
}
# Words that stand for no function.
CHOICES = {
    "on_divergence": ("stop", "skip_step", "rollback"),
    "checkpoint.on_error": ("stop", "continue"),
    "data.image_axes": ("auto", "NHWC", "NCHW", "NHW"),
    "compute.dtype": ("float32", "bfloat16"),
    "model.residual": ("plain", "zero_gamma", "fixup"),
    "early_stopping.metric": ("accuracy", "loss"),
}
# What a resumed run may change besides the traced numbers: no finite step comes out otherwise, but
# for rounding where other devices compute it. (Prepared data sets are the same wherever they lie.)
POLICIES = (
    "data.data_dir",
    "data.max_megapixels",
    "on_divergence",
    "max_rollbacks",
    "checkpoint.on_error",
    "logging.writers",
    "compute.steps_per_dispatch",
    "compute.evaluation_batch_size",
    "compute.remat",
    "parallel.mode",
    "parallel.model_devices",
    "parallel.shard_parameters",
)
# Where data lie: a resumed run may change it too, if they are the same data.
LOCATIONS = ("data.data_dir", "data.path")
# Tuples of pairs, and what the pairs look like.
PAIRS = {
    "optimizer.multipliers": "(('head/.*', 1.0), ('.*', 0.1))",
    "optimizer.decay_multipliers": "(('.*/kernel', 1.0), ('.*', 0.0))",
    "transfer.rename": r"(('trunk/(.*)', r'\1'),)",
    "transfer.freeze": "(('Conv_.*', '100 percent'),)",
}
INTERVALS = ("log_every", "evaluate_every", "checkpoint.every")
DURATIONS = (
    "duration",
    *INTERVALS,
    "averaging.start",
    "averaging.every",
    "early_stopping.patience",
    "schedule.warmup",
    "schedule.window",
)
