"""What all tests share: folders of their own, real data where it is there, real commands."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

# No test judges time: a busy machine is not a fault.
hypothesis.settings.register_profile("timeless", deadline=None)
hypothesis.settings.load_profile("timeless")

ROOT = Path(__file__).parent.parent
REAL_DATA = Path(os.environ.get("ONESTEP_TEST_DATA", ROOT.parent / "shared" / "data")).expanduser()


QUICKLY = "--xla_backend_optimization_level=1"


def pytest_configure(config):
    """Most of the quick tests' time is compilation, of which LLVM's first level takes half.

    What XLA makes of a program before that is the same. The slow tests compile as users do.
    Commands find this copy of the project, and whatever else the tests were told to look for.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    )
    flags = os.environ.get("XLA_FLAGS", "")
    if config.option.markexpr == "not slow" and QUICKLY not in flags:
        os.environ["XLA_FLAGS"] = f"{QUICKLY} {flags}".strip()


@pytest.fixture(scope="session", autouse=True)
def _folders_of_our_own(tmp_path_factory):
    """Data and caches of the tests stay out of the user's; commands inherit them."""
    root = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        patch.setenv("TFDS_DATA_DIR", str(root / "data"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _programs_are_kept(tmp_path_factory):
    """What takes long to compile is compiled once: each `run.init()` is a program of its own."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("programs")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)


@pytest.fixture(scope="module", autouse=True)
def _programs_of_one_module():
    """Compiled programs are memory maps; past the 65,530 Linux allows a process, XLA aborts."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


@pytest.fixture(scope="session")
def real_data() -> str:
    """The folder of prepared TFDS sets."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no prepared data sets in {REAL_DATA} (set ONESTEP_TEST_DATA)")
    return str(REAL_DATA)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The run folder of the main job, run to its end: to be read, or copied."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    result = subprocess.run(
        command_line("main", "--config=configs/bn_adam.py", f"--workdir={workdir}"),
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr and "test accuracy" in result.stdout
    return workdir


@pytest.fixture(scope="module")
def moons():
    """A small run, set up; built when first asked for."""
    from research.config import default_config
    from research.training import setup

    config = default_config()
    config.data.name = "moons"
    config.model.hidden = (8,)
    return setup.from_config(config)


@pytest.fixture(scope="session")
def _forks():
    """What starts commands: see forked.py."""
    with subprocess.Popen(
        [sys.executable, ROOT / "tests" / "forked.py"],
        cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        yield process


@pytest.fixture
def command(_forks, tmp_path_factory):
    """`command('main', '--config=...')` runs `research.main` as a process, to its end."""

    def run(name: str, *arguments: str, timeout: int = 300) -> subprocess.CompletedProcess:
        folder = tmp_path_factory.mktemp("printed")
        files = [folder / "stdout", folder / "stderr"]
        request = [name, arguments, dict(os.environ), *map(str, files), timeout]
        print(json.dumps(request), file=_forks.stdin, flush=True)
        code = int(_forks.stdout.readline())
        line, printed = command_line(name, *arguments), [file.read_text() for file in files]
        if code == -signal.SIGALRM:
            raise subprocess.TimeoutExpired(line, timeout, *printed)
        return subprocess.CompletedProcess(line, code, *printed)

    return run


def command_line(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"research.{name}", *arguments]
