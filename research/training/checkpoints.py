"""Checkpoints: Orbax, asynchronous, the newest two, the best and snapshots, checked when read.

What one holds is in checkpoint_items.py, which ones are kept in retention.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from research import processes
from research.errors import UserError
from research.training.checkpoint_items import (
    config_of,
    copied,
    read_metadata,
    read_state,
    read_weights,
    saved_items,
)
from research.training.retention import Retention
from research.training.state import TrainState


def _raise(line: str) -> None:
    raise UserError(line)


class Checkpoints:
    """The checkpoints of one run folder: a context manager that waits for the last save.

    Args:
      workdir: the run folder.
      read_only: leave all as it is, for another process may be writing.
      snapshots: steps to keep besides the newest two and the best.
      failed: is told, in one line, of every save that failed, at the latest with the next one; the
        checkpoints before are as they were. It may raise.
    """

    def __init__(
        self,
        workdir: Path,
        read_only: bool = False,
        snapshots: Sequence[int] = (),
        failed: Callable[[str], None] = _raise,
    ):
        self._folder = Path(workdir).absolute() / "checkpoints"
        self._read_only, self._failed = read_only, failed
        self._retention = Retention(snapshots)
        self._manager = self._open()
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._begun: Future | None = None  # a save in that thread
        self._saving = -1
        for step in self.steps():
            with contextlib.suppress(Exception):  # of damaged ones; `restore` tells
                metadata = self.metadata(step)
                config = config_of(metadata, self._folder / str(step))
                self._retention.note(step, metadata["planned"], config, metadata["metrics"])

    def _open(self) -> ocp.CheckpointManager:
        try:
            return self._opened()
        except OSError:
            raise
        # Orbax reads its notes on all steps at once, and raises many kinds where one is damaged.
        # They hold nothing of a state, and it does without.
        except Exception:
            for note in self._folder.glob("*/_CHECKPOINT_METADATA"):
                note.unlink(missing_ok=True)
            return self._opened()

    def _opened(self) -> ocp.CheckpointManager:
        return ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self._retention,
                cleanup_tmp_directories=not self._read_only,
                read_only=self._read_only,
                create=not self._read_only,
            ),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind:  # there is something to tell already
            self._failed = lambda _: None
        self._wait()
        self._thread.shutdown()
        self._manager.close()

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def find(self, wanted: str) -> int:
        """The step that 'last', 'best' or a number stands for.

        The best is so by `config.early_stopping.metric` on validation, the later of equals.

        Raises:
          UserError: there is none.
        """
        steps = self.steps()
        if wanted == "best":
            best = self._retention.best(steps)
            steps = [] if best is None else [best]
        elif wanted != "last":
            if not wanted.isdecimal():
                raise UserError(f"--step = {wanted!r} is unknown (allowed: last, best, a number)")
            steps = [int(wanted)]
        if not steps:
            raise UserError(f"{self._folder}: no checkpoint to be the {wanted} one")
        return steps[-1]

    def metadata(self, step: int) -> dict:
        """All that a step has beside its arrays; raises as `read_metadata` does."""
        return read_metadata(self._manager, step)

    def save(
        self,
        config: ConfigDict,
        state: TrainState,
        metadata: dict[str, Any],
        metrics: dict[str, float] | None = None,
        planned: bool = True,
    ) -> None:
        """Starts to save; returns when the arrays are copied from the device.

        Args:
          config: kept whole in the metadata.
          state: what to save; `state.step` names the checkpoint.
          metadata: JSON values to keep along.
          metrics: {'validation_accuracy', 'validation_loss'} decide which checkpoint is the best.
          planned: the plan asked for it, no signal: where every run of this config saves.
        """
        arrays, metrics = copied(state), metrics or {}
        self._wait()
        self._retention.note(int(state.step), planned, config, metrics)
        self._saving = int(state.step)

        def begin():
            if not self._folder.is_dir():  # Orbax would make it anew
                raise FileNotFoundError("the folder is gone")
            items = saved_items(config, arrays, metadata, metrics, planned)
            self._manager.save(self._saving, args=items)

        if jax.process_count() == 1:
            # The digests take long for a large state, and Orbax .05 s before it returns.
            self._begun = self._thread.submit(begin)
        else:  # digests gather from all processes, each in the order of its dispatches
            self._attempt(begin)

    def _wait(self) -> None:
        """Until the save that was begun is done."""

        def finish():
            if self._begun:
                begun, self._begun = self._begun, None
                begun.result()
            self._manager.wait_until_finished()

        self._attempt(finish)

    def _attempt(self, function: Callable[[], None]) -> None:
        try:
            function()
        # Orbax and tensorstore raise many kinds when they cannot write.
        except Exception as error:
            self._retention.forget(self._saving)
            with contextlib.suppress(Exception):  # as long as nothing can be written
                self._manager.close()
            with contextlib.suppress(Exception):
                if self._folder.is_dir():
                    self._manager = self._open()  # which clears away what is half written
            where = self._folder / str(self._saving)
            self._failed(f"{where} could not be saved: {_reason(error)}")

    def return_to(self, rollbacks: int) -> int:
        """Where a run goes back to: its newest planned checkpoint; 0 where there is none.

        If it was there at the rollback before, it goes to the one before it: numbers that are
        finite may lead to what is not. Checkpoints of later steps are deleted.

        Args:
          rollbacks: made so far, as in the metadata of the checkpoints that were saved since.
        """
        self._wait()
        planned = sorted(self._retention.planned & {*self.steps()})
        if planned and self.metadata(planned[-1]).get("rollbacks", 0) < rollbacks:
            planned.pop()
        to = planned[-1] if planned else 0
        for step in [step for step in self.steps() if step > to]:
            self._manager.delete(step)
            self._retention.forget(step)
        return to

    def restore(
        self,
        template: Callable[[ConfigDict, dict], TrainState],
        step: int | None = None,
        warn: Callable[[str], None] = print,
    ) -> tuple[TrainState, dict] | None:
        """Reads a checkpoint and checks its digest.

        Args:
          template: (config, metadata) -> a state of the right shapes (`jax.eval_shape` will do),
            whose hyper-parameters the restored state takes over.
          step: which; None takes the newest that is whole, and says which ones are not.
          warn: is told of every damaged checkpoint, in one line.

        Returns:
          The state and the metadata; None where there is no whole checkpoint.

        Raises:
          UserError: the step asked for is not there, or damaged.
        """
        self._wait()
        if step is not None:
            return self._asked_for(step, lambda: read_state(self._manager, step, template))
        for candidate in reversed(self.steps()):
            try:
                return read_state(self._manager, candidate, template)
            except (UserError, MemoryError, PermissionError):
                raise  # not the checkpoint's fault
            # Whatever a damaged file makes Orbax, tensorstore or JSON raise: tell, and go on with
            # the one before.
            except Exception as error:
                warn(f"checkpoint {self._folder / str(candidate)} is damaged: {_brief(error)}")
                self._set_aside(candidate)
        return None

    def restore_each(
        self,
        template: Callable[[ConfigDict, dict], TrainState],
        steps: Sequence[int],
        warn: Callable[[str], None] = print,
    ) -> list[TrainState]:
        """Reads several; of one that is not there, or damaged, `warn` is told in one line."""
        states = []
        for step in steps:
            try:
                states.append(self.restore(template, step)[0])
            except UserError as error:
                warn(f"left out: {error}")
        return states

    def weights(self, step: int) -> dict:
        """What a network is, without the shapes of the run it comes from: NumPy arrays.

        Returns:
          {'params', 'batch_stats', 'preprocessing'} as nested dicts, checked against their digest.

        Raises:
          UserError: the step is not there, or damaged.
        """
        return self._asked_for(step, lambda: read_weights(self._manager, step))

    def _asked_for(self, step: int, read: Callable):
        if step not in self.steps():
            kept = ", ".join(map(str, self.steps())) or "none"
            raise UserError(f"{self._folder}: no checkpoint of step {step} (there: {kept})")
        try:
            return read()
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{self._folder / str(step)} is damaged: {_brief(error)}") from None

    def _set_aside(self, step: int) -> None:
        """Moves a damaged checkpoint out of the way, for the step may be saved again."""
        aside = self._folder.parent / "damaged_checkpoints"

        def move():
            aside.mkdir(exist_ok=True)
            (self._folder / str(step)).rename(aside / f"{step}-{time.time_ns()}")

        processes.alone(move)
        self._manager.reload()


def _reason(error: Exception) -> str:
    """What the system said, where tensorstore wraps it up in its own words."""
    found = re.search(r"\[os_error_code='(\d+)'", str(error))
    return os.strerror(int(found[1])) if found else _brief(error)


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
