"""Train one run from a config file, or resume it: python -m research.main --config=CONFIG.py."""

import contextlib
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
    import jax

    from research import platform, processes, run_folder
    from research.data.sources import Records
    from research.errors import UserError
    from research.reporting.progress import Progress, Silent
    from research.reporting.writers import (
        MetricWriter,
        append_history,
        median_throughput,
        read_jsonl,
    )
    from research.training import (
        advance,
        divergence,
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
    platform.join_processes()
    writing = processes.first()
    told, warn, record_history = print, _warn, append_history
    if not writing:
        told = warn = record_history = _nothing
    config = _CONFIG.value
    name = Path(flags.FLAGS["config"].config_filename).stem
    workdir = Path(_WORKDIR.value or f"runs/{name}")
    for key, value in config_flags.get_override_values(flags.FLAGS["config"]).items():
        told(f"config.{key} = {value!r}", flush=True)

    summary = run_folder.finished(workdir, config)
    if summary:
        told(f"{workdir} is finished")
        for key, value in summary.items():
            told(f"  {key}: {value}")
        return 0

    def failed(line):
        """Something could not be written."""
        if config.checkpoint.on_error == "stop":
            raise UserError(line)
        warn(f"{line}; training goes on")

    with interruption.at_once():
        run = setup.from_config(config, fitted_before(workdir, config))
        run.layout.check_batch(config)
        state = run.init()
        plan = run.plan()
        patience = hyperparameters.in_steps(config, "early_stopping.patience", len(run.train))
    with contextlib.ExitStack() as folder:
        opened = run_folder.opened(workdir, config, plan.total_steps)
        processes.alone(lambda: folder.enter_context(opened))
        with (
            interruption.noted(signal.SIGINT, signal.SIGTERM) as stopped,
            Checkpoints(workdir, failed=failed, snapshots=plan.snapshots) as checkpoints,
        ):
            batches = None
            if isinstance(run.train, Records):
                from research.data import stream

                rows = run.layout.local_rows(config.batch_size)
                batches = stream.training_batches(run.train, config.batch_size, config.seed, rows)
                beginning = batches.get_state()

            def begin(state, step=None):
                """The state of a checkpoint, its metadata; or the first state, and no metadata."""
                restored = None
                if step != 0:
                    restored = checkpoints.restore(lambda *_: state, step, batches, warn=warn)
                if restored:
                    return *restored, {}
                if batches is not None:
                    batches.set_state(beginning)
                transferred = {}
                if config.transfer.checkpoint:
                    state, transferred = transfer.start_from(run, state)
                return state, {}, transferred

            with interruption.at_once(stopped):
                state, metadata, transferred = begin(state)
                first = int(state.step)
                if metadata:
                    told(f"resuming {workdir} at step {first}")
                record_history(workdir, "resume" if metadata else "start", first)
                if transferred:
                    told(transfer.told(transferred))
                    record_history(workdir, "transfer", first, **transferred)
                rollbacks = metadata.get("rollbacks", 0)
                state = run.layout.place(divergence.slowed(state, rollbacks))
                compiling = time.perf_counter()
                if batches is None:
                    advance_steps = advance.over_arrays(run, state)
                else:
                    advance_steps = advance.over_batches(run, state, batches)
                evaluate = None
                if len(run.validation):
                    evaluate = evaluation.compiled_evaluator(
                        config, run.classes, run.validation, state
                    )
                healthy = jax.jit(divergence.healthy).lower(state).compile()
                compile_seconds = time.perf_counter() - compiling
            seconds_before = metadata.get("wall_seconds", 0.0)

            def wall_seconds() -> float:
                return seconds_before + time.perf_counter() - started

            def save(state, records):
                kept = {"class_names": list(run.class_names), "wall_seconds": wall_seconds()}
                kept["rollbacks"] = rollbacks
                record = records and records[early_stopping.deciding_split(config)]
                metrics = record and {f"validation_{of}": record[of] for of in ("accuracy", "loss")}
                planned = plan.saves_at(int(state.step))
                checkpoints.save(config, state, kept, metrics, batches, planned)

            steps_per_epoch = len(run.train) / config.batch_size
            done = False
            while not done:
                with (
                    MetricWriter(workdir, int(state.step)) if writing else Silent() as writer,
                    Progress(plan.total_steps, steps_per_epoch, int(state.step))
                    if writing
                    else Silent() as progress,
                ):
                    records = read_jsonl(workdir / "metrics.jsonl")
                    records = [record for record in records if record["step"] <= int(state.step)]

                    def write(record, writer=writer, records=records):
                        place = {"epoch": record["step"] / steps_per_epoch}
                        records.append(record)
                        try:
                            writer.write({**record, **place, "seconds": wall_seconds()})
                        except OSError as error:
                            failed(f"{workdir}/metrics.jsonl: {error.strerror}")

                    def judge(records=records):
                        return early_stopping.verdict(config, records, patience)

                    try:
                        state = loop.fit(
                            state,
                            plan,
                            advance=advance_steps,
                            healthy=healthy,
                            evaluate=evaluate,
                            save=save,
                            write=write,
                            progress=progress.update,
                            interrupted=lambda: bool(stopped),
                            pace=loop.Pace(config.compute.steps_per_dispatch),
                            judge=judge if patience else None,
                            agree=processes.agree,
                        )
                        done = True
                    except loop.Diverged as error:
                        diverged = error
                if not done:
                    last_rate = config.optimizer.learning_rate * 0.5**rollbacks
                    if config.on_divergence == "rollback" and rollbacks < config.max_rollbacks:
                        state, *_ = begin(run.init(), checkpoints.return_to(rollbacks))
                        rollbacks += 1
                        state = run.layout.place(divergence.slowed(state, rollbacks))
                        to, rate = int(state.step), last_rate / 2
                        details = {"to": to, "rollbacks": rollbacks, "learning_rate": rate}
                        record_history(workdir, "rollback", diverged.step, **details)
                        warn(
                            f"{diverged}; back to step {to} with config.optimizer.learning_rate = "
                            f"{rate:g} (rollback {rollbacks} of {config.max_rollbacks})"
                        )
                        continue
                    from research.training import culprit

                    state, *_ = begin(run.init())
                    state = run.layout.place(divergence.slowed(state, rollbacks))
                    step, layer = culprit.find(
                        run, diverged, state, advance_steps, lambda: bool(stopped)
                    )
                    record_history(workdir, "diverged", step, layer=layer)
                    where = f", first in {layer}" if layer else ""
                    warn(
                        f"diverged: {diverged.what} not finite at step {step}{where}; likely "
                        f"cause: {loop.likely_cause(config, step, last_rate)}"
                    )
                    return 3

        step = int(state.step)
        stopped_early = step < plan.total_steps and judge().enough
        if stopped_early:
            record_history(workdir, "stopped early", step)
            told(early_stopping.told(config, step, plan.total_steps))
        elif step < plan.total_steps:
            record_history(workdir, "interrupted", step)
            warn(f"interrupted at step {step}; the same command resumes")
            return 130
        with interruption.at_once():
            with Checkpoints(workdir, read_only=True) as checkpoints:
                earlier = plan.snapshots[:-1]
                snapshots = checkpoints.restore_each(lambda *_: state, earlier, warn)
                if patience:  # what early stopping finds is the best state, not the last
                    state, _ = checkpoints.restore(lambda *_: state, checkpoints.find("best"))
            tested = evaluation.test_and_picture(run, state, workdir, snapshots)
        summary = {
            **tested,
            "tested_step": int(state.step),
            "stopped_early": stopped_early,
            "steps": step,
            "epochs": step / steps_per_epoch,
            "compile_seconds": compile_seconds,
            "examples_per_second": median_throughput(workdir),
        }
        summary["wall_seconds"] = wall_seconds()
        processes.alone(lambda: run_folder.finish(workdir, summary))
    averaged = ""
    if "averaged_test_accuracy" in summary:
        averaged = f" (averaged weights {summary['averaged_test_accuracy']:.2%})"
    told(
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


def _nothing(*_, **__) -> None:
    pass


def _warn(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    cli.run(main)
