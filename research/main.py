"""Train one run from a config file, or resume it: python -m research.main --config=CONFIG.py."""

import signal
import sys
import time
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from research import cli

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run folder; default: runs/<config name>.")


def main(argv: list[str]) -> int:
    """Trains to the end of the config's duration; exit code 0, 3 (diverged) or 130."""
    started = time.perf_counter()
    cli.refuse_arguments(argv)
    # Heavy imports come after the flags, so that a mistyped flag is answered at once.
    from research import platform, run_folder
    from research.data.sources import Records
    from research.reporting.progress import Progress
    from research.reporting.writers import (
        MetricWriter,
        append_history,
        median_throughput,
        read_jsonl,
    )
    from research.training import (
        advance,
        early_stopping,
        evaluation,
        hyperparameters,
        interruption,
        loop,
        setup,
        transfer,
    )
    from research.training.checkpoints import Checkpoints, fitted_before

    platform.enable_compilation_cache()
    config = _CONFIG.value
    name = Path(flags.FLAGS["config"].config_filename).stem
    workdir = Path(_WORKDIR.value or f"runs/{name}")
    for key, value in config_flags.get_override_values(flags.FLAGS["config"]).items():
        print(f"config.{key} = {value!r}")

    summary = run_folder.finished(workdir, config)
    if summary:
        print(f"{workdir} is finished")
        for key, value in summary.items():
            print(f"  {key}: {value}")
        return 0

    run = setup.from_config(config, fitted_before(workdir, config))
    state = run.init()
    plan = run.plan()
    patience = hyperparameters.in_steps(config, "early_stopping.patience", len(run.train))
    with run_folder.opened(workdir, config, plan.total_steps):
        with (
            interruption.noted(signal.SIGINT, signal.SIGTERM) as stopped,
            Checkpoints(workdir, snapshots=plan.snapshots) as checkpoints,
        ):
            batches = None
            if isinstance(run.train, Records):
                from research.data import stream

                batches = stream.training_batches(run.train, config.batch_size, config.seed)
            restored = checkpoints.restore(lambda *_: state, iterator=batches, warn=_warn)
            state, metadata = restored or (state, {})
            first = int(state.step)
            if restored:
                print(f"resuming {workdir} at step {first}")
            append_history(workdir, "resume" if restored else "start", first)
            if config.transfer.checkpoint and not restored:
                state, report = transfer.start_from(run, state)
                print(transfer.told(report))
                append_history(workdir, "transfer", first, **report)
            seconds_before = metadata.get("wall_seconds", 0.0)

            def wall_seconds() -> float:
                return seconds_before + time.perf_counter() - started

            compiling = time.perf_counter()
            if batches is None:
                advance_steps = advance.over_arrays(run, state)
            else:
                advance_steps = advance.over_batches(run, state, batches)
            evaluate = None
            if len(run.validation):
                evaluate = evaluation.validation_evaluator(run, state)
            compile_seconds = time.perf_counter() - compiling

            def save(state, records):
                kept = {"class_names": list(run.class_names), "wall_seconds": wall_seconds()}
                record = records and records[early_stopping.deciding_split(config)]
                metrics = record and {f"validation_{of}": record[of] for of in ("accuracy", "loss")}
                checkpoints.save(config, state, kept, metrics, iterator=batches)

            steps_per_epoch = len(run.train) / config.batch_size
            with (
                MetricWriter(workdir, first) as writer,
                Progress(plan.total_steps, steps_per_epoch, first) as progress,
            ):
                records = read_jsonl(workdir / "metrics.jsonl")

                def write(record):
                    place = {"epoch": record["step"] / steps_per_epoch, "seconds": wall_seconds()}
                    writer.write({**record, **place})
                    records.append(record)

                def judge():
                    return early_stopping.verdict(config, records, patience)

                try:
                    state = loop.fit(
                        state,
                        plan,
                        advance=advance_steps,
                        evaluate=evaluate,
                        save=save,
                        write=write,
                        progress=progress.update,
                        interrupted=lambda: bool(stopped),
                        pace=loop.Pace(config.compute.steps_per_dispatch),
                        judge=judge if patience else None,
                    )
                except loop.Diverged as error:
                    append_history(workdir, "diverged", error.step)
                    _warn(f"diverged: {error}; likely cause: {error.likely_cause(config)}")
                    return 3

        step = int(state.step)
        stopped_early = step < plan.total_steps and judge().enough
        if stopped_early:
            append_history(workdir, "stopped early", step)
            print(early_stopping.told(config, step, plan.total_steps))
        elif step < plan.total_steps:
            append_history(workdir, "interrupted", step)
            _warn(f"interrupted at step {step}; the same command resumes")
            return 130
        with Checkpoints(workdir, read_only=True) as checkpoints:
            snapshots = checkpoints.restore_each(lambda *_: state, plan.snapshots[:-1], _warn)
            if patience:  # what early stopping finds is the best state, not the last
                state, _ = checkpoints.restore(lambda *_: state, checkpoints.find("best"))
        summary = {
            **evaluation.test_and_picture(run, state, workdir, snapshots),
            "tested_step": int(state.step),
            "stopped_early": stopped_early,
            "steps": step,
            "epochs": step / steps_per_epoch,
            "compile_seconds": compile_seconds,
            "examples_per_second": median_throughput(workdir),
        }
        run_folder.finish(workdir, {**summary, "wall_seconds": wall_seconds()})
    averaged = ""
    if "averaged_test_accuracy" in summary:
        averaged = f" (averaged weights {summary['averaged_test_accuracy']:.2%})"
    print(
        f"test accuracy {summary['test_accuracy']:.2%}{averaged}, loss {summary['test_loss']:.4f}"
        f"{_beside_members(summary)}: {workdir}/report.html"
    )
    return 0


def _beside_members(summary: dict) -> str:
    """What the members of an ensemble are worth, each alone; '' where there is one network."""
    if "members" not in summary:
        return ""
    mean, spread = summary["members_mean"], summary["members_spread"]
    return (
        f", calibration error {summary['test_ece']:.4f} by averaged predictions (each of "
        f"{len(summary['members'])} alone: accuracy {mean['test_accuracy']:.2%} +- "
        f"{spread['test_accuracy']:.2%}, loss {mean['test_loss']:.4f}, calibration error "
        f"{mean['test_ece']:.4f})"
    )


def _warn(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    cli.run(main)
