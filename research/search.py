"""Search hyper-parameters, or resume a search: python -m research.search --config=CONFIG.py.

The config is a training config with a section `search` (research/tuning/config.py).
"""

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
_NOT_ADAPTIVE = ("random", "grid", "sobol")


def main(argv: list[str]) -> int:
    """Run a search to its end; return exit code 0, or 3 if all trials diverged."""
    cli.refuse_arguments(argv)
    # Heavy imports come after the flags, so that a mistyped flag is answered at once.
    from research.config import flatten, trust, usage
    from research.tuning.methods import check_search

    config = _CONFIG.value
    trust.allow_named(flatten(config))
    space = check_search(config)
    import jax

    from research import platform, run_folder
    from research.json_files import write_json
    from research.reporting import search_page
    from research.reporting.messages import Messages
    from research.reporting.progress import SearchProgress
    from research.training import interruption
    from research.tuning import methods, results
    from research.tuning.ledger import Ledger
    from research.tuning.optuna_export import OptunaExport
    from research.tuning.reports import Objective
    from research.tuning.study import Study

    platform.enable_compilation_cache()
    if config.search.engine != "local":
        jax.config.update("jax_platforms", "cpu")  # leave the accelerators to the workers
    platform.check_devices()
    if os.environ.get(platform.PROCESSES):
        raise UserError(
            f"{platform.PROCESSES} is set: a search is one process, and starts others itself "
            "(config.search.engine, config.search.workers)"
        )
    name = Path(flags.FLAGS["config"].config_filename).stem
    workdir = Path(_WORKDIR.value or f"runs/{name}")
    messages = Messages(workdir)
    for key, value in config_flags.get_override_values(flags.FLAGS["config"]).items():
        messages.tell(f"config.{key} = {value!r}")
    for line in usage.warnings(flatten(ConfigDict({"search": config.search}))):
        messages.warn(f"warning: {line}")
    _tell_space(messages, config, space, methods.points_text(config.search, space))

    # A stop at any moment is safe: what is not in the ledger is trained again.
    with interruption.at_once(), run_folder.locked(workdir), ExitStack() as engine:
        config = _resolved(workdir, config, messages)
        trials = methods.budget(config.search, space)
        populations = _Populations(config, space, trials, messages, engine)
        _check_folder(workdir)
        if (workdir / "ledger.jsonl").exists():
            data = populations.fingerprint_here()
        else:
            data = populations.check()
        with Ledger(workdir / "ledger.jsonl") as ledger, SearchProgress() as progress:
            if ledger.replaying:
                messages.tell(f"going on with {workdir}")
            ledger.begin(config, data)
            ledger.commit()
            populations.data = ledger.data
            _write_config(workdir, config)
            objective = Objective.from_config(config)
            export = OptunaExport(workdir / "optuna_journal.log", space, objective)

            def follow(study):
                if populations.opened:  # before that it only repeats the ledger
                    export.update(study.trials)
                    _show(progress, study, config)

            study = Study(config, space, ledger, populations.open, follow)
            study.run()
            export.update(study.trials, at_once=True)
        if results.all_diverged(study.trials):
            write_json(workdir / "summary.json", results.summary(study.trials))
            search_page.write_report([workdir], workdir / "report.html")
            messages.warn(
                f"diverged: all {len(study.trials)} trials; to try instead: "
                f"{results.ranges_to_try(space, config)}"
            )
            return 3
        _finish(workdir, messages, config, space, study)
    return 0


def _resolved(workdir: Path, config, messages):
    """Return the config with numbers for automatic values: those that the search began with.

    A new search loads the data to decide and print them.
    """
    from research.config import as_in
    from research.tuning import folds, ledger_lines
    from research.tuning.methods import check_search

    began = ledger_lines.config_of(workdir / "ledger.jsonl")
    if began:
        config = as_in(began, config)
        check_search(config)  # a ledger may have been edited
        return config
    config, line = folds.sized(config)
    if line:
        messages.tell(line)
    return config


class _Populations:
    """The maker of the population of each static group; it prints their costs."""

    def __init__(self, config, space, trials: int, messages, engine: ExitStack):
        self._config, self._space, self._messages, self._engine = config, space, messages, engine
        self._trials = trials
        self._make = None  # of the engine, once needed: a finished search starts no workers
        self._warned: list[str] = []
        self._last = None  # the static values of the last population, and the population
        self.opened = 0
        self.data: dict = {}  # the fingerprint of the data that the search began with

    def fingerprint_here(self) -> dict:
        """Return the fingerprint of the data; {} and a printed reason if they cannot be loaded."""
        from research.tuning import folds

        values = next(iter(self._space.one_of_each_program()))
        search, config = self._config.search, self._space.program(self._config, values)
        try:
            return folds.fingerprint(config, search.folds, search.repeats, search.stratified)
        except UserError as error:
            self._messages.tell(f"its data were not compared with those it began with: {error}")
            return {}

    def check(self) -> dict:
        """Check all static groups before the search begins; return the fingerprint of the data.

        Raises:
          UserError: a group that cannot be trained.
        """
        for values in self._space.one_of_each_program():
            static = self._space.static(values)
            try:
                self._population(values).fitting()  # traces everything that will be computed
            except UserError as error:
                if not static:
                    raise
                values = ", ".join(f"{key} = {value!r}" for key, value in static.items())
                raise UserError(f"config.search.space: the program of {values}: {error}") from None
        return self._last[1].fingerprint()

    def open(self, values: dict, facts: dict | None):
        """Make a compiled population and its facts, as `Study` asks for them."""
        from research.data import identity

        population = self._population(values)
        identity.demand_same(
            self.data, population.fingerprint(), f"--workdir = {str(self._messages.workdir)!r}"
        )
        self.opened += 1
        for line in population.warnings:
            if line not in self._warned:
                self._messages.warn(f"warning: {line}")
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
        """Return the number of slots: that of the config, or what trials need and memory allows."""
        search, trials = self._config.search, self._trials
        # An adaptive sampler needs scores of some trials before it proposes the rest.
        wanted = trials if search.method in _NOT_ADAPTIVE else max(1, trials // 8)
        if search.lanes:
            return max(1, min(trials, search.lanes // population.lanes_of_slot))
        return min(wanted, population.fitting())

    def _tell_estimate(self, population) -> None:
        """Print the estimated cost before anything is compiled."""
        estimate = population.estimate()
        self._messages.tell(
            f"program {self.opened}: by its shapes about {estimate.memory / 2**20:,.0f} MB, and "
            f"about {self._all_trials(population, estimate.seconds)}; compiling"
        )

    def _tell(self, population, compile_seconds: float) -> None:
        """Print the measured cost after compilation."""
        several = population.chunk > 1
        how = f"{population.chunk} together" if several else "one after the other"
        self._messages.tell(
            f"program {self.opened}: {population.slots} trials at a time in "
            f"{population.slots * population.lanes_of_slot} lanes, {how}; "
            f"{population.memory() / 2**20:,.0f} MB; compiled in {_time(compile_seconds)}; "
            f"{self._all_trials(population, population.seconds())}"
        )

    def _all_trials(self, population, seconds: float) -> str:
        """Return '12.3 s for 64 trials, if all are trained to their end' or the like."""
        turns = -(-self._trials // population.slots) * self._config.search.segments
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
            self._make = self._engine.enter_context(
                engine(self._messages.workdir, self._messages.tell, self._messages.warn)
            )
        population = self._make(
            self._space.program(self._config, values),
            1,  # slots, until it is known how many fit
            segments=search.segments,
            folds=search.folds,
            repeats=search.repeats,
            seeds=search.seeds,
            stratified=search.stratified,
            mode=search.lane_mode,
        )
        if self._last is None:  # all have the same data
            for line in population.description():
                self._messages.tell(line)
        self._last = static, population
        return population


def _tell_space(messages, config, space, points: str) -> None:
    search, programs = config.search, space.programs()
    for line in space.description():
        messages.tell(line)
    if points:
        messages.tell(points)
    messages.tell(
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

    winner, search = results.best(study.trials), config.search
    lanes = search.folds * search.repeats * search.seeds  # of a trial
    best = f"best {results.score_text(config, winner)}" if winner else "none is finite"
    progress.update(
        done=sum(1 if trial.end else trial.segment / trial.segments for trial in study.trials),
        total=study.expected,
        ended=sum(bool(trial.end) for trial in study.trials),
        best=best,
        busy=study.busy * lanes,
        lanes=study.slots * lanes,
    )


def _finish(workdir: Path, messages, config, space, study) -> None:
    """Write `best.py`, `report.html` and `summary.json`, and print the results."""
    from research.json_files import write_json, write_text
    from research.reporting import search_page
    from research.tuning import results

    winner = results.best(study.trials)
    path = workdir / "best.py"
    command = f"python -m research.main --config={path}"
    docstring = f"The best of a search: {results.score_text(config, winner)}.\n\n{command}\n"
    write_text(path, results.config_file(results.as_config(config, winner), docstring))
    search_page.write_report([workdir], workdir / "report.html")
    write_json(workdir / "summary.json", results.summary(study.trials))

    def parameters(trial):
        return study.facts(trial)["parameters"]

    for line in results.lines(config, space, study.trials, parameters):
        messages.tell(line)
    messages.tell(f"all about it: {workdir / 'report.html'}")
    messages.tell(f"train the best one: {command}")


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    cli.run(main)
