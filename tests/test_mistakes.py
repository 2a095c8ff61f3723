"""Every mistake of a user is one line on stderr and exit code 2, and leaves nothing behind."""

import pytest
from runs import MAIN, one_line

BROKEN = "def get_config(:\n"
RAISES = "def get_config():\n    return undefined_name\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config=configs/nothing.py"], ["'configs/nothing.py': no such file"]),
        (["--config", "configs/nothing.py", "--config.seed=1"], ["no such file"]),
        ([MAIN, "--config.optimizer.learning_rat=1"], ["did you mean 'optimizer.learning_rate'"]),
        ([MAIN, "--config.optimizr.learning_rate=1"], ["did you mean 'optimizer.learning_rate'"]),
        ([MAIN, "--config.optimizer.lr=1"], ["did you mean 'optimizer.learning_rate'"]),
        ([MAIN, "--config.seed.x=1"], ["config = 'seed.x' is unknown"]),
        ([MAIN, "--config.optimizer=sgd"], ["config.optimizer is a section", "optimizer.name"]),
        ([MAIN, "--config.batch_size=many"], ["config.batch_size = 'many' is not a whole number"]),
        ([MAIN, "--config.batch_size=12.5"], ["config.batch_size = '12.5' is not a whole number"]),
        ([MAIN, "--config.optimizer.beta1=x"], ["config.optimizer.beta1 = 'x' is not a number"]),
        ([MAIN, "--config.compute.remat=maybe"], ["remat = 'maybe' is not true or false"]),
        (
            [MAIN, "--config.data.path=x.npz"],
            ["data.path = 'x.npz'", "'digits'", "npz, csv, folder, text"],
        ),
        ([MAIN, "--config.batch_size=5000"], ["config.batch_size = 5000", "1298"]),
        ([MAIN, "--config.model.activation=rellu"], ["model.activation", "did you mean 'relu'"]),
        ([MAIN, "--config.model.name=mpl"], ["model.name = 'mpl'", "did you mean 'mlp'"]),
        ([MAIN, "--config.optimizer.name=adan"], ["optimizer.name", "did you mean 'adam'"]),
        ([MAIN, "--config.averaging.name=eam"], ["averaging.name", "did you mean 'ema'"]),
        ([MAIN, "--config.averaging.decay=1.0"], ["averaging.decay = 1.0 is out of range"]),
        ([MAIN, "--config.averaging.every=0 epochs"], ["averaging.every", "is no interval"]),
        (
            [MAIN, "--config.early_stopping.metric=acuracy"],
            ["early_stopping.metric", "did you mean 'accuracy'"],
        ),
        (
            [MAIN, "--config.early_stopping.patience=2 epochs", "--config.data.validation=0.0"],
            ["early_stopping.patience = '2 epochs' needs a validation split"],
        ),
        (
            [MAIN, "--config.augmentation.names=('flop',)"],
            ["augmentation.names", "did you mean 'flip'"],
        ),
        ([MAIN, "--config.preprocessing.name=zac"], ["preprocessing.name", "did you mean 'zca'"]),
        ([MAIN, "--config.preprocessing=zca"], ["config.preprocessing"]),
        ([MAIN, "--config.preprocessing.epsilon=0.0"], ["preprocessing.epsilon", "at least 1e-06"]),
        (
            [MAIN, "--config.preprocessing.name=pca", "--config.preprocessing.components=65"],
            ["config.preprocessing.components = 65 is more than the 64 features"],
        ),
        (
            [
                MAIN,
                "--config.preprocessing.name=patch_whitening",
                "--config.preprocessing.patch_size=4",
            ],
            ["config.preprocessing.patch_size = 4", "allowed: odd, at most 8"],
        ),
        (
            [MAIN, "--config.data.name=moons", "--config.preprocessing.name=patch_whitening"],
            ["works on images", "(2,)"],
        ),
        ([MAIN, "--config.data.name=mnist", "--config.data.data_dir=tests"], ["mnist", "tests"]),
        ([MAIN, "--config.data.name=moons", "--config.model.name=cnn"], ["takes images"]),
        ([MAIN, "--config.compute.microbatches=5"], ["microbatches = 5", "such as 4 or 8"]),
        (
            [MAIN, "--config.optimizer.name=lbfgs", "--config.batch_size=128"],
            ["'lbfgs' needs", "batch_size = 128", "1298"],
        ),
        (
            [MAIN, "--config.optimizer.decay_multipliers=(('.*', -1.0),)"],
            ["decay_multipliers", "-1.0", "at least 0"],
        ),
        ([MAIN, "--config.optimizer.lookahead_share=1.5"], ["lookahead_share = 1.5", "below 1"]),
        ([MAIN, "--config.schedule.window=often"], ["schedule.window = 'often'", "'10 epochs'"]),
        (
            [MAIN, "--config.ensemble.snapshots=2"],
            ["schedule.name = 'cosine'", "allowed: 'cosine_restarts'"],
        ),
        ([MAIN, "--config.ensemble.lanes=vmpa"], ["ensemble.lanes", "did you mean 'vmap'"]),
        ([MAIN, "--config.duration=0 epochs"], ["config.duration = '0 epochs'"]),
        ([MAIN, "--wrokdir=x"], ["wrokdir"]),
        ([MAIN, "stray"], ["unexpected argument 'stray'"]),
        ([MAIN, "--workdir=README.md"], ["README.md"]),
        ([], ["--config"]),
        (["--config={tmp}/broken.py"], ["broken.py"]),
        (["--config={tmp}/raises.py"], ["undefined_name", "raises.py, line 2"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, words, command, tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "raises.py").write_text(RAISES)
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    if not any(argument.startswith("--workdir") for argument in arguments):
        arguments.append(f"--workdir={tmp_path}/run")
    line = one_line(command("main", *arguments))
    for word in words:
        assert word in line
    assert not (tmp_path / "run").exists()  # nothing half begun is left behind


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "tests"], "is not a run folder"),
        (["evaluate"], "usage"),
        (["evaluate", "{run}", "--split=tset"], "did you mean 'test'"),
        (["evaluate", "{run}", "--step=17"], "no checkpoint of step 17"),
        (["report", "tests"], "is not a run folder"),
        (["report"], "usage"),
        (["report", "{run}", "--output=/nowhere/x.html"], "/nowhere/x.html"),
    ],
)
def test_mistakes_with_the_other_commands(arguments, words, finished, command):
    arguments = [argument.format(run=finished) for argument in arguments]
    assert words in one_line(command(*arguments))
