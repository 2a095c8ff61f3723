"""Engines by name: where the trials of a search are trained.

An engine is a context manager that yields a function which makes populations, with the arguments of
`Population`. With workers the driver trains nothing: it keeps the ledger and chooses trials.
"""

import contextlib
import functools
import importlib
import os
import shutil
import signal
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from research.errors import UserError

_FOLDER = "workers-"
_HOURS = 24  # time limit of a Slurm job; `slurm_options` may say otherwise
_PATIENCE = 10.0  # seconds for jobs to end by themselves; cancelled local jobs print a traceback

_Tell = Callable[[str], None]  # receives a line for the user


@contextlib.contextmanager
def local(workdir: Path, tell: _Tell, warn: _Tell) -> Iterator[Callable[..., Any]]:
    """Train in this process, on all devices of this host."""
    from research.tuning.population import factory

    yield factory()


@contextlib.contextmanager
def ray(workdir: Path, tell: _Tell, warn: _Tell, *, workers: int) -> Iterator[Callable[..., Any]]:
    """Train by actors of Ray Core (Moritz et al., 2018), one for each GPU, or else each host."""
    from research.tuning.worker import Worker

    core = _package("ray", "ray")
    # Disable Ray's telemetry. Workers without a GPU inherit this process's device visibility.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        # Join the cluster of this host or of RAY_ADDRESS; without one, start one on this host.
        core.init(log_to_driver=False, logging_level="error")
        signal.signal(signal.SIGTERM, handler)  # Ray installed its own
        resources = core.cluster_resources()
        gpus, hosts = int(resources.get("GPU", 0)), sum(node["Alive"] for node in core.nodes())
        most = gpus or int(resources.get("CPU", 0))
        if workers > most:
            raise UserError(
                f"config.search.workers = {workers}: Ray has {most} {'GPUs' if gpus else 'CPUs'} "
                f"(allowed: at most {most}; 0: {gpus or hosts})"
            )
        actor = core.remote(Worker).options(
            num_cpus=1, num_gpus=min(gpus, 1), scheduling_strategy="SPREAD"
        )
        actors = [_Actor(core, actor) for _ in range(workers or gpus or hosts)]
        yield _populations(actors, tell, warn)
    finally:
        core.shutdown()


@contextlib.contextmanager
def slurm(
    workdir: Path, tell: _Tell, warn: _Tell, *, workers: int, slurm_options: tuple
) -> Iterator[Callable[..., Any]]:
    """Train by jobs of Slurm, submitted by submitit; without Slurm, by processes of this host."""
    from research.tuning import file_rpc

    submitit = _package("submitit", "slurm")
    if not workers:
        raise UserError("config.search.workers = 0: Slurm is asked for a number (at least 1)")
    # Folders of a killed driver; its workers notice the removal and end.
    for folder in workdir.glob(f"{_FOLDER}*"):
        shutil.rmtree(folder, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER, dir=workdir.resolve()))
    executor = submitit.AutoExecutor(folder / "jobs")
    executor.update_parameters(
        name="onestep",
        timeout_min=60 * _HOURS,
        slurm_additional_parameters=dict(slurm_options),
    )
    boxes = [folder / str(number) for number in range(workers)]
    for box in boxes:
        box.mkdir()
    jobs: list = []
    try:
        with file_rpc.heartbeat(folder / file_rpc.DRIVER):
            jobs += executor.map_array(file_rpc.serve, list(map(str, boxes)))
            connections = [
                file_rpc.FileConnection(box, job) for box, job in zip(boxes, jobs, strict=True)
            ]
            yield _populations(connections, tell, warn)
    finally:  # running workers notice the end of the heartbeat; jobs in the queue are cancelled
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and not all(job.done() for job in jobs):
            time.sleep(0.1)
        for job in jobs:
            if not job.done():
                job.cancel(check=False)
    shutil.rmtree(folder, ignore_errors=True)  # after an error the logs stay


class _Actor:
    """The `Connection` to a worker that is an actor of Ray; tickets are Ray's own futures."""

    def __init__(self, core, actor):
        self._actor, self._core = actor.remote(), core

    def send(self, text: str):
        return self._actor.call.remote(text)

    def answer(self, ticket) -> str:
        from research.tuning.remote_population import WorkerLost

        errors = self._core.exceptions
        try:
            return self._core.get(ticket)
        except (errors.RayActorError, errors.ObjectLostError) as error:
            self._core.kill(self._actor)  # it may be alive and only unreachable
            *_, reason = str(error).strip().splitlines() or [type(error).__name__]
            raise WorkerLost(textwrap.shorten(reason, 150)) from None


def _populations(connections: Sequence, tell: _Tell, warn: _Tell) -> Callable[..., Any]:
    """Wait until all workers are there; return a maker of populations on them."""
    from research.tuning.remote_population import RemotePopulation, WorkerPool

    tell(f"waiting for {len(connections)} workers")
    pool = WorkerPool(connections, warn)
    for worker, description in pool.ask_all("meet").items():
        tell(f"{pool.names[worker]}: {description}")
    return functools.partial(RemotePopulation, pool)


def _package(name: str, extra: str):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise UserError(
            f"config.search.engine = {extra!r} needs {name}, which is not installed: bash setup.sh "
            f"{extra}"
        ) from None
