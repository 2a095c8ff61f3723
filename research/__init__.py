"""onestep: train neural networks with JAX and Flax, and see why they train.

Importing the package imports nothing heavy: names below are imported when they are first used. It
only sets, before jax starts, the one XLA flag without which jaxlib on CPU computes wrong numbers
(see `_safe_xla_flags`).
"""

import importlib
import os
import re
from importlib import metadata


def _safe_xla_flags(flags: str, jaxlib_version: str) -> str:
    """Add the flag that turns off XLA's YNNPACK fusions on CPU, where jaxlib has them.

    Since jaxlib 0.10.2 these fusions are on by default: a jitted vmap of a reduction over more
    than 32,768 rows returns wrong sums, silently (jax issue 39103), and convolution gradients are
    several times slower. Earlier versions abort on the unknown flag. A user's own choice stands.
    `tests/test_package.py` holds the reproducer, to tell when this can go.
    """
    flag = "--xla_cpu_experimental_ynn_fusion_type"
    version = tuple(int(number) for number in re.findall(r"\d+", jaxlib_version)[:3])
    if flag in flags or version < (0, 10, 2):
        return flags
    return f"{flags} {flag}=".strip()


try:
    os.environ["XLA_FLAGS"] = _safe_xla_flags(
        os.environ.get("XLA_FLAGS", ""), metadata.version("jaxlib")
    )
except metadata.PackageNotFoundError:
    raise SystemExit("error: jaxlib is not installed here; is the environment active?") from None

_PUBLIC = {
    "default_config": "research.config",
    "UserError": "research.errors",
    "Experiment": "research.experiment",
    "Result": "research.experiment",
    "fit": "research.experiment",
    "Trained": "research.trained",
    "load": "research.trained",
    "Task": "research.tasks",
    "metric": "research.tasks.metric",
    "name_of": "research.names",
}
__all__ = list(_PUBLIC)  # noqa: PLE0605


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
