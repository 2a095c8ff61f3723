"""Train one run from a config file, or resume it: python -m research.main --config=CONFIG.py."""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from research import cli
from research.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run folder; default: runs/<config name>.")


def main(argv: list[str]) -> int:
    """Train to the end of the config's duration; exit code 0, 3 (diverged) or 130."""
    cli.refuse_arguments(argv)
    config, path = _CONFIG.value, flags.FLAGS["config"].config_filename
    if "search" in config:
        raise UserError(
            f"config.search: main trains one run; python -m research.search --config={path} "
            "searches"
        )
    # Heavy imports come after the flags, so that a mistyped flag is answered at once.
    from research.experiment import Experiment

    experiment = Experiment(config, _WORKDIR.value or f"runs/{Path(path).stem}")
    changed = config_flags.get_override_values(flags.FLAGS["config"])
    experiment.tell(f"config.{key} = {value!r}" for key, value in changed.items())
    return experiment.fit().exit_code


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    cli.run(main)
