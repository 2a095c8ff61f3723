"""Read what a run's checkpoints store about its data: fingerprint and preprocessing."""

import contextlib
import json
from pathlib import Path

from ml_collections import ConfigDict

from research import config as configuration
from research.data import identity
from research.training.checkpoints import Checkpoints


def fitted_before(workdir: Path, config: ConfigDict) -> dict | None:
    """Return the preprocessing in a run folder, so that it need not be fitted again.

    The data get the offset of this preprocessing too. Callers compare fingerprints to refuse or
    report data that differ from those it was fitted to.

    Args:
      workdir: the run folder.
      config: the current config of the run.

    Returns:
      The preprocessing of the newest readable checkpoint with the same `config.data` and
      `config.preprocessing`; None if there is none. Only the location of the data may differ: data
      that moved keep the offset that weights were trained with.
    """
    if not (Path(workdir) / "checkpoints").is_dir():
        return None
    with Checkpoints(workdir, read_only=True) as checkpoints:
        for step in reversed(checkpoints.steps()):
            with contextlib.suppress(Exception):  # skip damaged ones; `restore` reports them
                text = json.dumps(checkpoints.metadata(step)["config"])
                theirs = configuration.from_json(text, str(workdir))  # adds newer keys
                changed = configuration.differences(config, theirs)
                if not any(
                    key.startswith(("data.", "preprocessing."))
                    and key not in configuration.LOCATIONS
                    for key in changed
                ):
                    return checkpoints.weights(step)["preprocessing"]
    return None


def known_data(workdir: Path) -> dict:
    """Return the fingerprint in the newest readable checkpoint of a run folder; {} without one."""
    if (Path(workdir) / "checkpoints").is_dir():
        with Checkpoints(workdir, read_only=True) as checkpoints:
            for step in reversed(checkpoints.steps()):
                with contextlib.suppress(Exception):  # skip damaged ones; `restore` reports them
                    return identity.of_metadata(checkpoints.metadata(step))
    return {}
