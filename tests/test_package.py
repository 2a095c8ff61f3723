"""The package as a whole: the safe XLA flag, the cost of imports, the config files."""

import importlib.util
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
from conftest import ROOT

import research
from research.config import check_config
from research.tuning.methods import check_search


def test_the_flag_is_set_only_where_jaxlib_knows_it_and_the_user_did_not():
    flag = "--xla_cpu_experimental_ynn_fusion_type="
    assert research._safe_xla_flags("", "0.10.2") == flag
    assert research._safe_xla_flags("", "0.10.1") == ""
    assert research._safe_xla_flags(flag + "-reduce", "0.10.2") == flag + "-reduce"


def test_a_vmapped_reduction_over_many_rows_is_right():
    """jaxlib 0.10.2's default is silently wrong here (jax issue 39103)."""
    rows = jnp.ones((32769, 128), jnp.float32)
    matrix = jnp.ones((16, 128), jnp.float32)
    result = jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))(rows)
    np.testing.assert_allclose(np.asarray(result), 16 * 128.0**2)


def modules_after(code: str) -> set[str]:
    lines = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_nothing_heavy_is_imported_before_it_is_used():
    """A mistyped flag is answered at once, and a run pays for what it uses alone."""
    heavy = {"jax", "flax", "orbax", "tensorflow_datasets", "sklearn", "plotly", "optuna", "grain"}
    assert not heavy & modules_after("import research.main, research.evaluate, research.report")
    assert not heavy & modules_after("import research.search")
    assert not heavy & modules_after("from research.reporting import page, search_page")
    code = "from research.config import default_config as c\nfrom research.training import setup\n"
    trained = modules_after(
        code + "config = c()\nconfig.data.name = 'moons'\nsetup.from_config(config)"
    )
    assert "jax" in trained
    assert not {"orbax", "tensorflow_datasets", "sklearn", "plotly", "optuna", "grain"} & trained


def test_every_config_is_checked_and_says_how_it_is_run():
    files = sorted((ROOT / "configs").glob("*.py"))
    assert len(files) >= 7
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if "](configs/" in line]
    told = dict(re.search(r"\(configs/(.*)\) \| (.*?) \|", row).groups() for row in rows)
    assert set(told) == {file.name for file in files}
    for file in files:
        spec = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config()
        command = "search" if "search" in config else "main"
        check_search(config) if "search" in config else check_config(config)
        assert f"python -m research.{command} --config=configs/{file.name}" in module.__doc__
        assert told[file.name].lower().replace("-", "") in config.data.name
        expected = r"\d %|R2 of \d|\d bits per character"  # measured
        assert re.search(expected, module.__doc__) and "TODO" not in module.__doc__
