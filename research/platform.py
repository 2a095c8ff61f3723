"""The machine: its memory, and what has to be set before jax compiles anything."""

import os
from pathlib import Path


def physical_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def enable_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that the second start of anything is quick.

    A user's own JAX_COMPILATION_CACHE_DIR stands.
    """
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        jax.config.update("jax_compilation_cache_dir", str(root / "onestep" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
