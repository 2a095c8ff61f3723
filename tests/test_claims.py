"""What the page of claims is measured by, against closed forms; and that the cheap ones hold."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.claims import __main__ as command
from benchmarks.claims import activations, initialization, landscapes, measures, saddles
from benchmarks.claims.common import Claim, percent


def test_sign_agreement():
    gradients = jnp.array([[1.0, 2.0, 3.0, 4.0], [1.0, -2.0, 3.0, -4.0], [-1.0, -2.0, -3.0, 4.0]])
    np.testing.assert_allclose(measures.sign_agreement(gradients), [1, 0, 0.5])


def test_a_neuron_of_positive_inputs_has_gradients_of_one_sign():
    assert measures.signs_of_neuron(1, centred=False, draws=10) == 1
    # At large batches P(sign) depends on mean / deviation of the inputs, sqrt(3) here.
    expected = 2 / np.pi * np.arctan(np.sqrt(3))
    assert measures.signs_of_neuron(32, centred=False, draws=2000) == pytest.approx(
        expected, abs=0.03
    )
    # Centred signs are those of coins: E|mean of n| = sqrt(2 / (pi n)).
    coins = np.sqrt(2 / np.pi / 784)
    assert measures.signs_of_neuron(1, centred=True, draws=2000) == pytest.approx(coins, rel=0.1)


def test_a_unit_is_dead_if_all_examples_give_the_same():
    dense = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 3.0]])
    images = np.zeros((2, 4, 4, 1)) + np.array([0.0, 5.0]).reshape(2, 1, 1, 1)
    assert measures.dead_fraction([dense]) == 2 / 3
    assert measures.dead_fraction([dense, images]) == 2 / 4


def test_distinct_units():
    assert measures.distinct_units(np.array([[1.0, 1.0, 2.0], [3.0, 3.0, 3.0]])) == 2


def test_convergence_rate():
    assert measures.convergence_rate(3 * 0.8 ** np.arange(50)) == pytest.approx(0.8)


def test_a_page_keeps_the_claims_that_are_not_made_again():
    names = list(command.claims())
    assert len(names) > 20 and "activations.saturation" in names
    first, second = names[3], names[0]
    texts = {first: "### one\n\n**Holds in part.** So.", second: "### two"}
    page = command.page(texts)
    assert command.written(page) == texts
    assert page.index("### two") < page.index("### one")  # in the order of the sections
    assert "| one | holds in part |" in page
    kept = command.written((command.PAGE).read_text())
    assert kept.keys() == set(names)
    drawn = [at for text in kept.values() for at in re.findall(r"!\[.*\]\((.*)\)", text)]
    assert len(drawn) > 5
    assert {command.PAGE.parent / at for at in drawn} == set(command.PAGE.parent.glob("claims/*"))


def test_a_picture_is_written_beside_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "PAGE", tmp_path / "claims.md")
    assert command.drawn("a.b", b"") == "" and not list(tmp_path.iterdir())
    assert command.drawn("a.b", b"picture") == "claims/a.b.png"
    assert (tmp_path / "claims" / "a.b.png").read_bytes() == b"picture"


def test_a_claim_as_text():
    claim = Claim("It is so", "Lecture", "On digits.", [["a", "b"], [1, 0.123456]], False, "Why.")
    assert claim.markdown().splitlines() == [
        "### It is so", "*Lecture.* On digits.", "", "| a | b |", "| --- | --- |",
        "| 1 | 0.123 |", "", "**Does not hold here.** Why.",
    ]  # fmt: skip
    assert claim.markdown("a/b.png").endswith("\n\n![It is so](a/b.png)")
    assert percent([0.5, 0.6]) == "55.0 +- 7.1 %" and percent(0.123, 0) == "12 %"


@pytest.mark.slow
@pytest.mark.parametrize(
    "measure",
    [
        activations.saturation,
        activations.signs_of_gradients,
        initialization.deviation_by_layer,
        initialization.symmetric_units,
        landscapes.rates_on_a_quadratic,
        landscapes.stability_on_a_quadratic,
        landscapes.gradient_noise,
        saddles.saddles_by_dimension,
        saddles.escape_from_a_saddle,
        saddles.curvature_of_a_net,
    ],
)
def test_what_is_exact_holds(measure):
    pytest.importorskip("matplotlib")
    assert measure().holds is not False
