"""Write metrics to other tools; every run writes `metrics.jsonl` itself.

A writer is any function or class (workdir, config, step) -> object with `write(record)` and
`close()`. `step` is the step that the run starts or resumes at. A writer that raises is dropped;
the run goes on.
"""

import contextlib
import importlib
import logging
import math
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

_FLUSH_SECONDS = 10  # between flushes for TensorBoard
_MOST_ENTRIES = 12  # of an array; longer arrays are in metrics.jsonl only


class tensorboard:  # noqa: N801: names of the config are lower case
    """TensorBoard's event files in `tensorboard/`; tags are `train/loss`, `validation/loss`.

    tensorboardX's own writer has a thread that dies when the disk is full, and then blocks the
    training. This class writes events itself.
    """

    def __init__(self, workdir: Path, config: ConfigDict, step: int):
        with _without_torch():
            from tensorboardX import event_file_writer, summary
            from tensorboardX.proto import event_pb2

        self._event, self._scalar = event_pb2.Event, summary.scalar
        folder = Path(workdir) / "tensorboard"
        folder.mkdir(exist_ok=True)
        self._events = event_file_writer.EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        self._flushed = -math.inf
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        # TensorBoard forgets events of an earlier start from this step on.
        self._write(step + 1, session_log=start)
        if step == 0:
            for value in summary.hparams(_flat(config), {"validation/loss": math.nan}):
                self._write(0, summary=value)

    def write(self, record: dict) -> None:
        """Write each number of a record as an event of its own."""
        for tag, value in _numbers(record).items():
            self._write(record["step"], summary=self._scalar(tag, value))
        if time.time() - self._flushed > _FLUSH_SECONDS:
            self._events.flush()
            self._flushed = time.time()

    def close(self) -> None:
        """Flush and close the file."""
        with contextlib.suppress(OSError):  # metrics.jsonl has all records
            self._events.flush()
        with contextlib.suppress(OSError):
            self._events.close()

    def _write(self, step: int, **content) -> None:
        self._events.write_event(self._event(wall_time=time.time(), step=step, **content))


class wandb:  # noqa: N801
    """Weights & Biases, offline in `wandb/`; `wandb sync` uploads it, `WANDB_MODE` changes it.

    `WANDB_PROJECT` names the project. A resumed run goes on with the id in `wandb/run_id`.
    """

    package = "wandb"

    def __init__(self, workdir: Path, config: ConfigDict, step: int):
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # nothing leaves the machine
        package = importlib.import_module("wandb")
        folder = Path(workdir).resolve()
        (folder / "wandb").mkdir(exist_ok=True)  # otherwise it takes the system's folder
        run_id = _kept(folder / "wandb" / "run_id", lambda: secrets.token_hex(4), step)
        self._run = package.init(
            dir=str(folder),
            project=os.environ.get("WANDB_PROJECT", "onestep"),
            name=folder.name,
            id=run_id,
            resume="allow",
            mode=os.environ.get("WANDB_MODE", "offline"),
            config=_flat(config),
            settings=package.Settings(silent=True, console="off"),
        )
        # A step of our own: theirs may not go back, as after a rollback.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, record: dict) -> None:
        """Log the numbers of a record."""
        self._run.log({**_numbers(record), "step": record["step"]})

    def close(self) -> None:
        """Tell the tool that this process writes no more."""
        self._run.finish()


class mlflow:  # noqa: N801
    """MLflow, in the SQLite file `mlflow.db`; `MLFLOW_TRACKING_URI` names another store.

    `MLFLOW_EXPERIMENT_NAME` names the experiment. A resumed run goes on with the id in
    `mlflow_run_id`.
    """

    package = "mlflow"

    def __init__(self, workdir: Path, config: ConfigDict, step: int):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves the machine
        tracking = importlib.import_module("mlflow")
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # not a line for each table
        folder = Path(workdir).resolve()
        store = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        self._metric = tracking.entities.Metric
        self._client = tracking.MlflowClient(tracking_uri=store)

        def start() -> str:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "onestep")
            experiment = self._client.get_experiment_by_name(name)
            number = experiment.experiment_id if experiment else self._client.create_experiment(
                name, artifact_location=(folder / "mlflow").as_uri())  # fmt: skip
            run_id = self._client.create_run(number, run_name=folder.name).info.run_id
            for key, value in _flat(config).items():
                self._client.log_param(run_id, key, value)
            return run_id

        self._id = _kept(folder / "mlflow_run_id", start, step)
        self._client.update_run(self._id, "RUNNING")

    def write(self, record: dict) -> None:
        """Log the numbers of a record."""
        now = int(1000 * time.time())
        metrics = [
            self._metric(re.sub(r"[^\w\-. /]", "_", name), value, now, record["step"])
            for name, value in _numbers(record).items()
        ]
        self._client.log_batch(self._id, metrics)

    def close(self) -> None:
        """Mark the run as finished; a resumed one is marked as running again."""
        self._client.set_terminated(self._id)


def _numbers(record: dict) -> dict[str, float]:
    """Return the finite numbers of a record by tag.

    A metric is `split/name`, an entry of a short array `split/name/0`, the metric of a member of an
    ensemble `split/members/name_0`.
    """
    tags = {}
    for name, value in record.items():
        if name in ("step", "split", "members"):
            continue
        entries = {name: value}
        if isinstance(value, (list, tuple)):
            entries = {f"{name}/{place}": entry for place, entry in enumerate(value)}
        if len(entries) <= _MOST_ENTRIES:
            tags |= entries
    for name, values in record.get("members", {}).items():
        tags |= {f"members/{name}_{member}": value for member, value in enumerate(values)}
    return {
        f"{record['split']}/{name}": float(value)
        for name, value in tags.items()
        if isinstance(value, (int, float)) and math.isfinite(value)
    }


def _flat(config: ConfigDict) -> dict[str, Any]:
    """Return the config by dotted key; what is not a number or a word becomes text."""
    from research.config import flatten

    kinds = (bool, int, float, str)
    return {
        key: value if isinstance(value, kinds) else repr(value)
        for key, value in flatten(config).items()
    }


def _kept(path: Path, make: Callable[[], str], step: int) -> str:
    """Return the id in a file, for a resumed run; or make an id and write it to the file."""
    if step and path.exists():
        return path.read_text().strip()
    run_id = make()
    path.write_text(run_id + "\n")
    return run_id


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """Hide PyTorch while tensorboardX is imported: it would import it, which takes seconds."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # an import of it fails
    try:
        yield
    finally:
        del sys.modules["torch"]
