"""A search as its report sees it: everything comes from the ledger in its folder."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from research.config import flatten, trust, tuples
from research.errors import UserError
from research.json_files import read_json
from research.tuning import ledger_lines, methods
from research.tuning.axes import parsed
from research.tuning.config import check_section, completed
from research.tuning.reports import Objective
from research.tuning.spaces import Space
from research.tuning.trials import RUNNING, Proposal, Trial, segments_of


@dataclasses.dataclass
class Stay:
    """A trial in a slot, over some turns. In a turn all slots of one program train a segment."""

    trial: int
    program: int
    slot: int
    first: int  # turn, from 0
    last: int
    segment: int  # the last that it trained there


@dataclasses.dataclass(frozen=True)
class Search:
    """The content of a ledger; of a search that still runs, so far."""

    name: str
    folder: Path
    config: ConfigDict
    objective: Objective
    space: Space
    trials: list[Trial]
    total: int  # trials there are to be, without copies that take another's place
    stays: list[Stay]
    seconds: float  # from the first line of the ledger to the last, pauses included
    environment: dict

    @property
    def lanes(self) -> int:
        """Return how often each trial is trained."""
        search = self.config.search
        return search.folds * search.repeats * search.seeds

    @property
    def over(self) -> bool:
        """Return whether all trials have ended, and no more will come."""
        ended = all(trial.end != RUNNING for trial in self.trials)
        return ended and (len(self.trials) >= self.total or not self.left)

    @functools.cached_property
    def left(self) -> float:
        """Return the number of points that were not tried, as `methods.left`."""
        return methods.left(self.config.search, self.space, self.trials)

    @property
    def settings(self) -> dict[str, Any]:
        """Return the section `search` of the config, flat."""
        return flatten(self.config.search)

    def epochs(self, trial: Trial) -> float:
        """Return the epochs a trial trained, over all its lanes, without those of its parent."""
        if not trial.reports:
            return 0.0
        first, last = trial.reports[0], trial.reports[-1]
        taken_over = first["epoch"] * (first["segment"] - 1) / first["segment"]
        return (last["epoch"] - taken_over) * self.lanes


def read_search(folder: Path) -> Search:
    """Read the folder of a search, which may still run.

    Raises:
      UserError: the folder holds no search, or its ledger is damaged.
    """
    path = Path(folder) / "ledger.jsonl"
    if not path.exists():
        raise UserError(f"{str(folder)!r} is not the folder of a search (it has no ledger.jsonl)")
    lines = ledger_lines.read(path)
    starts = [line for line in lines if line["event"] == "study"]
    if not starts or lines[0] is not starts[0]:
        raise UserError(f"{path}: no search has begun there")
    config = ConfigDict(_tupled(completed(starts[0]["config"])))
    try:
        check_section(config)
    except UserError as error:
        raise UserError(f"{path}, line 1: damaged: {error}") from None
    # A report looks up how the search went about it, and nothing of what was trained.
    trust.check(flatten(ConfigDict({"search": config.search})), str(path))
    config.search.trials = starts[-1]["trials"]  # they may have grown
    space = Space(tuple(map(parsed, config.search.space)))
    trials = trials_of(lines, config.search.segments)
    environment = Path(folder) / "environment.json"
    times = [line["time"] for line in lines if "time" in line]
    return Search(
        name=Path(folder).resolve().name,
        folder=Path(folder),
        config=config,
        objective=Objective.from_ledger({**starts[0], "config": config}),
        space=space,
        trials=trials,
        total=methods.budget(config.search, space)
        + sum(trial.proposal.parent is not None for trial in trials),
        stays=stays_of(lines, trials, space),
        seconds=times[-1] - times[0] if times else 0.0,
        environment=read_json(environment) if environment.exists() else {},
    )


def trials_of(lines: Sequence[dict], segments: int) -> list[Trial]:
    """Return the trials of a ledger, in the order of their numbers.

    Args:
      lines: of the ledger.
      segments: `config.search.segments`, of a trial that trains for all of the duration.
    """
    trials: list[Trial] = []
    for line in lines:
        if line["event"] in ("ask", "replace"):
            for entry in line["trials"]:
                proposal = Proposal(_tupled(entry["values"]), entry["share"], entry["parent"])
                trials.append(
                    Trial(entry["number"], proposal, segments_of(entry["share"], segments))
                )
        elif line["event"] == "report":
            trials[line["trial"]].reports.append(line)
        elif line["event"] == "end":
            trials[line["trial"]].end = line["why"]
    return trials


def stays_of(lines: Sequence[dict], trials: Sequence[Trial], space: Space) -> list[Stay]:
    """Return which trial was in which slot, and when.

    The reports of a turn stand together. The next turn begins with any other event, another
    program, or a trial or a slot that reports again.
    """
    programs: dict[tuple, int] = {}
    stays: list[Stay] = []
    standing: dict[tuple[int, int], tuple[Stay, int]] = {}
    turn, turns = -1, Counter()  # of all programs, and of each
    reported: set[tuple[str, int]] = set()  # in this turn, by the program `now`
    now = None
    for line in lines:
        if line["event"] != "report":
            if line["event"] != "study":
                now = None
            continue
        trial = line["trial"]
        static = tuple(space.static(trials[trial].values).items())
        program = programs.setdefault(static, len(programs))
        report = {("trial", trial), ("slot", line["slot"])}
        if program != now or report & reported:
            turn, now, reported = turn + 1, program, set()
            turns[program] += 1
        reported |= report
        stay, until = standing.get((program, line["slot"]), (None, 0))
        if stay and stay.trial == trial and until == turns[program] - 1:
            stay.last, stay.segment = turn, line["segment"]
        else:
            stay = Stay(trial, program, line["slot"], turn, turn, line["segment"])
            stays.append(stay)
        standing[program, line["slot"]] = stay, turns[program]
    return stays


def _tupled(value: Any) -> Any:
    """Return a JSON value with its lists as tuples, which the config uses."""
    if isinstance(value, dict):
        return {key: _tupled(inner) for key, inner in value.items()}
    return tuples(value)
