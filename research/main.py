"""Train one run from a config file, or resume it: python -m research.main --config=CONFIG.py."""

import contextlib
import functools
import json
import signal
import time
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from research import cli
from research.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run folder; default: runs/<config name>.")


def main(argv: list[str]) -> int:
    """Trains to the end of the config's duration; exit code 0, 3 (diverged) or 130."""
    started = time.perf_counter()
    cli.refuse_arguments(argv)
    if "search" in _CONFIG.value:
        path = flags.FLAGS["config"].config_filename
        raise UserError(
            f"config.search: main trains one run; python -m research.search --config={path} "
            "searches"
        )
    # Heavy imports come after the flags, so that a mistyped flag is answered at once.
    from research import platform, processes, run_folder
    from research.reporting.records import read_metrics
    from research.reporting.voice import Voice
    from research.session import Session
    from research.training import (
        averages,
        batch_statistics,
        convergence,
        early_stopping,
        evaluation,
        interruption,
        setup,
    )
    from research.training.checkpoints import Checkpoints

    platform.enable_compilation_cache()
    config = _CONFIG.value
    with interruption.at_once():
        platform.join_processes()
        processes.demand_alike("--configs", config.to_json_best_effort())
        processes.demand_alike("--workdirs", str(_WORKDIR.value))
    name = Path(flags.FLAGS["config"].config_filename).stem
    workdir = Path(_WORKDIR.value or f"runs/{name}")
    voice = Voice(workdir, speaking=processes.first())
    for key, value in config_flags.get_override_values(flags.FLAGS["config"]).items():
        voice.tell(f"config.{key} = {value!r}")

    with interruption.at_once():
        summary = run_folder.finished(
            workdir, config, lambda: setup.fingerprint(config), voice.tell
        )
    if summary:
        voice.tell(f"{workdir} is finished")
        for key, value in summary.items():
            if not isinstance(value, (dict, list)):  # these are for programs
                voice.tell(f"  {key}: {value}")
        return 0

    with interruption.at_once():
        check = functools.partial(run_folder.check_data, workdir, config)
        run = setup.from_config(config, workdir, check=check)
        config = run.config
        processes.demand_alike("data", json.dumps(run.fingerprint()))
        for line in run.description():
            voice.tell(line)
        for line in run.warnings():
            voice.warn(f"warning: {line}")
        run.layout.check_batch(config, len(run.train))
        batch_statistics.check(run)
        first = run.init()
        plan = run.plan()
    with contextlib.ExitStack() as folder:
        opened = run_folder.opened(workdir, config, plan.total_steps, run.fingerprint)
        processes.alone(lambda: folder.enter_context(opened))
        with (
            interruption.noted(signal.SIGINT, signal.SIGTERM) as stopped,
            Checkpoints(
                workdir, failed=lambda line: session.failed(line), snapshots=plan.snapshots
            ) as checkpoints,
        ):
            session = Session(run, plan, workdir, checkpoints, voice, stopped, started)
            session.begin(first)
            state = session.train()
            if state is None:
                processes.alone(lambda: run_folder.end_diverged(workdir, session.divergence))
                voice.tell(f"{workdir}/report.html")
                return 3

        step = int(state.step)
        stopped_early = step < plan.total_steps and session.enough
        if stopped_early:
            voice.record("stopped early", step)
            voice.tell(early_stopping.told(config, session.records, step, plan.total_steps))
        elif step < plan.total_steps:
            voice.record("interrupted", step)
            voice.warn(f"interrupted at step {step}; the same command resumes")
            return 130
        with interruption.at_once(stopped):  # also of a signal that came with the last steps
            with Checkpoints(workdir, read_only=True) as checkpoints:
                last, earlier = state, plan.snapshots[:-1]
                snapshots = list(checkpoints.restore_each(lambda *_: last, earlier, voice.warn))
                if session.best_is_tested:
                    best = checkpoints.best_first()
                    state = next(checkpoints.restore_each(lambda *_: last, best, voice.warn), last)
            tested = evaluation.test_and_picture(run, state, workdir, snapshots)
        summary = {
            **tested,
            "tested_step": int(state.step),
            "stopped_early": stopped_early,
            **session.costs(step),
            "data": run.fingerprint(),
        }
        processes.alone(lambda: run_folder.finish(workdir, summary))
    if averages.kept(config) and "averaged_test_accuracy" not in summary:
        voice.tell(
            f"no weights were averaged by step {summary['tested_step']}: config.averaging.name = "
            f"{config.averaging.name!r}, config.averaging.start = {config.averaging.start!r}, "
            f"config.averaging.every = {config.averaging.every!r}"
        )
    split = early_stopping.deciding_split(config)
    fall = convergence.still_falling(read_metrics(workdir), split, run.classes)
    if fall and not stopped_early:
        voice.tell(convergence.told(*fall))
    if summary["test_accuracy"] <= summary["test_majority_share"]:
        voice.warn(
            f"warning: test accuracy {summary['test_accuracy']:.2%} does not beat always answering "
            f"the most frequent class, {summary['test_majority_share']:.2%}"
        )
    voice.tell(f"{_result(summary)}: {workdir}/report.html")
    return 0


def _result(summary: dict) -> str:
    """The last line's figures."""
    averaged = ""
    if "averaged_test_accuracy" in summary:
        averaged = f" (averaged weights {summary['averaged_test_accuracy']:.2%})"
    return (
        f"test accuracy {summary['test_accuracy']:.2%}{averaged}, loss {summary['test_loss']:.4f}"
        f"{_beside_members(summary)}"
    )


def _beside_members(summary: dict) -> str:
    """Return the figures of the members of an ensemble, each alone; '' for one network."""
    if "members" not in summary:
        return ""
    mean, spread = summary["members_mean"], summary["members_spread"]
    return (
        f", calibration error {summary['test_ece']:.4f} by averaged predictions (each of "
        f"{len(summary['members'])} alone: accuracy {mean['test_accuracy']:.2%} +- "
        f"{spread['test_accuracy']:.2%}, loss {mean['test_loss']:.4f}, calibration error "
        f"{mean['test_ece']:.4f})"
    )


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    cli.run(main)
