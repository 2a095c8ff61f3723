"""Checkpoints: Orbax, asynchronous, the newest two, the best and snapshots, checked when read.

One checkpoint is a folder `checkpoints/STEP` with two items:

- `state`: the arrays of the train state, all but the hyper-parameters;
- `metadata`: JSON with the complete config (which holds the hyper-parameters), the class names, a
  digest of `state` and the metrics at that step.

Where the data stood is not among them: that is the step, for a stream from disk too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from research import config as configuration
from research import processes
from research.errors import UserError
from research.training import early_stopping
from research.training.digest import SEAL, sealed, tree_sha256
from research.training.state import TrainState

FORMAT = 2


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
        self._scores: dict[int, float] = {}
        self._planned: set[int] = set()
        self._snapshots = frozenset(snapshots)
        self._manager = self._open()
        self._saving = -1
        for step in self.steps():
            with contextlib.suppress(Exception):  # of damaged ones; `restore` tells
                metadata = self._metadata(step)
                origin = f"{self._folder / str(step)}: config"
                config = configuration.from_json(json.dumps(metadata["config"]), origin)
                self._note(step, metadata["planned"], config, metadata["metrics"])

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
                preservation_policy=_Policy(self._kept),
                cleanup_tmp_directories=not self._read_only,
                read_only=self._read_only,
                create=not self._read_only,
            ),
        )

    def _kept(self, steps: list[int]) -> set[int]:
        """The newest two, the newest two that were planned, the best and the snapshots."""
        planned = [step for step in steps if step in self._planned]
        return {*steps[-2:], *planned[-2:], _best(self._scores, steps)} | self._snapshots

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind:  # there is something to tell already
            self._failed = lambda _: None
        self._wait()
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
            best = _best(self._scores, steps)
            steps = [] if best is None else [best]
        elif wanted != "last":
            if not wanted.isdecimal():
                raise UserError(f"--step = {wanted!r} is unknown (allowed: last, best, a number)")
            steps = [int(wanted)]
        if not steps:
            raise UserError(f"{self._folder}: no checkpoint to be the {wanted} one")
        return steps[-1]

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
        arrays = _arrays(state)
        items = {
            "state": ocp.args.StandardSave(arrays),
            "metadata": ocp.args.JsonSave(
                sealed(
                    {
                        **metadata,
                        "format": FORMAT,
                        "config": json.loads(configuration.to_json(config)),
                        "shapes": _shapes(arrays),
                        "sha256": tree_sha256(arrays),
                        "weights_sha256": tree_sha256(_weights(arrays)),
                        "metrics": metrics or {},
                        "planned": planned,
                    }
                )
            ),
        }
        self._wait()
        self._note(int(state.step), planned, config, metrics or {})
        self._saving = int(state.step)
        self._attempt(lambda: self._save(ocp.args.Composite(**items)))

    def _save(self, items) -> None:
        if not self._folder.is_dir():  # Orbax would make it anew
            raise FileNotFoundError("the folder is gone")
        self._manager.save(self._saving, args=items)

    def _wait(self) -> None:
        """Until the save that was begun is done."""
        self._attempt(self._manager.wait_until_finished)

    def _attempt(self, function: Callable[[], None]) -> None:
        try:
            function()
        # Orbax and tensorstore raise many kinds when they cannot write.
        except Exception as error:
            self._scores.pop(self._saving, None)
            self._planned.discard(self._saving)
            with contextlib.suppress(Exception):  # as long as nothing can be written
                self._manager.close()
            with contextlib.suppress(Exception):
                if self._folder.is_dir():
                    self._manager = self._open()  # which clears away what is half written
            where = self._folder / str(self._saving)
            self._failed(f"{where} could not be saved: {_reason(error)}")

    def _note(self, step: int, planned: bool, config: ConfigDict, metrics: dict) -> None:
        if metrics:
            self._scores[step] = _score(config, metrics)
        if planned:
            self._planned.add(step)

    def return_to(self, rollbacks: int) -> int:
        """Where a run goes back to: its newest planned checkpoint; 0 where there is none.

        If it was there at the rollback before, it goes to the one before it: numbers that are
        finite may lead to what is not. Checkpoints of later steps are deleted.

        Args:
          rollbacks: made so far, as in the metadata of the checkpoints that were saved since.
        """
        self._wait()
        planned = sorted(self._planned & {*self.steps()})
        if planned and self._metadata(planned[-1]).get("rollbacks", 0) < rollbacks:
            planned.pop()
        to = planned[-1] if planned else 0
        for step in [step for step in self.steps() if step > to]:
            self._manager.delete(step)
            self._planned.discard(step)
            self._scores.pop(step, None)
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
            self._check_there(step)
            try:
                return self._restore(template, step)
            except UserError:
                raise
            except Exception as error:
                raise UserError(f"{self._folder / str(step)} is damaged: {_brief(error)}") from None
        for candidate in reversed(self.steps()):
            try:
                return self._restore(template, candidate)
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

    def _restore(self, template, step) -> tuple[TrainState, dict]:
        metadata = self._metadata(step)
        origin = f"{self._folder / str(step)}: config"
        config = configuration.from_json(json.dumps(metadata["config"]), origin)
        state = template(config, metadata)
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _arrays(state))
        if metadata["shapes"] != _shapes(target):
            raise UserError(
                f"{self._folder / str(step)} holds a state of other shapes than the config and its "
                "data ask for: have the data changed?"
            )
        items = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        arrays = self._manager.restore(step, args=items)["state"]
        if tree_sha256(arrays) != metadata["sha256"]:
            raise ValueError("its arrays do not match their digest")
        return state.replace(**arrays), metadata

    def weights(self, step: int) -> dict:
        """What a network is, without the shapes of the run it comes from: NumPy arrays.

        Returns:
          {'params', 'batch_stats', 'preprocessing'} as nested dicts, checked against their digest.

        Raises:
          UserError: the step is not there, or damaged.
        """
        self._check_there(step)
        try:
            digest = self._metadata(step)["weights_sha256"]
            items = ocp.args.Composite(state=ocp.args.StandardRestore())
            arrays = _weights(self._manager.restore(step, args=items)["state"])
            if tree_sha256(arrays) != digest:
                raise ValueError("its weights do not match their digest")
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{self._folder / str(step)} is damaged: {_brief(error)}") from None
        return jax.tree.map(np.asarray, arrays)

    def _check_there(self, step: int) -> None:
        if step not in self.steps():
            kept = ", ".join(map(str, self.steps())) or "none"
            raise UserError(f"{self._folder}: no checkpoint of step {step} (there: {kept})")

    def _set_aside(self, step: int) -> None:
        """Moves a damaged checkpoint out of the way, for the step may be saved again."""
        aside = self._folder.parent / "damaged_checkpoints"

        def move():
            aside.mkdir(exist_ok=True)
            (self._folder / str(step)).rename(aside / f"{step}-{time.time_ns()}")

        processes.alone(move)
        self._manager.reload()

    def _metadata(self, step: int) -> dict:
        items = ocp.args.Composite(metadata=ocp.args.JsonRestore())
        metadata = self._manager.restore(step, args=items)["metadata"]
        has_seal = SEAL in metadata
        if has_seal and metadata[SEAL] != sealed(metadata)[SEAL]:
            raise ValueError("its metadata do not match their digest")
        if metadata["format"] != FORMAT:
            raise UserError(
                f"{self._folder / str(step)} has format {metadata['format']} "
                f"(allowed here: {FORMAT}, of this version)"
            )
        if not has_seal:
            raise ValueError("its metadata have no digest")
        return metadata


def fitted_before(workdir: Path, config: ConfigDict) -> dict | None:
    """The preprocessing in a run folder, so that data are not read once more to fit it.

    Returns:
      That of the newest whole checkpoint with the same `config.data` and `config.preprocessing`;
      None where there is none.
    """
    if not (Path(workdir) / "checkpoints").is_dir():
        return None
    ours = json.loads(configuration.to_json(config))
    with Checkpoints(workdir, read_only=True) as checkpoints:
        for step in reversed(checkpoints.steps()):
            with contextlib.suppress(Exception):  # of damaged ones; `restore` tells
                theirs = checkpoints._metadata(step)["config"]
                if all(theirs[name] == ours[name] for name in ("data", "preprocessing")):
                    return checkpoints.weights(step)["preprocessing"]
    return None


@dataclasses.dataclass(frozen=True)
class _Policy:
    """What Orbax asks which steps to keep.

    Its own `best_fn` with `max_to_keep` deletes the newest, and its `BestN` forgets the best when
    the process ends.
    """

    kept: Callable[[list[int]], set[int]]

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        kept = self.kept(sorted(checkpoint.step for checkpoint in checkpoints))
        return [checkpoint.step in kept for checkpoint in checkpoints]


def _score(config: ConfigDict, metrics: dict[str, float]) -> float:
    record = {name.removeprefix("validation_"): value for name, value in metrics.items()}
    return early_stopping.score(config, record)


def _best(scores: dict[int, float], steps: list[int]) -> int | None:
    """The later one of equals; None where no step has a score."""
    scored = [step for step in steps if step in scores]
    return max(scored, key=lambda step: (scores[step], step), default=None)


def _arrays(state: TrainState) -> dict:
    """The fields that are saved: hyper-parameters come from the config."""
    fields = {name: getattr(state, name) for name in state.__dataclass_fields__}
    del fields["hyperparameters"]
    return fields


def _weights(arrays: dict) -> dict:
    """What transfer takes over: dicts all through, so that it can be read without a template."""
    # Orbax leaves out a collection that is empty.
    return {name: arrays.get(name) or {} for name in ("params", "batch_stats", "preprocessing")}


def _shapes(tree) -> list[list[int]]:
    return [list(np.shape(leaf)) for leaf in jax.tree.leaves(tree)]


def _reason(error: Exception) -> str:
    """What the system said, where tensorstore wraps it up in its own words."""
    found = re.search(r"\[os_error_code='(\d+)'", str(error))
    return os.strerror(int(found[1])) if found else _brief(error)


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
