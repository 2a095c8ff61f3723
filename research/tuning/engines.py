"""Engines by name: where trials are trained.

An engine is a context in which there is something to make populations by, as `Population` is made.
With workers the driver trains nothing: it has the ledger, and asks what is next.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.reporting.voice import Voice
from research.tuning import mailbox
from research.tuning.team import Lost, Team

_FOLDER = "workers-"
_HOURS = 24  # that Slurm gives a job, unless `slurm_options` say otherwise
_PATIENCE = 10.0  # seconds for jobs to end by themselves; on this host, those cancelled cry out


@contextlib.contextmanager
def local(workdir: Path, voice: Voice) -> Iterator[Callable[..., Any]]:
    """In this process, on all devices of this host."""
    from research.tuning.population import of_one_search

    yield of_one_search()


@contextlib.contextmanager
def ray(workdir: Path, voice: Voice, *, workers: int) -> Iterator[Callable[..., Any]]:
    """By actors of Ray Core (Moritz et al., 2018), one for each GPU, or else each host."""
    from research.tuning.worker import Worker

    core = _package("ray", "ray")
    # Nothing is told to anyone; and who has no GPU of its own sees what this process sees.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        # A cluster that this host is part of, or that RAY_ADDRESS names; else one of this host.
        core.init(log_to_driver=False, logging_level="error")
        signal.signal(signal.SIGTERM, handler)  # it has taken it over
        there = core.cluster_resources()
        gpus, hosts = int(there.get("GPU", 0)), sum(node["Alive"] for node in core.nodes())
        most = gpus or int(there.get("CPU", 0))
        if workers > most:
            raise UserError(
                f"config.search.workers = {workers}: Ray has {most} {'GPUs' if gpus else 'CPUs'} "
                f"(allowed: at most {most}; 0: {gpus or hosts})"
            )
        actor = core.remote(Worker).options(
            num_cpus=1, num_gpus=min(gpus, 1), scheduling_strategy="SPREAD"
        )
        yield _crews([_Actor(core, actor) for _ in range(workers or gpus or hosts)], voice)
    finally:
        core.shutdown()


@contextlib.contextmanager
def slurm(
    workdir: Path, voice: Voice, *, workers: int, slurm_options: tuple
) -> Iterator[Callable[..., Any]]:
    """By jobs of Slurm, handed in by submitit; where there is no Slurm, processes of this host."""
    submitit = _package("submitit", "slurm")
    if not workers:
        raise UserError("config.search.workers = 0: Slurm is asked for a number (at least 1)")
    for left in workdir.glob(f"{_FOLDER}*"):  # by a killed driver; its workers see that and end
        shutil.rmtree(left, ignore_errors=True)
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
        with mailbox.alive(folder / mailbox.DRIVER):
            jobs += executor.map_array(mailbox.serve, list(map(str, boxes)))
            remotes = [mailbox.Mailbox(*of) for of in zip(boxes, jobs, strict=True)]
            yield _crews(remotes, voice)
    finally:  # they end when they see that the driver has; and those that never began?
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and not all(job.done() for job in jobs):
            time.sleep(0.1)
        for job in jobs:
            if not job.done():
                job.cancel(check=False)
    shutil.rmtree(folder, ignore_errors=True)  # the logs of what went wrong stay


class _Actor:
    """A worker that is an actor of Ray."""

    def __init__(self, core, actor):
        self._actor, self._core = actor.remote(), core

    def send(self, text: str):
        return self._actor.call.remote(text)

    def answer(self, ticket) -> str:
        errors = self._core.exceptions
        try:
            return self._core.get(ticket)
        except (errors.RayActorError, errors.ObjectLostError) as error:
            self._core.kill(self._actor)  # it may only have been out of reach
            *_, why = str(error).strip().splitlines() or [type(error).__name__]
            raise Lost(textwrap.shorten(why, 150)) from None


def _crews(remotes: list, voice: Voice) -> Callable[..., Any]:
    """Wait until all are there."""
    from research.tuning.crew import Crew

    voice.tell(f"waiting for {len(remotes)} workers")
    team = Team(remotes, voice.warn)
    for remote, told in team.ask_all("meet").items():
        voice.tell(f"{team.names[remote]}: {told}")
    return functools.partial(Crew, team)


def _package(name: str, extra: str):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise UserError(
            f"config.search.engine = {extra!r} needs {name}, which is not installed: bash setup.sh "
            f"{extra}"
        ) from None
