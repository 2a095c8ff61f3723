"""Search hyper-parameters, or go on with a search: python -m research.search --config=CONFIG.py.

The config is a training config with a section `search` (research/tuning/config.py).
"""

import math
import os
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from research import cli
from research.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run folder; default: runs/<config name>.")
_LEARN_NOTHING = ("random", "grid", "sobol")


def main(argv: list[str]) -> int:
    """Trains to the end of the last trial; exit code 0, or 3 (all diverged)."""
    cli.refuse_arguments(argv)
    # Heavy imports come after the flags, so that a mistyped flag is answered at once.
    from research.config import flatten, trust, usage
    from research.tuning.config import check_search

    config = _CONFIG.value
    trust.allow_named(flatten(config))
    space = check_search(config)
    import jax

    from research import platform, run_folder
    from research.json_files import write_json
    from research.reporting import search_page
    from research.reporting.progress import SearchProgress
    from research.reporting.voice import Voice
    from research.training import interruption
    from research.tuning import methods, results
    from research.tuning.ledger import Ledger
    from research.tuning.mirror import Mirror
    from research.tuning.study import Study

    platform.enable_compilation_cache()
    if config.search.engine != "local":
        jax.config.update("jax_platforms", "cpu")  # accelerators are the workers'
    platform.check_devices()
    if os.environ.get(platform.PROCESSES):
        raise UserError(
            f"{platform.PROCESSES} is set: a search is one process, and starts others itself "
            "(config.search.engine, config.search.workers)"
        )
    name = Path(flags.FLAGS["config"].config_filename).stem
    workdir = Path(_WORKDIR.value or f"runs/{name}")
    voice = Voice(workdir)
    for key, value in config_flags.get_override_values(flags.FLAGS["config"]).items():
        voice.tell(f"config.{key} = {value!r}")
    for line in usage.warnings(flatten(ConfigDict({"search": config.search}))):
        voice.warn(f"warning: {line}")
    _tell_space(voice, config, space, methods.points_told(config.search, space))

    # Nothing is lost at any moment: what is not in the ledger is trained again.
    with interruption.at_once(), run_folder.locked(workdir), ExitStack() as engine:
        config = _resolved(workdir, config, voice)
        trials = methods.budget(config.search, space)
        populations = _Populations(config, space, trials, voice, engine)
        _check_folder(workdir)
        if (workdir / "ledger.jsonl").exists():
            data = populations.fingerprint_here()
        else:
            data = populations.check()
        with Ledger(workdir / "ledger.jsonl") as ledger, SearchProgress() as progress:
            if ledger.replaying:
                voice.tell(f"going on with {workdir}")
            ledger.begin(config, data)
            ledger.commit()
            populations.data = ledger.data
            _write_config(workdir, config)
            mirror = Mirror(workdir / "optuna_journal.log", space, config.search.objective)

            def follow(study):
                if populations.opened:  # before, it only does again what is in the ledger
                    mirror.update(study.trials)
                    _show(progress, study, config)

            study = Study(config, space, ledger, populations.open, follow)
            study.run()
            mirror.update(study.trials, at_once=True)
        if results.all_diverged(study.trials):
            write_json(workdir / "summary.json", results.summary(study.trials))
            search_page.write_report([workdir], workdir / "report.html")
            voice.warn(
                f"diverged: all {len(study.trials)} trials; to try instead: "
                f"{results.ranges_to_try(space, config)}"
            )
            return 3
        _finish(workdir, voice, config, space, study)
    return 0


def _resolved(workdir: Path, config, voice):
    """Return the config with numbers for what follows the data: those that the search began with.

    A new search loads the data for it, and tells the numbers.
    """
    from research.config import as_in
    from research.tuning import folds, ledger
    from research.tuning.config import check_search

    began = ledger.config_of(workdir / "ledger.jsonl")
    if began:
        config = as_in(began, config)
        check_search(config)  # a ledger may have been edited
        return config
    config, line = folds.sized(config)
    if line:
        voice.tell(line)
    return config


class _Populations:
    """Opens the population of each program, and says what it costs."""

    def __init__(self, config, space, trials: int, voice, engine: ExitStack):
        self._config, self._space, self._voice, self._engine = config, space, voice, engine
        self._trials = trials
        self._make = None  # what makes them; a search that is over starts no workers
        self._warned: list[str] = []
        self._last = None  # static values of the one that was made last, and it
        self.opened = 0
        self.data: dict = {}  # the fingerprint of those that the search began with

    def fingerprint_here(self) -> dict:
        """Return the fingerprint of the data; {} and a printed reason if they cannot be loaded."""
        from research.tuning import folds

        values = next(iter(self._space.one_of_each_program()))
        search, config = self._config.search, self._space.program(self._config, values)
        try:
            return folds.fingerprint(config, search.folds, search.repeats, search.stratified)
        except UserError as error:
            self._voice.tell(f"its data were not compared with those it began with: {error}")
            return {}

    def check(self) -> dict:
        """Refuses, before a ledger is begun, what cannot be trained, of all programs.

        Returns:
          The fingerprint of the data.
        """
        for values in self._space.one_of_each_program():
            static = self._space.static(values)
            try:
                self._population(values).fitting()  # which looks at all that will be computed
            except UserError as error:
                if not static:
                    raise
                of = ", ".join(f"{key} = {value!r}" for key, value in static.items())
                raise UserError(f"config.search.space: the program of {of}: {error}") from None
        return self._last[1].fingerprint()

    def open(self, values: dict, facts: dict | None):
        """As `Study` asks for it."""
        from research.data import identity

        population = self._population(values)
        identity.demand_same(
            self.data, population.fingerprint(), f"--workdir = {str(self._voice.workdir)!r}"
        )
        self.opened += 1
        for line in population.warnings:
            if line not in self._warned:
                self._voice.warn(f"warning: {line}")
                self._warned.append(line)
        population.slots = facts["slots"] if facts else self._slots(population)
        self._tell_estimate(population)
        turns = self._trials / self._space.programs() / population.slots
        seconds = population.compile(facts and facts["chunk"], turns)
        self._tell(population, seconds)
        return population, facts or {
            "slots": population.slots,
            "chunk": population.chunk,
            "parameters": population.parameters(),
        }

    def _slots(self, population) -> int:
        """As many as trials ask for and memory allows; or as the config says."""
        search, trials = self._config.search, self._trials
        # A sampler that learns from scores needs some before it proposes the rest.
        wanted = trials if search.method in _LEARN_NOTHING else max(1, trials // 8)
        if search.lanes:
            return max(1, min(trials, search.lanes // population.lanes_of_slot))
        return min(wanted, population.fitting())

    def _tell_estimate(self, population) -> None:
        """Before anything is compiled."""
        found = population.estimate()
        self._voice.tell(
            f"program {self.opened}: by its shapes about {found.memory / 2**20:,.0f} MB, and about "
            f"{self._all_trials(population, found.seconds)}; compiling"
        )

    def _tell(self, population, compile_seconds: float) -> None:
        """Print what was measured, in the place of what was expected."""
        several = population.chunk > 1
        how = f"{population.chunk} together" if several else "one after the other"
        self._voice.tell(
            f"program {self.opened}: {population.slots} trials at a time in "
            f"{population.slots * population.lanes_of_slot} lanes, {how}; "
            f"{population.memory() / 2**20:,.0f} MB; compiled in {_time(compile_seconds)}; "
            f"{self._all_trials(population, population.seconds())}"
        )

    def _all_trials(self, population, seconds: float) -> str:
        """'12.3 s for 64 trials, if all are trained to their end', by the seconds of a piece."""
        turns = -(-self._trials // population.slots) * self._config.search.pieces
        return (
            f"{_time(turns * seconds)} for {self._trials} trials, if all are trained to their end"
        )

    def _population(self, values: dict):
        from research.names import bind, resolve
        from research.tuning import engines

        search, static = self._config.search, self._space.static(values)
        if self._last and self._last[0] == static:
            return self._last[1]
        if self._make is None:
            engine = bind(resolve("config.search.engine", search.engine, engines), search, {})
            self._make = self._engine.enter_context(engine(self._voice.workdir, self._voice))
        population = self._make(
            self._space.program(self._config, values),
            1,  # until it is known how many fit
            pieces=search.pieces,
            folds=search.folds,
            repeats=search.repeats,
            seeds=search.seeds,
            stratified=search.stratified,
            mode=search.lane_mode,
        )
        if self._last is None:  # the first: all have the same data
            for line in population.description():
                self._voice.tell(line)
        self._last = static, population
        return population


def _tell_space(voice, config, space, points: str) -> None:
    search = config.search
    voice.tell(f"space of {space.size} axes:")
    width = max(map(len, space.keys))
    for axis in space.axes:
        kind = "" if axis.kind in ("choice", "integer") else f"{axis.kind} "
        when = f", where {axis.when[0]} = {axis.when[1]!r}" if axis.when else ""
        static = "" if space.is_traced(axis.key) else "  (decides the program)"
        voice.tell(f"  {axis.key:{width}}  {kind}{axis.range}{when}{static}")
    programs = space.programs()
    if points:
        voice.tell(points)
    voice.tell(
        f"{search.trials} trials by {search.method}, scheduler {search.scheduler}; "
        f"{programs} program{'s' * (programs > 1)} to compile"
    )


def _check_folder(workdir: Path) -> None:
    if (workdir / "config.json").exists() and not (workdir / "ledger.jsonl").exists():
        raise UserError(
            f"--workdir = {str(workdir)!r} holds a run of research.main (allowed: a folder of a "
            "search, or a new one)"
        )


def _write_config(workdir: Path, config) -> None:
    from research import config as configuration
    from research import run_folder
    from research.json_files import write_text

    write_text(workdir / "config.json", configuration.to_json(config))
    run_folder.write_environment(workdir)


def _show(progress, study, config) -> None:
    from research.tuning import results

    found, search = results.best(study.trials), config.search
    lanes = search.folds * search.repeats * search.seeds  # of a trial
    best = f"best {_score_told(config, found)}" if found else "none is finite"
    progress.update(
        done=sum(1 if trial.end else trial.piece / trial.pieces for trial in study.trials),
        total=study.expected,
        ended=sum(bool(trial.end) for trial in study.trials),
        best=best,
        busy=study.busy * lanes,
        lanes=study.slots * lanes,
    )


def _finish(workdir: Path, voice, config, space, study) -> None:
    """Write `best.py`, `report.html` and `summary.json`, and print what was found."""
    from research.json_files import write_json, write_text
    from research.reporting import search_page
    from research.tuning import methods, results

    found = results.best(study.trials)
    path = workdir / "best.py"
    command = f"python -m research.main --config={path}"
    told = f"The best of a search: {_score_told(config, found)}.\n\n{command}\n"
    write_text(path, results.config_file(results.as_config(config, found), told))
    search_page.write_report([workdir], workdir / "report.html")
    summary = results.summary(study.trials)
    write_json(workdir / "summary.json", summary)

    ends = ", ".join(f"{summary[end]} {end}" for end in results.ENDS if summary[end])
    voice.tell(f"{summary['trials']} trials: {ends}")
    if not methods.left(config.search, space, study.trials):
        voice.tell("each point was tried once")
    voice.tell(f"best: {_score_told(config, found)}")
    voice.tell(f"  {results.command_line(results.overrides(config, found))}")
    if found.proposal.parent is not None:
        voice.tell(
            f"  it took over the weights of trial {found.proposal.parent}, which had other numbers "
            "(ledger.jsonl): trained from the start it may come out otherwise"
        )
    equals = results.within_one_standard_error(study.trials)
    if len(equals) > 1:
        parameters = {trial.number: study.facts(trial)["parameters"] for trial in equals}
        chosen = results.simplest(equals, space, parameters)
        voice.tell(
            f"{len(equals)} trials are within one standard error of it; the simplest: "
            f"{_score_told(config, chosen)}"
        )
        if chosen is not found:
            voice.tell(f"  {results.command_line(results.overrides(config, chosen))}")
    if config.search.method == "coarse_to_fine":
        for round_ in methods.rounds(config.search, space, study.trials):
            for line in round_.warnings():
                voice.tell(line)
    voice.tell(f"all about it: {workdir / 'report.html'}")
    voice.tell(f"train the best one: {command}")


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


def _score_told(config, trial) -> str:
    """'validation_loss 0.0812 +- 0.0031 (trial 12)'."""
    report = trial.reports[-1]
    value, error = report[config.search.objective], report["standard_error"]
    form = ".2%" if config.search.objective == "validation_accuracy" else ".4f"
    several = f" +- {error:{form}}" if math.isfinite(error) else ""  # lanes
    return f"{config.search.objective} {value:{form}}{several} (trial {trial.number})"


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    cli.run(main)
