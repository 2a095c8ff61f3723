"""What the checkpoints of a run know of its data: their fingerprint, and the preprocessing."""

import contextlib
import json
from pathlib import Path

from ml_collections import ConfigDict

from research import config as configuration
from research.data import identity
from research.training.checkpoints import Checkpoints


def fitted_before(workdir: Path, config: ConfigDict) -> dict | None:
    """Return the preprocessing in a run folder, so that data need not be read to fit it.

    Its offset is subtracted from the data, too. Other data than those that it was fitted to are
    refused, or reported, by their fingerprint.

    Args:
      workdir: the run folder.
      config: with the same `config.preprocessing`.

    Returns:
      That of the newest whole checkpoint; None where there is none.
    """
    if not (Path(workdir) / "checkpoints").is_dir():
        return None
    ours = json.loads(configuration.to_json(config))
    with Checkpoints(workdir, read_only=True) as checkpoints:
        for step in reversed(checkpoints.steps()):
            with contextlib.suppress(Exception):  # of damaged ones; `restore` tells
                theirs = checkpoints.metadata(step)["config"]
                if theirs["preprocessing"] == ours["preprocessing"]:
                    return checkpoints.weights(step)["preprocessing"]
    return None


def known_data(workdir: Path) -> dict:
    """Return the fingerprint in the newest readable checkpoint of a run folder; {} without one."""
    if (Path(workdir) / "checkpoints").is_dir():
        with Checkpoints(workdir, read_only=True) as checkpoints:
            for step in reversed(checkpoints.steps()):
                with contextlib.suppress(Exception):  # of damaged ones; `restore` tells
                    return identity.of_metadata(checkpoints.metadata(step))
    return {}
