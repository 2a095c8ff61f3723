"""Random configs and damaged run folders: an exit code, at most one line, never a traceback."""

import contextlib
import io
import json
import shutil
import sys
import warnings
from pathlib import Path

import hypothesis
import jax
import pytest
from absl import flags
from hypothesis import strategies as st
from ml_collections import config_flags

from research import cli, evaluate, main, report
from research import config as configuration
from research.training import setup

KEYS = sorted(configuration.flatten(configuration.default_config()))
NAMES = ["relu", "sgd", "adam", "mlp", "cnn", "resnet", "moons", "digits", "flip", "none", "maxout",
         "layer_norm", "lsuv", "npz", "folder", "mixup", "orthogonal", "piecewise"]  # fmt: skip
SCALARS = st.one_of(
    st.integers(-3, 40).map(str),
    st.sampled_from([str(2**31), str(-(2**63)), str(10**40), "1e-3", "0.5", "1.0", "nan", "inf"]),
    st.sampled_from(["-inf", "1e400", "True", "None", "''", "0x10", "1_000", "\ud800", "\x00"]),
    st.floats().map(str),
    st.sampled_from(NAMES),
    st.sampled_from(["3 epochs", "10 percent", "-1 steps", "1e30 steps", "0 epochs", "7 examples"]),
    st.text(max_size=8),
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3).map(lambda parts: f"({','.join(parts)},)")
OVERRIDES = st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=3)


def outcome(argv, work) -> tuple[int, str]:
    """The exit code of a command, and what it prints to stderr."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    errors = io.StringIO()
    with (
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(io.StringIO()),
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of old ways in ml_collections, of absurd numbers
        patch.setattr(sys, "argv", argv)  # ml_collections looks there for overrides
        try:
            cli._parse_flags(argv, values)
            code = cli._guarded(lambda _: work(values.config), argv)
        except SystemExit as end:
            code = end.code
    return code, errors.getvalue()


def checked(code: int, errors: str) -> None:
    assert code in (0, 2, 3), errors
    lines = errors.splitlines()
    assert "Traceback" not in errors and len(errors.strip("\n").split("\n")) <= 1, errors
    assert (code == 2) == (bool(lines) and lines[0].startswith("error: ")), (code, errors)


def prepared(config) -> int:
    """All of a start up to the first compilation."""
    run = setup.from_config(config)
    run.plan()
    jax.eval_shape(run.init)
    return 0


def config_file(folder: Path) -> str:
    path = folder / "toy.py"
    path.write_text(
        "from research.config import default_config\n\n\ndef get_config():\n"
        "    config = default_config()\n    config.data.name = 'moons'\n"
        "    config.data.toy_examples = 60\n    config.batch_size = 8\n"
        "    config.model.hidden = (4,)\n    return config\n"
    )
    return str(path)


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> str:
    return config_file(tmp_path_factory.mktemp("config"))


def fuzzed_config(toy: str, overrides) -> None:
    argv = ["main", f"--config={toy}", *(f"--config.{key}={value}" for key, value in overrides)]
    checked(*outcome(argv, prepared))


# The same examples each time, so that a commit is green or is not; RANDOM looks further.
SETTINGS = {
    "deadline": None,
    "suppress_health_check": list(hypothesis.HealthCheck),
    "derandomize": True,
}
RANDOM = {**SETTINGS, "derandomize": False}


@hypothesis.settings(max_examples=40, **SETTINGS)
@hypothesis.given(OVERRIDES)
def test_any_config_is_prepared_or_refused_in_one_line(toy, overrides):
    fuzzed_config(toy, overrides)


@pytest.mark.slow
@hypothesis.settings(max_examples=5000, **RANDOM)
@hypothesis.given(OVERRIDES)
def test_very_many_configs_are_prepared_or_refused_in_one_line(toy, overrides):
    fuzzed_config(toy, overrides)


@hypothesis.settings(max_examples=200, **SETTINGS)
@hypothesis.given(st.text(max_size=30), st.text(max_size=10))
def test_any_key_is_known_or_refused_in_one_line(toy, key, value):
    checked(*outcome(["main", f"--config={toy}", f"--config.{key}={value}"], lambda _: 0))


@pytest.fixture(scope="module")
def finished(toy, tmp_path_factory) -> Path:
    """A run on a toy set, to its end, by the command's own function."""
    kept = jax.config.jax_compilation_cache_dir
    folder = tmp_path_factory.mktemp("finished") / "run"
    arguments = [
        f"--workdir={folder}",
        "--config.duration=4 steps",
        "--config.checkpoint.every=2 steps",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ml_collections loads modules in an old way
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["main", f"--config={toy}", *arguments])
            flags.FLAGS(sys.argv)
    checked(*called(main.main, "main"))
    assert (folder / "report.html").exists()
    yield folder
    jax.config.update("jax_compilation_cache_dir", kept)


def called(function, *argv) -> tuple[int, str]:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = cli._guarded(function, [*argv])
    # Progress is told there too, and checkpoints that are passed over.
    lines = [line for line in errors.getvalue().splitlines() if not line.startswith("epoch ")]
    return code, "\n".join(line for line in lines if "is damaged" not in line or code)


JUNK = ["", "{", "[]", "null", "{}", '{"step": 1}', '{"step": "x", "split": []}', "[" * 100_000,
        '{"a": ' * 5000, '{"loss": {}}', "9" * 5000, '"\\ud800"', "\x00" * 64]  # fmt: skip


@st.composite
def damages(draw):
    """A function that damages a file, and what it is called."""
    kind = draw(st.sampled_from(["flip", "cut", "junk", "delete", "folder", "value"]))
    place, bit = draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(0, 7))
    junk = draw(st.sampled_from(JUNK))

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        if kind == "flip" and data:
            data[int(place * len(data))] ^= 1 << bit
        elif kind == "cut":
            data = data[: int(place * len(data))]
        elif kind == "junk":
            data = junk.encode()
        elif kind == "value":  # JSON as it should be, but for one value
            with contextlib.suppress(UnicodeDecodeError, IndexError):  # not text, or empty
                lines = data.decode().splitlines()
                number = int(place * len(lines))
                lines[number] = lines[number].partition(":")[0] + f": {junk or 'null'}"
                lines[number] += "}" if path.suffix == ".jsonl" else ","
                data = "\n".join(lines).encode()
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind != "delete":
            path.write_bytes(bytes(data))

    return damage


def damaged(finished: Path, folder: Path, choice: float, damage, among=lambda path: True) -> Path:
    workdir = folder / "run"
    shutil.rmtree(workdir, ignore_errors=True)
    shutil.copytree(finished, workdir)
    files = [path for path in sorted(workdir.rglob("*")) if path.is_file() and among(path)]
    damage(files[int(choice * len(files))])
    return workdir


CHOICE = st.floats(0, 1, exclude_max=True)


def drawn(path: Path) -> bool:
    return path.name in ("config.json", "metrics.jsonl", "history.jsonl", "environment.json",
                         "summary.json", "evaluation.npz")  # fmt: skip


@hypothesis.settings(max_examples=30, **SETTINGS)
@hypothesis.given(CHOICE, damages())
def test_a_damaged_run_is_drawn_or_refused_in_one_line(tmp_path_factory, finished, choice, damage):
    workdir = damaged(finished, tmp_path_factory.getbasetemp(), choice, damage, drawn)
    (workdir / "report.html").unlink()
    checked(*called(report.main, "report", str(workdir)))


ORBAX = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@ORBAX
@hypothesis.settings(max_examples=8, **SETTINGS)
@hypothesis.given(CHOICE, damages())
def test_a_damaged_run_is_evaluated_or_refused(tmp_path_factory, finished, choice, damage):
    workdir = damaged(finished, tmp_path_factory.getbasetemp(), choice, damage)
    checked(*called(evaluate.main, "evaluate", str(workdir)))


@ORBAX
@hypothesis.settings(max_examples=6, **SETTINGS)
@hypothesis.given(CHOICE, damages(), st.booleans())
def test_a_damaged_run_is_resumed_or_refused(tmp_path_factory, finished, choice, damage, again):
    """To the same bits, where it gets to its end."""
    wanted = json.loads((finished / "summary.json").read_text())["parameters_sha256"]
    workdir = damaged(finished, tmp_path_factory.getbasetemp(), choice, damage)
    if again and (workdir / "summary.json").is_file():
        (workdir / "summary.json").unlink()
    flags.FLAGS.workdir = str(workdir)
    code, errors = called(main.main, "main")
    checked(code, errors)
    if again and code == 0:
        found = json.loads((workdir / "summary.json").read_text())["parameters_sha256"]
        assert found == wanted


def test_overrides_reach_the_config(toy):
    """Or the tests above would only try unknown flags."""
    argv = ["main", f"--config={toy}", "--config.batch_size=7", "--config.model.hidden=(3,2)"]
    assert outcome(argv, lambda c: (c.batch_size, c.model.hidden) != (7, (3, 2))) == (0, "")
