"""`~` at the beginning of a path is the user's home, wherever a path can be given."""

import sys

import jax
import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags
from runs import here, saved_run

from research import cli, platform
from research.config import default_config
from research.data import sources
from research.errors import UserError
from research.training import transfer

CONFIG = "from research.config import default_config as get_config\n"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The user's home; the work is done elsewhere."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # old ways in ml_collections
def test_on_the_command_line(home, monkeypatch):
    (home / "config.py").write_text(CONFIG)
    (home / "flags.txt").write_text("--output=~/o.html\n")
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    for name in ("workdir", "output", "text"):
        flags.DEFINE_string(name, None, "", flag_values=values)
    argv = ["main", "--config=~/config.py", "--config.data.path=~/d.npz", "--workdir=~/runs/~",
            "--flagfile=~/flags.txt", "--config.transfer.checkpoint", "~/old", "--text=a~b",
            "~/one", "two~", "~"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", argv)  # ml_collections looks there for overrides
    left = cli._parse_flags(argv, values)
    assert left == ["main", f"{home}/one", "two~", f"{home}"]
    assert values.config.data.path == f"{home}/d.npz" and values.text == "a~b"
    assert values.config.transfer.checkpoint == f"{home}/old"
    assert (values.workdir, values.output) == (f"{home}/runs/~", f"{home}/o.html")


def test_in_a_config_and_in_the_environment(home, monkeypatch):
    np.savez(home / "data.npz", inputs=np.eye(20), labels=np.arange(20) % 2)
    config = default_config()
    config.data.name, config.data.path = "npz", "~/data.npz"
    assert len(sources.load(config.data).train) == 16
    assert config.data.path == "~/data.npz"  # who asked for it sees what it wrote
    config.data.path = "~/none.npz"
    with pytest.raises(UserError, match=f"'{home}/none.npz': no such file"):
        sources.load(config.data)
    config.transfer.checkpoint = "~/none.safetensors"
    with pytest.raises(UserError, match=f"'{home}/none.safetensors': no such file"):
        transfer._read(config.transfer)


def test_compiled_programs(home, monkeypatch):
    names = ("compilation_cache_dir", "persistent_cache_min_compile_time_secs",
             "persistent_cache_min_entry_size_bytes")  # fmt: skip
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in names}
    monkeypatch.setenv("XDG_CACHE_HOME", "~/cache")
    try:
        for value, folder in (("~/programs", "programs"), ("", "cache/onestep/xla")):
            monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", value)
            platform.enable_compilation_cache()
            assert jax.config.jax_compilation_cache_dir == f"{home}/{folder}"
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def test_for_a_report(home):
    config = default_config()
    config.data.name, config.model.hidden = "moons", (4,)
    saved_run(home / "run", config)
    done = here("report", "~/run", "--output=~/report.html")
    assert done.returncode == 0, done.stderr
    assert (home / "report.html").exists() and not (home.parent / "work" / "~").exists()
