"""What the page of claims is measured by, against closed forms; and that the cheap ones hold."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from benchmarks.claims import __main__ as command
from benchmarks.claims import (
    activations,
    initialization,
    landscapes,
    measures,
    normalization,
    saddles,
    statistics,
    transfer,
)
from benchmarks.claims.common import Claim, Net, least_steps, percent, ranked


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
    texts = {first: "### one\n\n**Holds for Adam.** So.", second: "### two"}
    page = command.page(texts)
    assert command.written(page) == texts
    assert page.index("### two") < page.index("### one")  # in the order of the sections
    assert "| one | holds for Adam |" in page
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


def test_an_interval_is_that_of_student():
    values = np.array([1.0, 2.0, 4.0, 7.0])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    mean, low, high = statistics.interval(values)
    assert (mean, low, high) == pytest.approx((3.5, expected.low, expected.high))
    assert np.isnan(statistics.interval([1.0, np.inf])).all()


def test_holm_corrects_step_by_step():
    # By hand: .005 x 4, .01 x 3, .03 x 2, and .04 x 1, which may not be below the one before.
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(statistics.holm([0.6, 0.7]), [1, 1])


def test_noise_is_inconclusive():
    random, wrong = np.random.default_rng(0), 0
    for _ in range(100):
        found = statistics.judged(dict(enumerate(random.standard_normal((20, 10)))))
        wrong += statistics.together(found) != "Inconclusive"
    assert wrong < 12  # about 5 of 100 families, though 64 have a row with p < .05


def test_a_clear_difference_is_found_among_many_rows():
    gains = dict(enumerate(np.random.default_rng(0).standard_normal((20, 10))))
    gains |= {"up": gains[0] + 4, "down": gains[1] - 4}
    found = statistics.judged(gains)
    assert statistics.rows(found, statistics.BETTER) == ["up"]
    assert statistics.rows(found, statistics.WORSE) == ["down"]
    alone = {row: stats.ttest_1samp(gains[row], 0).pvalue for row in ("up", "down")}
    assert min(found["up"].p, found["down"].p) == pytest.approx(22 * min(alone.values()))
    assert statistics.together(found) == "Holds for 1 of 22 (1 worse, 20 inconclusive)"
    parts = {f"it goes {way}": found[way] for way in ("up", "down")}
    assert statistics.by_part(parts) == "Holds in part: it goes up; does not hold: it goes down"
    assert statistics.by_part({"it goes up": found["up"]}) == "Holds"


def test_pairs_that_say_nothing_are_inconclusive():
    random = np.random.default_rng(0)
    losses = 0.16 + 0.02 * random.standard_normal(10)
    found = statistics.judged(
        {
            "the same to the bit": np.zeros(10),
            "as .163369 to .163442": 0.163442 - 0.163369 + 1e-3 * random.standard_normal(10),
            "one diverged": np.append(losses[:9], np.nan),
        }
    )
    assert statistics.together(found) == "Inconclusive"
    assert statistics.judged({"": np.full(10, 3.0)})[""].verdict == statistics.BETTER


def test_as_good_within_a_margin():
    behind = {"": -0.002 + 0.001 * np.random.default_rng(0).standard_normal(10)}
    assert statistics.judged(behind)[""].verdict == statistics.WORSE
    as_good = statistics.judged(behind, above=-0.005)[""]
    assert as_good.verdict == statistics.BETTER and as_good.mean == pytest.approx(-0.002, abs=1e-3)
    assert statistics.judged(behind, above=-0.0005)[""].verdict == statistics.WORSE
    assert (
        statistics.Judged(0.012, 0.004, 0.02, 0, "better").cell() == "+1.2 (+0.4 to +2.0), better"
    )


def test_a_gap_that_closes_because_train_gets_worse_is_no_merit():
    noise = 0.002 * np.random.default_rng(0).standard_normal((3, 2, 10))
    # Train and test loss of the whole batch, of parts of 32, and of 4, which closes the gap most.
    means = {0: (0.01, 0.18), 32: (0.01, 0.16), 4: (0.17, 0.24)}
    losses = {
        size: {"train": train + noise[n, 0], "test": test + noise[n, 1]}
        for n, (size, (train, test)) in enumerate(means.items())
    }
    best, found, verdict = normalization.ghosts_judged(losses, {0: 0.18, 32: 0.16, 4: 0.24})
    assert (best, verdict) == (32, "Holds")
    assert found["gap", 4].verdict == "better" and found["test", 4].verdict == "worse"
    losses[32], losses[4] = losses[4], losses[32]
    _, _, verdict = normalization.ghosts_judged(losses, {0: 0.18, 32: 0.16, 4: 0.24})
    assert verdict == "Holds in part: the gap closes; does not hold: the test loss falls"


def test_the_way_of_transfer_is_chosen_by_validation():
    validation = {"from scratch": 0.9, "head alone": 0.7, "fine-tuned": 0.8}
    assert transfer.best_transfer(validation) == "fine-tuned"


def test_the_edge_of_what_was_tried():
    assert statistics.at_edge(3, (1, 2, 3)) == "largest"
    assert statistics.at_edge(1, (3, 2, 1)) == "least"
    assert statistics.at_edge(2, (1, 2, 3)) == statistics.at_edge(1, (1,)) == ""
    chosen = {"`sgd`": (3.0, (1.0, 3.0)), "`adam`": (0.1, (0.01, 0.1, 1.0))}
    assert (
        statistics.edges(chosen) == " Best at the edge of what was tried: `sgd` (3, the largest)."
    )
    assert statistics.edges({"`adam`": chosen["`adam`"]}) == ""


def test_the_least_steps_are_found_without_going_on_for_the_others():
    taken, asked = {0.1: 50, 0.3: 20, 1.0: 90, 3.0: 1000}, []

    def steps(rate, seed, most):
        asked.append(most)
        return min(taken[rate] + seed % 2, most)

    assert least_steps(steps, list(taken), 400) == 0.3
    assert max(asked[3:]) <= 153 and max(asked[6:]) <= 63


def test_a_metric_ranks_what_it_is_asked_for():
    sure = {"accuracy": np.array([0.9, 0.9]), "loss": np.array([2.0, 2.0])}
    unsure = {"accuracy": np.array([0.8, 0.8]), "loss": np.array([0.5, 0.5])}
    diverged = {"accuracy": np.array([1.0, 1.0]), "loss": np.array([0.1, np.nan])}
    assert ranked(sure, "accuracy") > ranked(unsure, "accuracy") > ranked(diverged, "accuracy")
    assert ranked(unsure, "loss") > ranked(sure, "loss") > ranked(diverged, "loss")


def test_another_draw_is_trained_by_the_same_program():
    changes = {"model.hidden": (4,), "duration": "9 steps", "data.validation": 0.5}
    first = Net(changes)
    first.train()
    drawn, alone = first.drawn(3), Net(changes | {"data.split_seed": 3})
    assert drawn._programs is first._programs
    assert set(drawn.run.train.labels) == set(first.run.train.labels)
    assert not np.array_equal(drawn.run.train.inputs, first.run.train.inputs)
    for split in ("validation", "test"):
        scores = [net.score(net.train(seed=5)[0], split) for net in (drawn, alone)]
        assert scores[0] == scores[1]


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
