"""What a browser makes of a page; its tests are skipped where there is none."""

import shutil
import subprocess
from pathlib import Path

import pytest

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--enable-logging=stderr", "--virtual-time-budget=10000", "--dump-dom")  # fmt: skip


def drawn(page: Path) -> str:
    """The document after its scripts have run, none of which failed."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("no chromium on this machine")
    profile = f"--user-data-dir={page.parent / 'profile'}"
    done = subprocess.run(
        [chromium, *FLAGS, profile, f"file://{page}"], capture_output=True, text=True, timeout=120
    )
    assert "Uncaught" not in done.stderr
    return done.stdout
