"""Every key with its default and its meaning; where it must lie is in limits.py."""

from ml_collections import ConfigDict, config_dict


def default_config() -> ConfigDict:
    """All keys with their defaults: a small MLP with batch norm and Adam on the digits data."""
    config = ConfigDict()
    config.seed = 0  # of initial weights, shuffling, dropout and augmentation
    config.batch_size = 0  # examples in a step; 0: by the size of train, from 16 to 128
    config.duration = "auto"  # of the training; auto: 40 epochs, and at least 1,500 steps
    config.log_every = "1 epochs"  # the training loss and accuracy since the last time
    config.evaluate_every = (
        "1 epochs"  # on validation, never on test; at checkpoints too where those are rarer
    )
    config.on_divergence = "stop"  # stop; skip_step: leave non-finite updates out; rollback
    config.max_rollbacks = 3  # rollback: to the last checkpoint, with half the learning rate

    config.checkpoint = checkpoint = ConfigDict()
    checkpoint.every = "5 epochs"  # and at the end; at evaluations too where those are rarer
    checkpoint.on_error = "stop"  # what cannot be written: stop, or continue and try again later

    config.logging = logging = ConfigDict()
    logging.writers = ("tensorboard",)  # where metrics go besides metrics.jsonl, which is always
    # written: research/reporting/writers.py, or ('my_package.module:MyWriter',)

    config.data = data = ConfigDict()
    data.name = "digits"  # digits, any image classification set of TFDS, npz, folder, or a toy set
    data.data_dir = config_dict.placeholder(str)  # of TFDS; default: TFDS_DATA_DIR or TFDS's own
    data.path = config_dict.placeholder(str)  # of the .npz file or the folder of images
    data.image_axes = "auto"  # npz: NHWC, NCHW, or NHW (grey); auto: by the shape, and reported
    data.download = False  # let TFDS fetch and prepare a set that is not there
    data.validation = 0.1  # share of train that is cut off for validation, class by class
    data.split_seed = 0  # of that cut: apart from `seed`, so that seeds compare on equal splits
    data.image_size = 0  # resize images of unequal sizes to this; 0: they must be equal
    data.background = "white"  # what is put behind transparent images: a colour's name, or #rrggbb
    data.max_megapixels = 50  # a larger image is refused: a few bytes can claim to be gigabytes
    data.memory_mb = 4096  # larger sets of TFDS and folders are streamed from disk by Grain
    data.toy_examples = 1000  # toy sets: examples in train, and again half as many in test
    data.toy_noise = 0.1  # toy sets: standard deviation of the noise

    config.preprocessing = preprocessing = ConfigDict()  # fitted on train only
    preprocessing.name = "per_channel"  # research/data/preprocessing.py
    preprocessing.components = 0  # pca, pca_whitening: how many are kept, largest first; 0: all
    preprocessing.epsilon = 0.01  # whitening: added to variances, which are 1 in the mean
    preprocessing.patch_size = 3  # patch_whitening: side of the square, in pixels; odd

    config.augmentation = augmentation = ConfigDict()
    augmentation.names = ()  # research/data/augmentation.py, in order: ('flip', 'crop')
    augmentation.crop_padding = 4  # crop: pixels it moves by, at most
    augmentation.cutout_size = 8.0  # cutout: side of the square, in pixels
    augmentation.noise = 0.05  # noise: standard deviation, as a share of the full range
    augmentation.brightness = 0.2  # color_jitter: largest relative change
    augmentation.contrast = 0.2  # color_jitter: likewise
    augmentation.saturation = 0.2  # color_jitter: likewise
    augmentation.mixing = "none"  # research/data/mixing.py: mixup, cutmix
    augmentation.mixup_alpha = 0.2  # mixup: of the Beta distribution; larger mixes more
    augmentation.cutmix_alpha = 1.0  # cutmix: likewise

    config.model = model = ConfigDict()
    model.name = "mlp"  # mlp, cnn, resnet: a file of research/models/
    model.hidden = (64, 64)  # mlp: units of each hidden layer
    model.channels = (32, 64)  # cnn: channels of each conv-norm-activation-pool stage
    model.pooling = "max_pool"  # cnn: research/models/pooling.py
    model.pooling_window = 2  # max_pool, avg_pool: its side, in pixels
    model.pooling_ratio = 1.414  # fractional_max_pool: by which it divides the size
    model.depth = 20  # resnet: 8, 14, 20, 32, 44, 56, 110 (CIFAR), 18, 50 (ImageNet)
    model.activation = "relu"  # research/models/activations.py
    model.leaky_slope = 0.01  # leaky_relu: where x is negative
    model.prelu_slope = 0.25  # prelu, prelu_shared: what they start at
    model.elu_alpha = 1.0  # elu: what it falls to, negated
    model.maxout_pieces = 2  # maxout: affine maps for each unit, so times as many parameters
    model.normalization = "batch_norm"  # research/models/normalization.py
    model.freeze_batch_stats = False  # batch_norm: by running statistics in training too
    model.norm_after_activation = False  # affine, activation, normaliser; else normaliser first
    model.batch_norm_decay = 0.9  # of the *old* running statistics at each step
    model.ghost_batch_size = 0  # batch_norm: statistics of parts of the batch (Hoffer et al.,
    # 2017); 0: of all of it
    model.norm_groups = 8  # group_norm: of channels
    model.weight_standardization = False  # kernels of mean 0 and deviation 1 / sqrt(fan_in)
    # (Qiao et al., 2019)
    model.initializer = "he_normal"  # research/models/initializers.py
    model.initializer_scale = 1.0  # multiplies the initialiser's standard deviation
    model.activation_gain = False  # so does the gain of the activation (He et al., 2015, eq. 8):
    # for lecun, xavier, orthogonal
    model.fit_weights = "none"  # to data, before training: research/models/data_dependent.py
    model.initial_bias = 0.0  # of hidden layers, or of their normalisers
    model.sparse_connections = 15  # sparse: weights of each output that are not 0
    model.residual = "plain"  # resnet: plain, zero_gamma (branches start at 0; Goyal et al., 2017),
    # fixup (without a normaliser; Zhang et al., 2019)
    model.dropout = "dropout"  # research/models/regularization.py
    model.dropout_rate = 0.0  # of hidden numbers, or channels, that are zeroed in training
    model.input_dropout_rate = 0.0  # share of the inputs that are zeroed in training
    model.dropconnect_rate = 0.0  # share of a hidden layer's weights that are left out at a step
    # (DropConnect, Wan et al., 2013)
    model.stochastic_depth_rate = 0.0  # resnet: how often the last block is left out; linear before
    # (Huang et al., 2016)

    config.loss = loss = ConfigDict()
    loss.label_smoothing = 0.0  # share of the target that goes to all classes alike (Szegedy et
    # al., 2016, section 7)
    loss.l1 = 0.0  # adds l1 * sum(abs(w)) over kernels to the loss; with l2 the elastic net (Zou
    # and Hastie, 2005)
    loss.l2 = 0.0  # adds l2 / 2 * sum(w ** 2) over kernels to the loss: goes through the optimiser

    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "adam"  # research/optimizers/algorithms.py
    optimizer.learning_rate = 1e-3  # what schedule and multipliers are factors of
    optimizer.weight_decay = 0.0  # decoupled: kernels shrink by learning_rate * weight_decay a step
    # (Loshchilov and Hutter, 2019, where that product is lambda); lars and lamb have it inside
    optimizer.decay_multipliers = ()  # of the decay: (pattern, number) pairs; (): kernels only
    optimizer.clip_value = 0.0  # cuts each number of the gradients to this size; 0: off
    optimizer.clip_norm = 0.0  # rescales gradients whose global norm is larger (Pascanu et al.,
    # 2013); 0: off
    optimizer.clip_adaptive = 0.0  # to this share of each unit's weights (AGC, Brock et al., 2021);
    # 0: off
    optimizer.max_norm = 0.0  # shortens each unit's incoming weights to this length (Srivastava et
    # al., 2014); 0: off
    optimizer.multipliers = ()  # of the rate: (pattern of parameter paths, number) pairs
    optimizer.layer_decay = 1.0  # of the rate, for each layer further from the head (Howard and
    # Ruder, 2018)
    optimizer.sam_radius = 0.0  # SAM: the gradient is taken so far uphill (Foret et al., 2021);
    # 0: off
    optimizer.lookahead_steps = 0  # after so many, weights go back part of their way (Zhang et al.,
    # 2019); 0: off
    optimizer.lookahead_share = 0.5  # lookahead: what is kept of the way
    optimizer.momentum = 0.9  # of the *old* direction: momentum, nesterov, rmsprop_momentum, lars,
    # muon
    optimizer.rms_decay = 0.9  # of the *old* squares: rmsprop and its kin, adadelta
    optimizer.beta1 = 0.9  # adam and its kin: of the *old* mean of gradients
    optimizer.beta2 = 0.999  # adam and its kin: of that of their squares; lion's authors take 0.99
    optimizer.epsilon = 1e-8  # all that divide by a root: keeps them from dividing by 0
    optimizer.memory = 10  # lbfgs: earlier steps that the curvature is told from
    optimizer.line_search_steps = 20  # lbfgs: evaluations of the loss in one step, at most

    config.schedule = schedule = ConfigDict()
    schedule.name = "cosine"  # research/optimizers/schedules.py; multiplies the learning rate
    schedule.warmup = "0 percent"  # linear, from 0 (Goyal et al., 2017: from one worker's rate)
    schedule.final = 0.0  # where most end, as a share of the learning rate: after the last step,
    # whose own factor is above it, of 1000 steps to 0 by 0.001 (linear), 2.5e-06 (cosine)
    schedule.power = 2.0  # polynomial: its degree
    schedule.cycles = 4.0  # cosine_restarts: how many
    schedule.decay_share = 0.2  # stable_decay: of the training, at its end
    schedule.rise_share = 0.3  # one_cycle: of the training, at its start
    schedule.initial = 0.04  # one_cycle: where it starts, as a share of the learning rate
    schedule.milestones = ("50 percent", "75 percent")  # piecewise: where the rate drops
    schedule.factor = 0.1  # piecewise: what it is multiplied by at each; plateau: at each cut
    schedule.window = "1 epochs"  # plateau: the training loss is averaged over so much
    schedule.patience = 5.0  # plateau: windows without a fall that are waited for
    schedule.threshold = 1e-3  # plateau: the share of the least loss that counts as a fall

    config.averaging = averaging = ConfigDict()
    averaging.name = "none"  # of weights: research/optimizers/averaging.py
    averaging.decay = 0.999  # ema: of the *old* average at each step, after its warm-up
    averaging.start = "75 percent"  # swa: until there the average is the weights themselves
    averaging.every = "1 epochs"  # swa: how often weights are added
    averaging.recalibration_examples = 2048  # batch norm statistics of the averaged weights come
    # from so many training examples, at the end from all; 0: the running ones are averaged too

    config.early_stopping = early_stopping = ConfigDict()
    early_stopping.metric = "accuracy"  # or loss, on validation; decides which checkpoint is best
    early_stopping.patience = "0 epochs"  # stop after so long without a new best (Prechelt,
    # 1998); 0: off
    early_stopping.minimal_improvement = 0.0  # by which a new best must beat the old, or not count

    config.transfer = transfer = ConfigDict()
    transfer.checkpoint = config_dict.placeholder(str)  # a run folder, or a .safetensors file
    transfer.step = "last"  # of that run: last, best, or a number
    transfer.skip = ("head/.*",)  # patterns of parameters that start afresh
    transfer.rename = ()  # (pattern, replacement) pairs: from the checkpoint's paths to ours
    transfer.preprocessing = True  # as there, or fitted to our training data
    transfer.freeze = ()  # (pattern, duration) pairs: not trained until then, '100 percent': ever;
    # batch norm of a frozen layer keeps its running statistics ('BatchNorm_0/mean' matches them
    # too), and normalises by them in training
    transfer.recalibrate = (
        False  # batch norm statistics anew, over our training data, at the start:
    )
    # of frozen layers too

    config.ensemble = ensemble = ConfigDict()
    ensemble.members = 1  # networks of seeds seed, seed + 1, ... trained together, predictions
    # averaged (Lakshminarayanan et al., 2017)
    ensemble.lanes = "auto"  # how they share a program: research/training/lanes.py
    ensemble.snapshots = 0  # cosine_restarts: networks kept, one at the end of each last cycle
    # (Huang et al., 2017)

    config.compute = compute = ConfigDict()
    compute.steps_per_dispatch = 0  # steps in one call of the compiled program; 0: ~half a second
    compute.evaluation_batch_size = 1024  # examples at a time, at most
    compute.microbatches = 1  # parts that a step cuts its batch into, for less memory
    compute.dtype = "float32"  # or bfloat16: of activations; parameters and sums stay float32
    compute.remat = False  # recompute blocks of the model in the backward pass: less memory (Chen
    # et al., 2016)

    config.parallel = parallel = ConfigDict()
    parallel.mode = "jit"  # research/training/modes.py, over all devices of all processes
    parallel.model_devices = 1  # jit: wide parameters are cut over so many, batches over the rest
    parallel.shard_parameters = (r"(.*/)?(Dense|Conv)_\d+/kernel",)  # which: patterns of paths
    parallel.local_batch_norm = False  # statistics of each device's part of the batch, not of all
    return config
