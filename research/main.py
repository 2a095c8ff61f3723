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
    import jax

    from research import platform, run_folder
    from research.data.sources import Records
    from research.errors import UserError
    from research.reporting.progress import Progress
    from research.reporting.writers import MetricWriter, append_history, median_throughput
    from research.training import (
        advance,
        divergence,
        evaluation,
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
        print(f"config.{key} = {value!r}", flush=True)

    summary = run_folder.finished(workdir, config)
    if summary:
        print(f"{workdir} is finished")
        for key, value in summary.items():
            print(f"  {key}: {value}")
        return 0

    def failed(line):
        """Something could not be written."""
        if config.checkpoint.on_error == "stop":
            raise UserError(line)
        _warn(f"{line}; training goes on")

    with interruption.at_once():
        run = setup.from_config(config, fitted_before(workdir, config))
        state = run.init()
        plan = run.plan()
    with run_folder.opened(workdir, config, plan.total_steps):
        with (
            interruption.noted(signal.SIGINT, signal.SIGTERM) as stopped,
            Checkpoints(workdir, failed=failed, snapshots=plan.snapshots) as checkpoints,
        ):
            batches = None
            if isinstance(run.train, Records):
                from research.data import stream

                batches = stream.training_batches(run.train, config.batch_size, config.seed)
                beginning = batches.get_state()

            def begin(state, step=None):
                """The state of a checkpoint, its metadata; or the first state, and no metadata."""
                restored = None
                if step != 0:
                    restored = checkpoints.restore(lambda *_: state, step, batches, warn=_warn)
                if restored:
                    return *restored, {}
                if batches is not None:
                    batches.set_state(beginning)
                transferred = {}
                if config.transfer.checkpoint:
                    state, transferred = transfer.start_from(run, state)
                return state, {}, transferred

            with interruption.at_once(stopped):
                rollbacks, origin = run_folder.last_rollback(workdir)
                checkpoints.forget(origin, rollbacks)
                state, metadata, transferred = begin(state)
                first = int(state.step)
                if metadata:
                    print(f"resuming {workdir} at step {first}")
                append_history(workdir, "resume" if metadata else "start", first)
                if transferred:
                    print(transfer.told(transferred))
                    append_history(workdir, "transfer", first, **transferred)
                # Where this attempt began, while nothing was saved since: it may be too late there.
                if not rollbacks:
                    origin = None
                elif metadata.get("rollbacks", 0) == rollbacks:
                    origin = metadata["origin"]
                state = divergence.slowed(state, rollbacks)
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

            def save(state, record):
                kept = {"class_names": list(run.class_names), "wall_seconds": wall_seconds()}
                nonlocal origin
                if planned := plan.saves_at(int(state.step)):
                    origin = None
                kept |= {"rollbacks": rollbacks, "origin": origin}
                metrics = {"validation_accuracy": record["accuracy"]} if record else None
                checkpoints.save(config, state, kept, metrics, batches, planned)

            steps_per_epoch = len(run.train) / config.batch_size
            done = False
            while not done:
                with (
                    MetricWriter(workdir, int(state.step)) as writer,
                    Progress(plan.total_steps, steps_per_epoch, int(state.step)) as progress,
                ):

                    def write(record, writer=writer):
                        place = {"epoch": record["step"] / steps_per_epoch}
                        try:
                            writer.write({**record, **place, "seconds": wall_seconds()})
                        except OSError as error:
                            failed(f"{workdir}/metrics.jsonl: {error.strerror}")

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
                        )
                        done = True
                    except loop.Diverged as error:
                        diverged = error
                if not done:
                    last_rate = config.optimizer.learning_rate * 0.5**rollbacks
                    if config.on_divergence == "rollback" and rollbacks < config.max_rollbacks:
                        rollbacks += 1
                        steps = checkpoints.planned()
                        steps = [step for step in steps if origin is None or step < origin]
                        origin, rate = max(steps, default=0), last_rate / 2
                        details = {"to": origin, "rollbacks": rollbacks, "learning_rate": rate}
                        append_history(workdir, "rollback", diverged.step, **details)
                        checkpoints.forget(origin, rollbacks)
                        state, *_ = begin(run.init(), origin)
                        state = divergence.slowed(state, rollbacks)
                        _warn(
                            f"{diverged}; back to step {origin} with "
                            f"config.optimizer.learning_rate = {rate:g} "
                            f"(rollback {rollbacks} of {config.max_rollbacks})"
                        )
                        continue
                    from research.training import culprit

                    state, *_ = begin(run.init())
                    state = divergence.slowed(state, rollbacks)
                    step, layer = culprit.find(
                        run, diverged, state, advance_steps, lambda: bool(stopped)
                    )
                    append_history(workdir, "diverged", step, layer=layer)
                    where = f", first in {layer}" if layer else ""
                    _warn(
                        f"diverged: {diverged.what} not finite at step {step}{where}; likely "
                        f"cause: {loop.likely_cause(config, step, last_rate)}"
                    )
                    return 3

        step = int(state.step)
        if step < plan.total_steps:
            append_history(workdir, "interrupted", step)
            _warn(f"interrupted at step {step}; the same command resumes")
            return 130
        with interruption.at_once():
            with Checkpoints(workdir, read_only=True) as checkpoints:
                earlier = plan.snapshots[:-1]
                snapshots = checkpoints.restore_each(lambda *_: state, earlier, _warn)
            tested = evaluation.test_and_picture(run, state, workdir, snapshots)
        summary = {
            **tested,
            "steps": step,
            "epochs": step / steps_per_epoch,
            "compile_seconds": compile_seconds,
            "examples_per_second": median_throughput(workdir),
        }
        run_folder.finish(workdir, {**summary, "wall_seconds": wall_seconds()})
    print(
        f"test accuracy {summary['test_accuracy']:.2%}, loss {summary['test_loss']:.4f}"
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
