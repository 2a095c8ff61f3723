"""The study: a state machine that asks a sampler, trains in populations, and hears a scheduler.

It is deterministic but for proposals and scores, and those are in the ledger: see there. All
decisions are made at the ends of pieces, for the trials of one program at a time. What is not in
the ledger, the states in the lanes, is trained again where it is needed: see `programs.py`.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable
from typing import Any

from ml_collections import ConfigDict

from research.config import tuples
from research.errors import UserError
from research.names import bind, resolve
from research.tuning import methods, schedulers
from research.tuning.ledger import Ledger
from research.tuning.programs import Program, Run
from research.tuning.slots import Report
from research.tuning.spaces import Space
from research.tuning.trials import (
    DIVERGED,
    FINISHED,
    GO,
    METRICS,
    REPLACED,
    STOP,
    STOPPED,
    WAIT,
    Proposal,
    Trial,
    Verdict,
    pieces_of,
)

_PLACE = ("event", "trial", "time")  # in the ledger; the rest of a line is the report


class Study:
    """A search, from its ledger's first line to its last trial.

    Args:
      config: a training config with a section `search`.
      space: of that section.
      ledger: begun with this config.
      populate: (values, facts) -> the population that trains trials with the same static values,
        compiled, and the facts about it that decide what comes, whole numbers by name: 'slots',
        'chunk', 'parameters'. `facts` is None, or those of an earlier start, to which the
        population is then held.
      after_turn: is called whenever something happened.
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
        self._sampler = methods.from_config(self._search)
        self._budget = methods.budget(self._search, space)
        self._scheduler = resolve("config.search.scheduler", self._search.scheduler, schedulers)
        self.trials: list[Trial] = []
        self.busy, self.slots = 0, 0  # that trained a piece just now, of so many of their program
        self._programs: dict[tuple, Program] = {}
        self._waiting: list[Run] = []  # for the scheduler

    def run(self) -> None:
        """To the end of the last trial.

        Raises:
          UserError: the ledger has a line that this search cannot have written.
        """
        while self._turn():
            self._ledger.commit()
            self._after_turn(self)
        self._ledger.check_over()

    @property
    def expected(self) -> int:
        """Return how many trials there will be; fewer than `total` where there are fewer points."""
        return self.total - self._ledger.trials + min(self._ledger.trials, self._budget)

    @property
    def total(self) -> int:
        """Return the planned number of trials, plus one for each copy that replaced a trial."""
        return self._ledger.trials + sum(t.proposal.parent is not None for t in self.trials)

    @property
    def replaying(self) -> bool:
        """Whether it is still doing what it did before."""
        return self._ledger.replaying

    def facts(self, trial: Trial) -> dict:
        """Return what the population that trained it is like."""
        return self._program(trial.values).facts

    def _turn(self) -> bool:
        """One piece of the trials of a program; False: there is nothing left to do."""
        busiest = max(self._programs.values(), key=lambda program: program.demand, default=None)
        if busiest is None or not busiest.demand:
            return self._ask(1, 1) or self._last_verdicts()
        self._refill(busiest)
        self._advance(busiest)
        return True

    def _refill(self, program: Program) -> None:
        """Trials of this program go first; others are asked for until too many of them wait."""
        self._decide_slots(program)
        while None in program.slots:
            free = program.slots.count(None)
            if not program.ready and not self._ask(free, len(program.slots)):
                return
            program.fill()

    def _ask(self, count: int, most: int) -> bool:
        """Add new trials, as many as are left to be tried, and no more than may wait."""
        waiting = sum(len(program.ready) for program in self._programs.values())
        count = min(count, self.total - len(self.trials), most - waiting)
        if count <= 0:
            return False
        line = self._ledger.take("ask", count=count)
        if line is not None:
            for told in line["trials"]:
                self._space.check(_values(told), self._ledger.place)
        elif not self._ledger.replaying:
            proposals = self._propose(count)
            if proposals:
                numbered = enumerate(proposals, start=len(self.trials))
                asked = [_told(number, proposal) for number, proposal in numbered]
                line = self._ledger.append("ask", count=count, trials=asked)
        for told in line["trials"] if line else ():
            run = self._added(told, lineage=())
            run.program.ready.append(run)
        return line is not None

    def _propose(self, count: int) -> list[Proposal]:
        """By hand, then by the sampler; copies are no points of its own."""
        history = [trial for trial in self.trials if trial.proposal.parent is None]
        by_hand = self._search.enqueue[len(history) : len(history) + count]
        if by_hand:
            share = 1.0
            if self._search.method == "coarse_to_fine":
                # As short as those that they are compared with, and no more than the round takes.
                now = methods.rounds(self._search, self._space, history)[-1]
                most = count if now.last else min(count, now.left)
                share, by_hand = now.share, by_hand[: int(most)]
            return [Proposal(dict(point), share) for point in by_hand]
        return self._sampler(self._space, history, count, self._search.seed)

    def _added(self, told: dict, lineage: tuple) -> Run:
        """Return a trial of the ledger's words."""
        values = _values(told)
        proposal = Proposal(values, told["share"], told["parent"])
        trial = Trial(told["number"], proposal, pieces_of(proposal.share, self._search.pieces))
        self.trials.append(trial)
        return Run(trial, self._program(values), lineage or ((0, values),))

    def _program(self, values: dict) -> Program:
        static = tuple(self._space.static(values).items())
        new = Program(len(self._programs), values, self._space.traced, self._populate)
        return self._programs.setdefault(static, new)

    def _decide_slots(self, program: Program) -> None:
        """How many slots a program has is measured once, and written down."""
        if program.facts is not None:
            return
        told = {"program": program.number, "values": self._space.static(program.values)}
        line = self._ledger.due("program", **told)
        if line is None:
            line = self._ledger.append("program", **told, facts=program.measured())
        elif not 0 < line["facts"]["slots"] <= self._ledger.trials:
            raise UserError(
                f"{self._ledger.place}: {line['facts']['slots']} slots (allowed: 1 to "
                f"{self._ledger.trials}, as many as trials)"
            )
        program.open_slots(line["facts"])

    def _advance(self, program: Program) -> None:
        """Trains all that have a slot for a piece, takes their scores down, and judges them."""
        runs = program.running
        self.busy, self.slots = len(runs), len(program.slots)
        known = {run: self._reported(run) for run in runs}
        due = [run for run in runs if known[run] is None]
        if due:
            for run, report in program.train(due).items():
                known[run] = self._ledger.append("report", **self._scored(run, report))
        for run in runs:
            told = known[run].items()
            run.trial.reports.append({name: said for name, said in told if name not in _PLACE})
        diverged = []
        for run in runs:
            if not known[run]["finite"]:
                diverged.append((run, run.slot))
                self._end(run, DIVERGED)
            elif run.trial.piece == run.trial.pieces:
                self._end(run, FINISHED)
        for run, slot in diverged:
            verdict = self._verdict(run, self.total)
            if isinstance(verdict, Proposal):
                self._copy(run.program, verdict, slot)
        for run in [run for run in runs if run.slot is not None] + self._waiting:
            self._judge(run, self.total)

    def _reported(self, run: Run) -> dict | None:
        place = {"trial": run.trial.number, "piece": run.piece + 1, "slot": run.slot}
        return self._ledger.due("report", **place)

    def _scored(self, run: Run, report: Report) -> dict:
        """Return a line of the ledger: means over the lanes of a trial."""
        metrics = {name: getattr(report, name) for name in METRICS}
        scores = score(self._search.objective, metrics[self._search.objective])
        return {
            "trial": run.trial.number,
            "piece": run.piece + 1,
            "step": report.step,
            "epoch": report.epoch,
            "slot": run.slot,
            "score": statistics.fmean(scores),
            "standard_error": standard_error(scores),
            "finite": bool(report.finite and all(map(math.isfinite, scores))),
            **{name: statistics.fmean(values) for name, values in metrics.items()},
            **({"scores": scores} if len(scores) > 1 else {}),
        }

    def _verdict(self, run: Run, total: int) -> Verdict | Proposal:
        """Return what the scheduler says of a trial."""
        decide = bind(self._scheduler, self._search, {"trials": total})
        return decide(self._space, self.trials, run.trial, self._search.seed)

    def _judge(self, run: Run, total: int) -> bool:
        """Do what the scheduler says of a trial; return whether it no longer waits."""
        verdict = self._verdict(run, total)
        waits = run.slot is None
        if verdict is STOP:
            self._end(run, STOPPED)
        elif verdict is WAIT and not waits:
            run.program.park(run)
            self._waiting.append(run)
        elif verdict is GO and waits:
            self._waiting.remove(run)
            run.program.ready.append(run)
        elif isinstance(verdict, Proposal):
            slot = run.slot
            self._end(run, REPLACED)
            self._copy(run.program, verdict, slot)
        return verdict is not WAIT

    def _copy(self, program: Program, proposal: Proposal, slot: int) -> None:
        """Give a free slot to a copy of a trial that runs, with other numbers."""
        told = _told(len(self.trials), proposal)
        line = self._ledger.append("replace", trials=[told])
        parent = next(run for run in program.running if run.trial.number == proposal.parent)
        copy = self._added(line["trials"][0], parent.lineage)
        copy.lineage += ((parent.piece, copy.trial.values),)
        program.copy(parent, copy, slot)

    def _last_verdicts(self) -> bool:
        """Nothing runs and nothing new will come: those that waited for more wait in vain."""
        changed = [self._judge(run, len(self.trials)) for run in list(self._waiting)]
        if changed and not any(changed):
            raise AssertionError(f"{self._search.scheduler}: trials wait for ever")
        return bool(changed)

    def _end(self, run: Run, why: str) -> None:
        self._ledger.append("end", trial=run.trial.number, why=why)
        run.trial.end = why
        run.parked = None
        if run.slot is None:
            self._waiting.remove(run)
        else:
            run.program.leave(run)


def score(objective: str, values: Iterable[float]) -> list[float]:
    """Of an objective's values, so that less is better: the loss, or the share of errors."""
    return [1 - value if objective == "validation_accuracy" else value for value in values]


def standard_error(values: list[float]) -> float:
    """Of the mean of values taken as independent; NaN of a single one, or of what is not finite."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return math.nan
    return statistics.stdev(values) / math.sqrt(len(values))


def _values(told: dict) -> dict[str, Any]:
    """Of a trial in the ledger's words."""
    return {key: tuples(value) for key, value in told["values"].items()}


def _told(number: int, proposal: Proposal) -> dict:
    return {"number": number, **dataclasses.asdict(proposal)}
