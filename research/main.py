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
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> int:
    """Trains to the end of the config's duration; exit code 0, 3 (diverged) or 130."""
    del argv
    started = time.perf_counter()
    # Heavy imports come after the flags, so that a mistyped flag is answered at once.
    import jax
    import numpy as np

    from research import platform, run_folder
    from research.data.feed import to_device
    from research.reporting.progress import Progress
    from research.reporting.writers import MetricWriter, append_history, write_json
    from research.training import evaluation, executors, loop, setup
    from research.training.checkpoints import Checkpoints
    from research.training.digest import parameters_sha256
    from research.training.step import make_train_step

    platform.enable_compilation_cache()
    config = _CONFIG.value
    name = Path(flags.FLAGS["config"].config_filename).stem
    workdir = Path(_WORKDIR.value or f"runs/{name}")
    for key, value in config_flags.get_override_values(flags.FLAGS["config"]).items():
        print(f"config.{key} = {value!r}")

    run = setup.from_config(config)
    state = run.init()
    summary = run_folder.open_run(workdir, config)
    if summary:
        print(f"{workdir} is finished: test accuracy {summary['test_accuracy']:.2%}")
        return 0
    run_folder.write_environment(workdir)

    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stopped.append(number))

    with Checkpoints(workdir) as checkpoints:
        restored = checkpoints.restore(
            lambda config, metadata: state, warn=lambda line: print(line, file=sys.stderr)
        )
        if restored:
            state = restored[0]
            print(f"resuming {workdir} at step {int(state.step)}")
        first = int(state.step)
        plan = run.plan()
        append_history(workdir, "resume" if restored else "start", first)

        data = to_device(run.train.inputs, run.train.labels)
        compiling = time.perf_counter()
        program = jax.jit(
            executors.resident(make_train_step(config, run.classes), config.batch_size),
            donate_argnums=0,
        )
        program = program.lower(state, data, np.int32(0)).compile()
        compile_seconds = time.perf_counter() - compiling
        evaluate = None
        if len(run.validation.labels):
            evaluate = evaluation.compiled_evaluator(config, run.classes, run.validation)

        def save(state, record):
            metrics = {"validation_accuracy": record["accuracy"]} if record else None
            checkpoints.save(config, state, {"class_names": list(run.class_names)}, metrics)

        steps_per_epoch = len(run.train.labels) / config.batch_size
        training = time.perf_counter()
        with (
            MetricWriter(workdir, first) as writer,
            Progress(plan.total_steps, steps_per_epoch, first) as progress,
        ):
            try:
                state = loop.fit(
                    state,
                    plan,
                    advance=lambda state, steps: program(state, data, np.int32(steps)),
                    evaluate=evaluate,
                    save=save,
                    write=lambda record: writer.write(
                        {**record, "epoch": record["step"] / steps_per_epoch}
                    ),
                    progress=progress.update,
                    interrupted=lambda: bool(stopped),
                    pace=loop.Pace(config.compute.steps_per_dispatch),
                )
            except loop.Diverged as error:
                append_history(workdir, "diverged", error.step)
                print(
                    f"diverged: {error}; likely cause: config.optimizer.learning_rate = "
                    f"{config.optimizer.learning_rate} is too high",
                    file=sys.stderr,
                )
                return 3
        train_seconds = time.perf_counter() - training

    step = int(state.step)
    if step < plan.total_steps:
        append_history(workdir, "interrupted", step)
        print(f"interrupted at step {step}; the same command resumes", file=sys.stderr)
        return 130
    test = evaluation.evaluate(config, run.classes, state, run.test)
    probabilities = evaluation.predict(config, run.classes, state, run.test)
    found = evaluation.pictures(probabilities, run.test, run.class_names, state.params)
    np.savez(workdir / "evaluation.npz", **found)
    write_json(
        workdir / "summary.json",
        {
            "test_accuracy": test["accuracy"],
            "test_loss": test["loss"],
            "steps": step,
            "epochs": step / steps_per_epoch,
            "wall_seconds": time.perf_counter() - started,
            "compile_seconds": compile_seconds,
            "examples_per_second": (step - first) * config.batch_size / train_seconds,
            "parameter_count": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
            "parameters_sha256": parameters_sha256(state),
        },
    )
    append_history(workdir, "finish", step)
    print(f"test accuracy {test['accuracy']:.2%}, loss {test['loss']:.4f}: {workdir}/summary.json")
    return 0


if __name__ == "__main__":
    cli.run(main)
