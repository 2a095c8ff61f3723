"""Check the config of a search as a whole, before any work is done."""

from ml_collections import ConfigDict

from research.config import check_config
from research.errors import UserError
from research.names import resolve
from research.tuning import engines, lane_modes, methods, schedulers
from research.tuning.config import check_section, training
from research.tuning.spaces import Space


def check_search(config: ConfigDict) -> Space:
    """Check a config before any work is done.

    Args:
      config: a training config with a section `search`.

    Returns:
      The space to search.

    Raises:
      UserError: a wrong key, type or value, or more programs than are allowed.
    """
    if not isinstance(config.get("search"), ConfigDict):
        raise UserError(
            "the config has no section `search`: python -m research.main trains it (allowed: "
            "config.search = default_search(), as in configs/search_bn_adam.py)"
        )
    check_section(config)
    modules = {"scheduler": schedulers, "lane_mode": lane_modes, "engine": engines}
    for key, module in modules.items():
        resolve(f"config.search.{key}", config.search[key], module)
    methods.from_config(config.search)
    check_config(training(config))
    space = Space.from_config(config)
    programs = space.programs()
    if programs > config.search.max_programs:
        static = [key for key in space.keys if not space.is_traced(key)]
        raise UserError(
            f"config.search.space: {programs} programs to compile, one for each combination of "
            f"{', '.join(static)} (allowed: config.search.max_programs = "
            f"{config.search.max_programs})"
        )
    if not _pairs(config.search.slurm_options):
        raise UserError(
            f"config.search.slurm_options = {config.search.slurm_options!r} is no tuple of pairs "
            "(allowed: (('partition', 'gpu'), ...))"
        )
    for point in config.search.enqueue:
        if not _pairs(point):
            raise UserError(
                f"config.search.enqueue: {point!r} is no tuple of pairs (allowed: "
                "(('optimizer.learning_rate', 1e-3), ...))"
            )
        space.check(dict(point), "config.search.enqueue")
    return space


def _pairs(value: object) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(pair, tuple) and len(pair) == 2 for pair in value
    )
