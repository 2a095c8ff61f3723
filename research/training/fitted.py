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
      config: of the run, as it is now.

    Returns:
      That of the newest whole checkpoint with the same `config.data` and `config.preprocessing`,
      but for where the data lie: they may move, and keep the offset that weights were trained
      with. None where there is none.
    """
    if not (Path(workdir) / "checkpoints").is_dir():
        return None
    with Checkpoints(workdir, read_only=True) as checkpoints:
        for step in reversed(checkpoints.steps()):
            with contextlib.suppress(Exception):  # of damaged ones; `restore` tells
                text = json.dumps(checkpoints.metadata(step)["config"])
                theirs = configuration.from_json(text, str(workdir))  # with keys newer than it
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
                with contextlib.suppress(Exception):  # of damaged ones; `restore` tells
                    return identity.of_metadata(checkpoints.metadata(step))
    return {}
