"""The study: a state machine that asks a sampler for trials, trains them, and asks a scheduler.

It is deterministic except for proposals and scores, and the ledger records those. All decisions are
made at the ends of segments, for the trials of one static group at a time. Training states are not
in the ledger; a resumed search trains them again where it needs them (`static_group.py`).
"""

import dataclasses
import math
import statistics
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from research.config import tuples
from research.errors import UserError
from research.names import bind, resolve
from research.tuning import methods, schedulers
from research.tuning.ledger import Ledger
from research.tuning.reports import Objective, Report, standard_error
from research.tuning.spaces import Space
from research.tuning.static_group import ActiveTrial, StaticGroup
from research.tuning.trials import (
    DIVERGED,
    FINISHED,
    GO,
    REPLACED,
    STOP,
    STOPPED,
    WAIT,
    Proposal,
    Trial,
    Verdict,
    segments_of,
)

_NOT_REPORTED = ("event", "trial", "time")  # fields of a ledger line beside the report itself


class Study:
    """A search, from the first line of its ledger to the end of its last trial.

    Args:
      config: a training config with a section `search`.
      space: the space of that section.
      ledger: begun with this config.
      populate: (values, facts) -> (population, facts). It makes the compiled population for trials
        with the same static values, and the facts that decide what follows, whole numbers by name:
        'slots', 'chunk', 'parameters'. If the `facts` of an earlier start are given, the
        population must keep to them; else they are None.
      after_turn: called after each change.
    """

    def __init__(
        self,
        config: ConfigDict,
        space: Space,
        ledger: Ledger,
        populate: Callable[[dict, dict | None], tuple[Any, dict]],
        after_turn: Callable[["Study"], None] = lambda study: None,
    ):
        self._search, self._space, self._ledger = config.search, space, ledger
        self._populate, self._after_turn = populate, after_turn
        self._objective = Objective.from_config(config)
        self._sampler = methods.from_config(self._search)
        self._budget = methods.budget(self._search, space)
        self._scheduler = resolve("config.search.scheduler", self._search.scheduler, schedulers)
        self.trials: list[Trial] = []
        self.busy, self.slots = 0, 0  # slots that trained the last segment, and all of their group
        self._groups: dict[tuple, StaticGroup] = {}  # by static values
        self._waiting: list[ActiveTrial] = []  # parked by the scheduler

    def run(self) -> None:
        """Run to the end of the last trial.

        Raises:
          UserError: the ledger has a line that this search cannot have written.
        """
        while self._turn():
            self._ledger.commit()
            self._after_turn(self)
        self._ledger.check_over()

    @property
    def expected(self) -> int:
        """Return how many trials there will be; fewer than `total` if there are fewer points."""
        return self.total - self._ledger.trials + min(self._ledger.trials, self._budget)

    @property
    def total(self) -> int:
        """Return the planned number of trials, plus one for each copy that replaced a trial."""
        return self._ledger.trials + sum(t.proposal.parent is not None for t in self.trials)

    @property
    def replaying(self) -> bool:
        """Return whether the study still repeats what is in the ledger."""
        return self._ledger.replaying

    def facts(self, trial: Trial) -> dict:
        """Return the facts about the population that trained a trial."""
        return self._group(trial.values).facts

    def _turn(self) -> bool:
        """Train the trials of one group for a segment; return False if nothing is left to do."""
        busiest = max(self._groups.values(), key=lambda group: group.demand, default=None)
        if busiest is None or not busiest.demand:
            return self._ask(1, 1) or self._last_verdicts()
        self._refill(busiest)
        self._advance(busiest)
        return True

    def _refill(self, group: StaticGroup) -> None:
        """Fill the free slots of a group with its ready trials, then with new proposals.

        New trials may belong to other groups. It stops asking when too many trials wait.
        """
        self._decide_slots(group)
        while None in group.slots:
            free = group.slots.count(None)
            if not group.ready and not self._ask(free, len(group.slots)):
                return
            group.fill()

    def _ask(self, count: int, most: int) -> bool:
        """Add new trials: at most `count`, and at most `most` that wait; return whether any."""
        waiting = sum(len(group.ready) for group in self._groups.values())
        count = min(count, self.total - len(self.trials), most - waiting)
        if count <= 0:
            return False
        line = self._ledger.take("ask", count=count)
        if line is not None:
            for record in line["trials"]:
                self._space.check(_values(record), self._ledger.place)
        elif not self._ledger.replaying:
            proposals = self._propose(count)
            if proposals:
                numbered = enumerate(proposals, start=len(self.trials))
                records = [_record(number, proposal) for number, proposal in numbered]
                line = self._ledger.append("ask", count=count, trials=records)
        for record in line["trials"] if line else ():
            active = self._added(record, lineage=())
            active.group.ready.append(active)
        return line is not None

    def _propose(self, count: int) -> list[Proposal]:
        """Return the next points of `config.search.enqueue`, then proposals of the sampler.

        The sampler does not see copies of trials: they are no points of its own.
        """
        history = [trial for trial in self.trials if trial.proposal.parent is None]
        by_hand = self._search.enqueue[len(history) : len(history) + count]
        if by_hand:
            share = 1.0
            if self._search.method == "coarse_to_fine":
                # They belong to the current round: they have its length, and fit into its size.
                now = methods.rounds(self._search, self._space, history)[-1]
                most = count if now.last else min(count, now.left)
                share, by_hand = now.share, by_hand[: int(most)]
            return [Proposal(dict(point), share) for point in by_hand]
        return self._sampler(self._space, history, count, self._search.seed)

    def _added(self, record: dict, lineage: tuple) -> ActiveTrial:
        """Add the trial of a ledger record."""
        values = _values(record)
        proposal = Proposal(values, record["share"], record["parent"])
        trial = Trial(
            record["number"], proposal, segments_of(proposal.share, self._search.segments)
        )
        self.trials.append(trial)
        return ActiveTrial(trial, self._group(values), lineage or ((0, values),))

    def _group(self, values: dict) -> StaticGroup:
        static = tuple(self._space.static(values).items())
        new = StaticGroup(len(self._groups), values, self._space.traced, self._populate)
        return self._groups.setdefault(static, new)

    def _decide_slots(self, group: StaticGroup) -> None:
        """Measure how many slots a group has, once, and write it into the ledger."""
        if group.facts is not None:
            return
        # The ledger calls a group by what it compiles: a program.
        place = {"program": group.number, "values": self._space.static(group.values)}
        line = self._ledger.due("program", **place)
        if line is None:
            line = self._ledger.append("program", **place, facts=group.measured())
        elif not 0 < line["facts"]["slots"] <= self._ledger.trials:
            raise UserError(
                f"{self._ledger.place}: {line['facts']['slots']} slots (allowed: 1 to "
                f"{self._ledger.trials}, as many as trials)"
            )
        group.open_slots(line["facts"])

    def _advance(self, group: StaticGroup) -> None:
        """Train all trials in slots for a segment, record their scores, and judge them."""
        trials = group.running
        self.busy, self.slots = len(trials), len(group.slots)
        lines = {active: self._reported(active) for active in trials}
        due = [active for active in trials if lines[active] is None]
        if due:
            for active, report in group.train(due).items():
                lines[active] = self._ledger.append("report", **self._scored(active, report))
        for active in trials:
            fields = lines[active].items()
            active.trial.reports.append(
                {name: value for name, value in fields if name not in _NOT_REPORTED}
            )
        diverged = []
        for active in trials:
            if not lines[active]["finite"]:
                diverged.append((active, active.slot))
                self._end(active, DIVERGED)
            elif active.trial.segment == active.trial.segments:
                self._end(active, FINISHED)
        for active, slot in diverged:
            verdict = self._verdict(active, self.total)
            if isinstance(verdict, Proposal):
                self._copy(group, verdict, slot)
        for active in [active for active in trials if active.slot is not None] + self._waiting:
            self._judge(active, self.total)

    def _reported(self, active: ActiveTrial) -> dict | None:
        place = {"trial": active.trial.number, "segment": active.segment + 1, "slot": active.slot}
        return self._ledger.due("report", **place)

    def _scored(self, active: ActiveTrial, report: Report) -> dict:
        """Return the fields of a ledger line: means over the lanes of a trial."""
        scores = self._objective.of(report)
        return {
            "trial": active.trial.number,
            "segment": active.segment + 1,
            "step": report.step,
            "epoch": report.epoch,
            "slot": active.slot,
            "score": statistics.fmean(scores),
            "standard_error": standard_error(scores),
            "finite": bool(report.finite and all(map(math.isfinite, scores))),
            **{name: statistics.fmean(values) for name, values in report.metrics.items()},
            **({"scores": scores} if len(scores) > 1 else {}),
        }

    def _verdict(self, active: ActiveTrial, total: int) -> Verdict | Proposal:
        """Return the scheduler's verdict on a trial."""
        decide = bind(self._scheduler, self._search, {"trials": total})
        return decide(self._space, self.trials, active.trial, self._search.seed)

    def _judge(self, active: ActiveTrial, total: int) -> bool:
        """Carry out the scheduler's verdict on a trial; return whether it no longer waits."""
        verdict = self._verdict(active, total)
        waits = active.slot is None
        if verdict is STOP:
            self._end(active, STOPPED)
        elif verdict is WAIT and not waits:
            active.group.park(active)
            self._waiting.append(active)
        elif verdict is GO and waits:
            self._waiting.remove(active)
            active.group.ready.append(active)
        elif isinstance(verdict, Proposal):
            slot = active.slot
            self._end(active, REPLACED)
            self._copy(active.group, verdict, slot)
        return verdict is not WAIT

    def _copy(self, group: StaticGroup, proposal: Proposal, slot: int) -> None:
        """Give a free slot to a copy of a running trial, with other hyper-parameters."""
        record = _record(len(self.trials), proposal)
        line = self._ledger.append("replace", trials=[record])
        parent = next(active for active in group.running if active.trial.number == proposal.parent)
        copy = self._added(line["trials"][0], parent.lineage)
        copy.lineage += ((parent.segment, copy.trial.values),)
        group.copy(parent, copy, slot)

    def _last_verdicts(self) -> bool:
        """Judge the waiting trials again when nothing runs and no new trial will come."""
        changed = [self._judge(active, len(self.trials)) for active in list(self._waiting)]
        if changed and not any(changed):
            raise AssertionError(f"{self._search.scheduler}: trials wait for ever")
        return bool(changed)

    def _end(self, active: ActiveTrial, why: str) -> None:
        self._ledger.append("end", trial=active.trial.number, why=why)
        active.trial.end = why
        active.parked = None
        if active.slot is None:
            self._waiting.remove(active)
        else:
            active.group.leave(active)


def _values(record: dict) -> dict[str, Any]:
    """Return the hyper-parameters of a ledger record; JSON has lists for tuples."""
    return {key: tuples(value) for key, value in record["values"].items()}


def _record(number: int, proposal: Proposal) -> dict:
    """Return the ledger record of a trial."""
    return {"number": number, **dataclasses.asdict(proposal)}
