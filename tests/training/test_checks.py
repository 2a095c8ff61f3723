"""Parts of a config that do not go together: refused, or warned of, in one line each."""

import pytest

from research.config import default_config
from research.errors import UserError
from research.optimizers.multipliers import never_trained
from research.training import checks, hyperparameters, setup


def changed(**changes):
    config = default_config()
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.activation": "selu"}, "normalises by itself"),
        ({"transfer.freeze": (("Dense_0/.*", "1 epochs"),)}, "keeps weights as they were drawn"),
        ({"model.activation_gain": True}, "'he_normal' has the gain of ReLU in it"),
        ({"schedule.name": "inverse_time"}, "schedule.final = 0 with"),
        ({"schedule.name": "exponential"}, "schedule.final = 0 with"),
        ({"schedule.name": "exponential", "schedule.final": 1e-5}, "come down to 0.0032 of"),
        ({"schedule.name": "exponential", "schedule.final": 0.99e-4}, "less than 1% of it"),
        ({"schedule.name": "inverse_time", "schedule.final": 1e-5}, "final = 1e-05 with"),
        ({"schedule.name": "inverse_time", "schedule.final": 0.99 / 199}, "more usual: 0.01"),
        ({"schedule.name": "polynomial", "schedule.power": 8.0}, "schedule.power = 8 with"),
    ],
)
def test_slips_are_warned_of(changes, words):
    (line,) = checks.warnings(changed(**changes))
    assert words in line and "\n" not in line


def test_what_is_usual_is_no_slip():
    selu = {"model.activation": "selu", "model.normalization": "none"}
    gain = {"model.activation_gain": True, "model.initializer": "orthogonal"}
    for changes in ({}, selu, gain):
        assert checks.warnings(changed(**changes)) == []


@pytest.mark.parametrize(
    ("name", "number"),
    [("exponential", {"schedule.final": 1.01e-4}), ("inverse_time", {"schedule.final": 1.01 / 199}),
     ("polynomial", {"schedule.power": 6.6}), ("polynomial", {"schedule.final": 0.01}),
     ("linear", {"schedule.final": 0.0}), ("plateau", {"schedule.final": 0.0})],
)  # fmt: skip
def test_a_rate_above_a_hundredth_half_way_is_no_slip(name, number):
    """Half-way 0.01 is final^(1/2) = 0.01, 2 / (1 + 1/final) = 0.01, and 2^-power = 0.01."""
    assert checks.warnings(changed(**{"schedule.name": name}, **number)) == []


def test_a_warning_is_printed_and_the_run_goes_on(command, tmp_path):
    result = command("main", "--config=configs/bn_adam.py", f"--workdir={tmp_path}/run",
                     "--config.data.name=moons", "--config.duration=2 steps",
                     "--config.model.activation=selu")  # fmt: skip
    assert result.returncode == 0
    assert "warning: config.model.activation = 'selu'" in result.stderr


def test_kernels_are_not_scaled_before_they_are_standardised():
    changes = {"model.fit_weights": "lsuv", "model.weight_standardization": True}
    with pytest.raises(UserError, match="undoes that"):
        setup.from_config(changed(**changes, **{"data.name": "moons"}))


@pytest.mark.parametrize("words", ["100 percent", "100%", "100.0 percent"])
def test_frozen_for_good_in_whatever_words(words):
    config = changed(**{"transfer.freeze": (("head/.*", words),)})
    params = {"head": {"kernel": 0.0}, "Dense_0": {"kernel": 0.0}}
    fixed = never_trained(config, hyperparameters.from_config(config, 1000), params)
    assert fixed == {"head": {"kernel": True}, "Dense_0": {"kernel": False}}
