"""Save checkpoints while training goes on, check them when they are read, and delete old ones.

`checkpoint_files.py` has the contents of a checkpoint, `retention.py` decides which are kept.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from research import processes
from research.errors import UserError
from research.training import checkpoint_files as files
from research.training.copies import Copies
from research.training.early_stopping import Objective
from research.training.retention import Retention
from research.training.state import TrainState


def _raise(line: str) -> None:
    raise UserError(line)


class Checkpoints:
    """The checkpoints of one run folder: a context manager that waits for the last save.

    Args:
      workdir: the run folder.
      read_only: change nothing, because another process may be writing.
      snapshots: steps to keep besides the newest two and the best.
      failed: receives one line for each save that failed, at the latest with the next save. Earlier
        checkpoints are as they were. It may raise.
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
        self._snapshots = snapshots
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._begun: Future | None = None  # the save in that thread
        self._saving = -1
        if not read_only:
            processes.alone(self._begin)

    @functools.cached_property
    def _retention(self) -> Retention:
        """Return the scores of all checkpoints; they are read when they are needed first."""
        retention = Retention(self._snapshots)
        for step in self.steps():
            with contextlib.suppress(Exception):  # skip damaged ones; `restore` reports them
                metadata = self.metadata(step)
                objective = files.objective_of(metadata)
                retention.note(step, metadata["planned"], objective, metadata["metrics"])
        return retention

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind:  # an error is already on its way, perhaps in this process alone
            self._failed = lambda _: None
            self._finish()
        else:
            self.wait()
        self._thread.shutdown()

    def _path(self, step: int) -> Path:
        return self._folder / str(step)

    def _begin(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._clear_away()

    def _clear_away(self) -> None:
        """Remove files that are half written or half deleted."""
        for path in self._folder.glob(f"*{files.HALF}*"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for path in self._folder.iterdir():
            if path.name.isdecimal() and not path.is_dir():  # in the place of a checkpoint
                self._move_aside(path)

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, oldest first."""
        if not self._folder.is_dir():
            return []
        names = [path.name for path in self._folder.iterdir() if path.is_dir()]
        return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))

    def find(self, wanted: str) -> int:
        """Return the step that 'last', 'best' or a number stands for.

        The best has the best `config.early_stopping.metric` on validation; of equals, the latest.

        Raises:
          UserError: there is no such checkpoint.
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

    def best_first(self) -> list[int]:
        """Return the steps whose checkpoints have a score, the best one first."""
        return self._retention.best_first(self.steps())

    def metadata(self, step: int) -> dict:
        """Return the metadata of a step; raise as `checkpoint_files.read` does."""
        return files.read_metadata(self._path(step))

    def save(
        self,
        step: int,
        config: ConfigDict,
        copies: Copies,
        metadata: dict[str, Any],
        objective: Objective,
        metrics: dict[str, float] | None = None,
        planned: bool = True,
    ) -> None:
        """Start to save a checkpoint, once the previous save has ended.

        Args:
          step: the step of the state; it names the checkpoint.
          config: the whole config, which the metadata keep.
          copies: the arrays of the state, from `copies.copied`; they are consumed.
          metadata: other JSON values to store.
          objective: the metric that decides which checkpoint is the best.
          metrics: {'validation_<metric>': value}, if the step was evaluated.
          planned: whether a rollback may return to it: every run of this config saves this step.
        """
        self.wait()
        self._saving, metrics = step, metrics or {}
        self._retention.note(step, planned, objective, metrics)
        if processes.first():
            known = {
                "config": config.to_dict(),
                "metrics": metrics,
                "objective": list(objective),
                "planned": planned,
            }
            self._begun = self._thread.submit(self._write, copies, {**metadata, **known})

    def _write(self, copies: Copies, metadata: dict) -> None:
        if not self._folder.is_dir():  # Orbax would make a new folder
            raise FileNotFoundError(errno.ENOENT, "the folder is gone")
        files.write(self._path(self._saving), copies, metadata)
        steps = self.steps()
        with contextlib.suppress(OSError):  # the next save tries again
            self._delete({*steps} - self._retention.kept(steps))

    def wait(self) -> None:
        """Wait in every process until the last save is done."""
        if not self._read_only:
            processes.alone(self._finish)

    def _finish(self) -> None:
        if self._begun is None:
            return
        begun, self._begun = self._begun, None
        try:
            begun.result()
        except Exception as error:  # mostly of the system, which has words for it
            self._retention.forget(self._saving)
            with contextlib.suppress(OSError):  # the disk may refuse everything
                self._clear_away()
            reason = getattr(error, "strerror", None) or files.brief(error)
            self._failed(f"{self._path(self._saving)} could not be saved: {reason}")

    def _delete(self, steps: Iterable[int]) -> None:
        for step in steps:  # after a kill, the next start deletes what was renamed
            doomed = self._path(step).with_suffix(files.HALF)
            self._path(step).rename(doomed)
            shutil.rmtree(doomed)

    def return_to(self, rollbacks: int) -> int:
        """Delete checkpoints for a rollback; return the step that the run goes back to.

        That is the step of the newest planned checkpoint, or 0 if there is none. If the previous
        rollback went there too, it is the one before, because its finite numbers diverge again.

        Args:
          rollbacks: the number of rollbacks so far, as in the metadata of checkpoints saved since.
        """
        self.wait()
        planned = sorted(self._retention.planned & {*self.steps()})
        if planned and not self._was_reached(planned[-1], rollbacks):
            planned.pop()
        to = planned[-1] if planned else 0
        later = [step for step in self.steps() if step > to]
        processes.alone(lambda: self._delete(later))
        for step in later:
            self._retention.forget(step)
        return to

    def _was_reached(self, step: int, rollbacks: int) -> bool:
        """Return whether a checkpoint was saved after so many rollbacks; False if it is damaged."""
        with contextlib.suppress(Exception):
            return self.metadata(step).get("rollbacks", 0) >= rollbacks
        return False

    def restore(
        self,
        template: Callable[[ConfigDict, dict], TrainState],
        step: int | None = None,
        warn: Callable[[str], None] = print,
    ) -> tuple[TrainState, dict] | None:
        """Read a checkpoint and check its digest.

        Args:
          template: (config, metadata) -> a state of the right shapes, such as `jax.eval_shape`
            returns. The restored state takes its hyper-parameters.
          step: the step; None: the newest that is whole. Damaged ones are moved aside.
          warn: receives one line for each damaged checkpoint.

        Returns:
          The state and the metadata; None if there is no whole checkpoint.

        Raises:
          UserError: the given step has no checkpoint, or a damaged one.
        """
        self.wait()
        if step is not None:
            content = self._asked_for(step, files.read)
            return files.state_of(self._path(step), *content, template)
        for candidate in reversed(self.steps()):
            try:
                content = files.read(self._path(candidate))
            except files.Damaged as error:
                warn(f"checkpoint {self._path(candidate)} is damaged: {error}")
                self._set_aside(candidate)
            else:
                return files.state_of(self._path(candidate), *content, template)
        return None

    def restore_each(
        self,
        template: Callable[[ConfigDict, dict], TrainState],
        steps: Sequence[int],
        warn: Callable[[str], None] = print,
    ) -> Iterator[TrainState]:
        """Yield the states of several steps; skip missing or damaged ones with a warning."""
        for step in steps:
            try:
                state, _ = self.restore(template, step)
            except UserError as error:
                warn(f"left out: {error}")
            else:
                yield state

    def weights(self, step: int) -> dict:
        """Return the arrays of a network, without a template, checked against their digest.

        Returns:
          {'params', 'batch_stats', 'preprocessing'}, nested dicts of NumPy arrays.

        Raises:
          UserError: the step has no checkpoint, or a damaged one.
        """
        return self._asked_for(step, files.read_weights)

    def _asked_for(self, step: int, read: Callable[[Path], Any]):
        if step not in self.steps():
            kept = ", ".join(map(str, self.steps())) or "none"
            raise UserError(f"{self._folder}: no checkpoint of step {step} (there: {kept})")
        try:
            return read(self._path(step))
        except files.Damaged as error:
            raise UserError(f"{self._path(step)} is damaged: {error}") from None

    def _set_aside(self, step: int) -> None:
        """Move a damaged checkpoint aside, because the step may be saved again."""
        processes.alone(lambda: self._move_aside(self._path(step)))

    def _move_aside(self, path: Path) -> None:
        aside = self._folder.parent / "damaged_checkpoints"
        aside.mkdir(exist_ok=True)
        # Not os.rename: `checkpoints` may be a link to another disk.
        shutil.move(path, aside / f"{path.name}-{time.time_ns()}")
