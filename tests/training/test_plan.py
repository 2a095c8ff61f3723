"""When things happen."""

import hypothesis
from hypothesis import strategies as st

from research.training import setup
from research.training.plan import Plan


@hypothesis.given(
    st.integers(1, 300), *(st.floats(1, 400) for _ in range(3)), st.sets(st.integers(1, 300))
)
def test_the_plan_stops_at_every_rounded_multiple_and_at_the_end(
    total, log, evaluate, save, snapshots
):
    snapshots = tuple(step for step in snapshots if step <= total)
    plan, step, stops = Plan(total, log, evaluate, save, snapshots), 0, []
    while step < total:
        step = plan.next_stop(step)
        stops.append(step)
    wanted = {total, *snapshots}
    for every in (log, evaluate, save):
        wanted |= {round(k * every) for k in range(1, int(total / every) + 2)}
    assert stops == sorted(stop for stop in wanted if stop <= total)

    def is_due(stop: int, every: float) -> bool:
        return any(round(k * every) == stop for k in range(1, total + 1))

    for stop in range(1, total + 1):
        assert plan.logs_at(stop) == (is_due(stop, log) or stop == total)
        always = stop == total or stop in snapshots
        evaluates, saves = is_due(stop, evaluate), is_due(stop, save)
        # The more frequent of these two comes with the rarer one too; the rarer one alone.
        assert plan.evaluates_at(stop) == (always or evaluates or (saves and evaluate <= save))
        assert plan.saves_at(stop) == (always or saves or (evaluates and save <= evaluate))
        assert plan.may_return_to(stop) == (always or saves)


def test_the_fifth_epoch_of_one_is_the_first_of_five():
    plan = Plan(1000, 10.17, 10.17, 5 * 10.17)
    assert plan.logs_at(51) and plan.saves_at(51)


def test_without_a_validation_split_nothing_is_saved_for_an_evaluation(moons):
    config = moons.config.copy_and_resolve_references()
    config.duration, config.evaluate_every, config.checkpoint.every = (
        "9 steps",
        "4 steps",
        "3 steps",
    )
    for validation, saves in ((0.0, [3, 6, 9]), (0.1, [3, 4, 6, 8, 9])):
        config.data.validation = validation
        plan = setup.from_config(config).plan()
        assert [step for step in range(1, 10) if plan.saves_at(step)] == saves
