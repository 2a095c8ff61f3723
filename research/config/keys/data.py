"""Keys of the data: sources, preprocessing and augmentation."""

import math

from research.config.key import AT_LEAST_0, BELOW_1, COUNT_OR_0, Key, options

_PIXELS = (0, 2**15)
_BETA = (1e-3, math.inf)  # parameter of a Beta distribution

DATA = {
    "data.name": Key(
        "digits",
        "Data set: 'digits', 'iris', 'wine', 'breast_cancer', 'diabetes', 'digit_properties', a "
        "toy set, an image classification set of TFDS, a file or folder of your own ('npz', "
        "'csv', 'folder', 'text'), or your own function.",
    ),
    "data.options": options(),
    "data.data_dir": Key(
        None,
        "Folder with prepared TFDS data sets; by default TFDS_DATA_DIR, else the one of TFDS.",
        resumable=True,
        location=True,
    ),
    "data.path": Key(None, "Path of the .npz, .csv or text file, or of the folder.", location=True),
    "data.target": Key(
        "",
        "Names of the label columns of a csv file, with commas between them. Empty: the last "
        "column.",
    ),
    "data.ignore": Key(
        "", "Names of columns of a csv file that are not used, with commas between them."
    ),
    "data.missing": Key(
        "refuse",
        "What happens to cells of a csv file without a value. 'median' fills in that of train, for "
        "numbers.",
        choices=("refuse", "median"),
    ),
    "data.context": Key(128, "Number of characters of an example of a text.", range=(2, 2**20)),
    "data.image_axes": Key(
        "auto",
        "Order of the axes in an .npz file; 'NHW' is grey. 'auto' decides by the shape and prints "
        "the order.",
        choices=("auto", "NHWC", "NCHW", "NHW"),
    ),
    "data.download": Key(
        False, "Whether TFDS may download and prepare a data set that is not there."
    ),
    "data.validation": Key(
        0.1,
        "Share of the training examples that is used for validation instead: of each class, and of "
        "a text the end.",
        range=BELOW_1,
    ),
    "data.split_seed": Key(
        0,
        "Seed of that division. It is not `seed`, so that runs from several seeds have the same "
        "split.",
        range=(0, 2**32),
    ),
    "data.image_size": Key(
        0, "Side in pixels that images are resized to. 0 requires equal sizes.", range=_PIXELS
    ),
    "data.background": Key("white", "Colour behind transparent images: a name, or #rrggbb."),
    "data.max_megapixels": Key(
        50,
        "Larger images are refused, because a file of a few bytes can claim to be gigabytes.",
        range=(1, 2**31),
        resumable=True,
    ),
    "data.memory_mb": Key(
        4096,
        "TFDS data sets and folders that are larger are read from disk by Grain during training.",
        range=AT_LEAST_0,
    ),
    "data.toy_examples": Key(
        1000,
        "Number of training examples of a toy set; its test set has half as many.",
        range=(2, 10**8),
    ),
    "data.toy_noise": Key(0.1, "Standard deviation of the noise in a toy set.", range=AT_LEAST_0),
}

PREPROCESSING = {
    "preprocessing.name": Key(
        "per_channel",
        "Scheme that is fitted to the training examples and applied to all inputs.",
        choices_in="research.data.preprocessing",
    ),
    "preprocessing.options": options(),
    "preprocessing.components": Key(
        0,
        "Number of principal components that are kept, largest first. 0 keeps all.",
        range=COUNT_OR_0,
    ),
    "preprocessing.epsilon": Key(
        0.01,
        "Whitening adds this to the variances, whose mean is scaled to 1.",
        range=(1e-6, math.inf),
    ),
    "preprocessing.patch_size": Key(
        3, "Side in pixels of the squares that are whitened; odd.", range=(1, 2**15)
    ),
}

AUGMENTATION = {
    "augmentation.names": Key(
        (),
        "Augmentations of a training batch, in order, such as ('flip', 'crop').",
        choices_in="research.data.augmentation",
    ),
    "augmentation.options": options(),
    "augmentation.crop_padding": Key(
        4, "Largest number of pixels that a crop moves an image by.", range=_PIXELS
    ),
    "augmentation.cutout_size": Key(
        8.0, "Side in pixels of the square that is cut out.", range=AT_LEAST_0, traced=True
    ),
    "augmentation.noise": Key(
        0.05,
        "Standard deviation of the noise, as a share of the full range.",
        range=AT_LEAST_0,
        traced=True,
    ),
    "augmentation.brightness": Key(
        0.2, "Largest relative change of the brightness.", range=AT_LEAST_0, traced=True
    ),
    "augmentation.contrast": Key(
        0.2, "Largest relative change of the contrast.", range=AT_LEAST_0, traced=True
    ),
    "augmentation.saturation": Key(
        0.2, "Largest relative change of the saturation.", range=AT_LEAST_0, traced=True
    ),
    "augmentation.mixing": Key(
        "none",
        "How pairs of examples are mixed, with their targets.",
        choices_in="research.data.mixing",
    ),
    "augmentation.mixup_alpha": Key(
        0.2,
        "Both parameters of the Beta distribution of the share in mixup; larger mixes more.",
        range=_BETA,
        traced=True,
    ),
    "augmentation.cutmix_alpha": Key(
        1.0,
        "Both parameters of the Beta distribution of the area in cutmix; larger mixes more.",
        range=_BETA,
        traced=True,
    ),
}
