"""Keys of the model and of the parts that models are made of."""

from research.config.key import ANY, AT_LEAST_0, BELOW_1, COUNT, COUNT_OR_0, Key, options

MODEL = {
    "model.name": Key(
        "mlp",
        "Model: a file of research/models/, or your own module with `build` or Flax module.",
        choices_in="research.models",
    ),
    "model.options": options(),
    "model.hidden": Key((64, 64), "Number of units of each hidden layer.", range=COUNT),
    "model.channels": Key(
        (32, 64),
        "Number of channels of each stage; a stage is convolution, normaliser, activation and "
        "pooling.",
        range=COUNT,
    ),
    "model.pooling": Key(
        "max_pool",
        "Pooling at the end of a stage, which makes images smaller.",
        choices_in="research.models.pooling",
    ),
    "model.pooling_window": Key(2, "Side in pixels of a pooling window.", range=(1, 2**15)),
    "model.pooling_ratio": Key(
        1.414, "Factor by which fractional pooling divides height and width.", range=(1, 2)
    ),
    "model.depth": Key(
        20,
        "Number of layers: 8, 14, 20, 32, 44, 56, 110 (for CIFAR), 18 or 50 (for ImageNet).",
        range=(1, 2**15),
    ),
    "model.conv_groups": Key(
        1,
        "Number of groups of channels that 3 x 3 convolutions after the first keep apart (ResNeXt, "
        "Xie et al., 2017). As many as channels: depthwise convolutions.",
        range=COUNT,
    ),
    "model.blocks": Key(
        4, "Number of blocks; a block is attention and a perceptron.", range=(1, 2**15)
    ),
    "model.width": Key(64, "Number of channels of each position.", range=COUNT),
    "model.heads": Key(4, "Number of heads of attention, which share the width.", range=COUNT),
    "model.expansion": Key(
        4,
        "Hidden units of the perceptron of a block, as a multiple of the width.",
        range=(1, 2**15),
    ),
    "model.patch_size": Key(
        4, "Side of the square patches that images are cut into, in pixels.", range=(1, 2**15)
    ),
    "model.causal": Key(
        "auto",
        "Whether a position sees no later one. 'auto': tokens yes, patches no.",
        choices=("auto", "yes", "no"),
    ),
    "model.activation": Key(
        "relu",
        "Activation function of hidden layers.",
        choices_in="research.models.activations",
    ),
    "model.leaky_slope": Key(
        0.01, "Slope of leaky_relu where x is negative.", range=ANY, traced=True
    ),
    "model.prelu_slope": Key(
        0.25,
        "Slope where x is negative that prelu starts from before it is learned.",
        range=ANY,
        traced=True,
    ),
    "model.elu_alpha": Key(
        1.0,
        "Value that elu falls to for very negative x, without its sign.",
        range=AT_LEAST_0,
        traced=True,
    ),
    "model.maxout_pieces": Key(
        2,
        "Number of affine maps of each maxout unit, which multiplies the number of parameters.",
        range=COUNT,
    ),
    "model.normalization": Key(
        "batch_norm",
        "Normaliser of hidden layers.",
        choices_in="research.models.normalization",
    ),
    "model.freeze_batch_stats": Key(
        False, "Whether batch norm uses its running statistics in training too."
    ),
    "model.norm_after_activation": Key(
        False, "Whether the normaliser follows the activation; else it comes before."
    ),
    "model.batch_norm_decay": Key(
        0.9,
        "Weight of the old running statistics of batch norm at each step.",
        range=BELOW_1,
        traced=True,
    ),
    "model.ghost_batch_size": Key(
        0,
        "Batch norm takes its statistics over parts of this many examples (Hoffer et al., 2017). 0 "
        "takes the whole batch.",
        range=COUNT_OR_0,
    ),
    "model.norm_groups": Key(8, "Number of groups of channels in group_norm.", range=COUNT),
    "model.weight_standardization": Key(
        False,
        "Whether kernels are scaled to mean 0 and deviation 1 / sqrt(fan_in) (Qiao et al., 2019).",
    ),
    "model.initializer": Key(
        "he_normal",
        "Distribution of the initial kernels of hidden layers.",
        choices_in="research.models.initializers",
    ),
    "model.initializer_scale": Key(
        1.0,
        "Factor on the standard deviation of the initial kernels.",
        range=AT_LEAST_0,
        traced=True,
    ),
    "model.activation_gain": Key(
        False,
        "Whether initial kernels are also multiplied by the gain of the activation (He et al., "
        "2015, eq. 8), as suits lecun, xavier and orthogonal.",
    ),
    "model.fit_weights": Key(
        "none",
        "How initial weights are fitted to data before the training.",
        choices_in="research.models.data_dependent",
    ),
    "model.initial_bias": Key(
        0.0,
        "Initial bias of hidden layers, or of their normalisers.",
        range=ANY,
        traced=True,
        shared=True,
    ),
    "model.sparse_connections": Key(
        15, "Number of weights of each output that `sparse` does not set to 0.", range=COUNT
    ),
    "model.residual": Key(
        "plain",
        "Start of residual branches: 'plain', 'zero_gamma' (branches start at 0; Goyal et al., "
        "2017) or 'fixup' (without a normaliser; Zhang et al., 2019).",
        choices=("plain", "zero_gamma", "fixup"),
    ),
    "model.dropout": Key(
        "dropout",
        "Kind of dropout in hidden layers.",
        choices_in="research.models.regularization",
    ),
    "model.dropout_rate": Key(
        0.0,
        "Share of the hidden numbers, or channels, that dropout sets to 0 in training.",
        range=BELOW_1,
        traced=True,
    ),
    "model.input_dropout_rate": Key(
        0.0, "Share of the inputs that are set to 0 in training.", range=BELOW_1, traced=True
    ),
    "model.dropconnect_rate": Key(
        0.0,
        "Share of a hidden layer's weights that are left out of a step (DropConnect, Wan et al., "
        "2013).",
        range=BELOW_1,
        traced=True,
    ),
    "model.stochastic_depth_rate": Key(
        0.0,
        "Probability that the last residual block is left out of a step; it grows linearly from "
        "the first block to the last (Huang et al., 2016).",
        range=BELOW_1,
        traced=True,
    ),
}
