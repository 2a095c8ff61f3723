"""What a run has fitted to its data before: the preprocessing in its checkpoints."""

import contextlib
import json
from pathlib import Path

from ml_collections import ConfigDict

from research import config as configuration
from research.training.checkpoints import Checkpoints


def fitted_before(workdir: Path, config: ConfigDict) -> dict | None:
    """The preprocessing in a run folder: data are loaded with its offset, and not read to fit it.

    Returns:
      That of the newest whole checkpoint with the same `config.preprocessing`; None where there is
      none. `config.data` may differ: data move, and weights go on with what they were trained with.
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
