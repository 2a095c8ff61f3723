"""Keys of the optimiser, the learning-rate schedule and the average of weights."""

from research.config.key import AT_LEAST_0, BELOW_1, COUNT_OR_0, Key, options

OPTIMIZER = {
    "optimizer.name": Key(
        "adam",
        "Update rule. A function of your own may also be an optax factory, such as "
        "'optax.contrib.prodigy'.",
        choices_in="research.optimizers.algorithms",
    ),
    "optimizer.options": options(),
    "optimizer.learning_rate": Key(
        1e-3,
        "Learning rate; the schedule and the multipliers are factors on it.",
        range=AT_LEAST_0,
        traced=True,
    ),
    "optimizer.weight_decay": Key(
        0.0,
        "Decoupled decay: kernels shrink by learning_rate * weight_decay at each step (Loshchilov "
        "and Hutter, 2019, whose lambda is that product). lars and lamb apply it inside the rule.",
        range=AT_LEAST_0,
        traced=True,
        shared=True,
    ),
    "optimizer.decay_multipliers": Key(
        (),
        "Factors on the decay by parameter: (pattern, number) pairs. () decays kernels only.",
        pairs="(('.*/kernel', 1.0), ('.*', 0.0))",
        second="number",
        shared=True,
    ),
    "optimizer.clip_value": Key(
        0.0,
        "Limits the size of each number in the gradients. 0 is off.",
        range=AT_LEAST_0,
        traced=True,
    ),
    "optimizer.clip_norm": Key(
        0.0,
        "Rescales gradients whose global norm is larger (Pascanu et al., 2013). 0 is off.",
        range=AT_LEAST_0,
        traced=True,
    ),
    "optimizer.clip_adaptive": Key(
        0.0,
        "Limits each unit's gradient to this share of its weights (AGC, Brock et al., 2021). 0 is "
        "off.",
        range=AT_LEAST_0,
        traced=True,
    ),
    "optimizer.max_norm": Key(
        0.0,
        "Shortens each unit's incoming weights to this length (Srivastava et al., 2014). 0 is off.",
        range=AT_LEAST_0,
        traced=True,
    ),
    "optimizer.multipliers": Key(
        (),
        "Factors on the learning rate by parameter: (pattern of parameter paths, number) pairs.",
        pairs="(('head/.*', 1.0), ('.*', 0.1))",
        second="number",
    ),
    "optimizer.layer_decay": Key(
        1.0,
        "Factor on the learning rate for each layer further from the head (Howard and Ruder, "
        "2018).",
        range=AT_LEAST_0,
        traced=True,
    ),
    "optimizer.sam_radius": Key(
        0.0,
        "Distance uphill at which SAM takes the gradient (Foret et al., 2021). 0 is off.",
        range=AT_LEAST_0,
        traced=True,
    ),
    "optimizer.lookahead_steps": Key(
        0,
        "Number of steps after which lookahead takes weights back part of the way (Zhang et al., "
        "2019). 0 is off.",
        range=COUNT_OR_0,
    ),
    "optimizer.lookahead_share": Key(
        0.5, "Share of the way that lookahead keeps.", range=BELOW_1, traced=True
    ),
    "optimizer.momentum": Key(
        0.9,
        "Weight of the old direction in rules with momentum.",
        range=BELOW_1,
        traced=True,
    ),
    "optimizer.rms_decay": Key(
        0.9,
        "Weight of the old squares of gradients in rmsprop and its variants, and adadelta.",
        range=BELOW_1,
        traced=True,
    ),
    "optimizer.beta1": Key(
        0.9,
        "Weight of the old mean of gradients in adam and its variants.",
        range=BELOW_1,
        traced=True,
    ),
    "optimizer.beta2": Key(
        0.999,
        "Weight of the old mean of squared gradients in adam and its variants; the authors of lion "
        "take 0.99.",
        range=BELOW_1,
        traced=True,
    ),
    "optimizer.epsilon": Key(
        1e-8,
        "Keeps rules that divide by a root from dividing by 0.",
        range=AT_LEAST_0,
        traced=True,
    ),
    "optimizer.memory": Key(
        10,
        "Number of earlier steps from which lbfgs estimates the curvature.",
        range=(1, 2**15),
    ),
    "optimizer.line_search_steps": Key(
        20, "Largest number of evaluations of the loss in one step of lbfgs.", range=(1, 2**15)
    ),
}

SCHEDULE = {
    "schedule.name": Key(
        "cosine",
        "Schedule, a factor on the learning rate.",
        choices_in="research.optimizers.schedules",
    ),
    "schedule.options": options(),
    "schedule.warmup": Key(
        "0 percent",
        "Length of a linear rise of the rate from 0 (Goyal et al., 2017, who start from the rate "
        "of one worker).",
        duration=True,
        traced=True,
        shared=True,
    ),
    "schedule.final": Key(
        0.0,
        "End of the schedule, as a share of the learning rate. It holds after the last step; the "
        "factor of the last of 1000 steps to 0 is 0.001 (linear) or 2.5e-06 (cosine).",
        range=AT_LEAST_0,
        traced=True,
    ),
    "schedule.power": Key(2.0, "Degree of the polynomial.", range=AT_LEAST_0, traced=True),
    "schedule.cycles": Key(
        4.0, "Number of cycles of cosine_restarts.", range=(1, float("inf")), traced=True
    ),
    "schedule.decay_share": Key(
        0.2,
        "Share of the training at its end in which stable_decay falls.",
        range=BELOW_1,
        traced=True,
    ),
    "schedule.rise_share": Key(
        0.3,
        "Share of the training at its start in which one_cycle rises.",
        range=BELOW_1,
        traced=True,
    ),
    "schedule.initial": Key(
        0.04,
        "Start of one_cycle, as a share of the learning rate.",
        range=BELOW_1,
        traced=True,
    ),
    "schedule.milestones": Key(
        ("50 percent", "75 percent"),
        "Times at which piecewise lowers the rate.",
        duration=True,
        traced=True,
    ),
    "schedule.factor": Key(
        0.1,
        "Factor on the rate at each milestone of piecewise and each cut of plateau.",
        range=AT_LEAST_0,
        traced=True,
    ),
    "schedule.window": Key(
        "1 epochs",
        "Time over which plateau averages the training loss.",
        duration=True,
        traced=True,
    ),
    "schedule.patience": Key(
        5.0,
        "Number of windows without a fall of the loss before plateau cuts the rate.",
        range=AT_LEAST_0,
        traced=True,
    ),
    "schedule.threshold": Key(
        1e-3,
        "Share of the least loss that the loss must fall by to count as a fall.",
        range=BELOW_1,
        traced=True,
    ),
}

AVERAGING = {
    "averaging.name": Key(
        "none",
        "Average of the weights of the training, kept beside the weights themselves.",
        choices_in="research.optimizers.averaging",
    ),
    "averaging.options": options(),
    "averaging.decay": Key(
        0.999,
        "Weight of the old average of ema at each step, after its warm-up.",
        range=BELOW_1,
        traced=True,
    ),
    "averaging.start": Key(
        "75 percent",
        "Time at which swa begins; until then its average is the weights themselves.",
        duration=True,
        traced=True,
    ),
    "averaging.every": Key(
        "1 epochs",
        "How often swa adds the weights to its average.",
        duration=True,
        interval=True,
        traced=True,
    ),
    "averaging.recalibration_examples": Key(
        2048,
        "Number of training examples over which the averaged weights get batch norm statistics of "
        "their own; at the end all are used. 0 averages the running statistics too.",
        range=COUNT_OR_0,
    ),
}
