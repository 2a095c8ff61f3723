"""What a run has fitted to its data before: the preprocessing in its checkpoints."""

import contextlib
import json
from pathlib import Path

from ml_collections import ConfigDict

from research import config as configuration
from research.training.checkpoints import Checkpoints


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
                theirs = checkpoints.metadata(step)["config"]
                if all(theirs[name] == ours[name] for name in ("data", "preprocessing")):
                    return checkpoints.weights(step)["preprocessing"]
    return None
