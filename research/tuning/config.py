"""The section `search` of a config: every key with its default and meaning."""

from ml_collections import ConfigDict


def default_search() -> ConfigDict:
    """All keys of `config.search`; a config file assigns what differs, `space` at least."""
    search = ConfigDict()

    # What to try next.
    search.space = ()  # axes: linear, log, integer, choice of research/tuning/spaces.py
    search.method = "random"  # research/tuning/samplers.py
    search.seed = 0  # of the method; what is trained starts from `seed`
    search.enqueue = ()  # points that go first: tuples of (key, value) pairs
    search.grid_points = 3  # grid: values on each continuous axis
    search.rounds = 3  # coarse_to_fine: each in a narrower box
    search.round_method = "random"  # coarse_to_fine: any other method
    search.round_trials = 16  # coarse_to_fine: in each round; the last takes what is left
    search.round_shares = (0.1, 0.3, 1.0)  # coarse_to_fine: of the duration, for each round
    search.shrink = 0.4  # coarse_to_fine: width of a box, as a share of the one before

    return search
