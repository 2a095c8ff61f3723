"""Random configs and damaged run folders: an exit code, at most one line, never a traceback."""

import contextlib
import io
import json
import math
import re
import shutil
import sys
import warnings
from pathlib import Path

import hypothesis
import jax
import pytest
from absl import flags
from absl.testing import flagsaver
from hypothesis import strategies as st
from ml_collections import config_flags
from searches import COHORTS, RATE, SMOOTHING, search, searched

from research import cli, evaluate, main, report
from research import config as configuration
from research.config import usage
from research.names import choices
from research.reporting import search_page
from research.tasks.classification import Classification
from research.training import advance, evaluation, setup
from research.tuning import methods, optuna_export, results
from research.tuning.reports import Objective
from research.tuning.spaces import Space

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


OF_THE_TASK = {
    "loss.name": [*Classification.losses],
    "loss.class_weights": ["('balanced',)"],
    "metrics": [f"('{name}',)" for name in Classification.known_metrics],
    "early_stopping.metric": ["loss", "accuracy"],
}


def accepted(key: str) -> st.SearchStrategy[str]:
    """Values of a key that are none by themselves to refuse."""
    if key in OF_THE_TASK:
        return st.sampled_from(OF_THE_TASK[key])
    declared = configuration.KEYS[key]
    default = declared.default
    sample = default[0] if isinstance(default, tuple) and default else default
    if key == "augmentation.names":
        sample = "flip"
    low, high = declared.range or (-math.inf, math.inf)
    values = [sample]
    if declared.choices or declared.choices_in:
        values = declared.choices or choices(usage.module_of(key))
    elif declared.duration:
        values = ["1 steps", "50 percent", "1 epochs"]
    elif isinstance(default, bool):
        values = [True, False]
    elif isinstance(sample, int):
        values = [number for number in (max(low, -1), 1, 2, 3, 8) if low <= number < high] + [
            sample
        ]
    elif isinstance(sample, float):
        numbers = (max(low, -1.0), 1e-6, 0.5, 1.0, 2.0)
        values = [number for number in numbers if low <= number < high] + [sample]
    text = "({!r},)" if isinstance(default, tuple) and sample != () else "{}"
    return st.sampled_from([text.format(value) for value in values])


# Of data sets that are there; what is done with them by keys that go together more often than not.
ACCEPTED = st.tuples(
    st.sampled_from([(("data.name", "moons"),), (("data.name", "digits"), ("model.name", "cnn"))]),
    st.lists(
        st.sampled_from(
            [key for key in KEYS if not key.startswith(("data.", "transfer."))]
        ).flatmap(lambda key: st.tuples(st.just(key), accepted(key))),
        min_size=4,
        max_size=8,
        unique_by=lambda pair: pair[0],
    ),
).map(lambda parts: [*parts[0], *parts[1]])


def two_steps(config) -> int:
    """Start a run, and let it take two steps and evaluate: what only shows when it is run."""
    run = setup.from_config(config)
    run.plan()
    state = run.init()
    state, _ = advance.over_arrays(run, state)(state, 2)
    if len(run.validation):
        evaluation.validation_evaluator(run, state)(state)
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


def fuzzed_config(toy: str, overrides) -> int:
    argv = ["main", f"--config={toy}", *(f"--config.{key}={value}" for key, value in overrides)]
    code, errors = outcome(argv, two_steps)
    checked(code, errors)
    return code


# The same examples each time, so that a commit is green or is not; RANDOM looks further.
SETTINGS = {
    "deadline": None,
    "suppress_health_check": list(hypothesis.HealthCheck),
    "derandomize": True,
}
RANDOM = {**SETTINGS, "derandomize": False}


@hypothesis.settings(max_examples=40, **SETTINGS)
@hypothesis.given(OVERRIDES)
def test_any_config_takes_two_steps_or_is_refused_in_one_line(toy, overrides):
    fuzzed_config(toy, overrides)


@hypothesis.settings(max_examples=4, phases=[hypothesis.Phase.generate], **SETTINGS)
@hypothesis.given(ACCEPTED)
def test_accepted_values_take_two_steps_or_are_refused_together(toy, overrides):
    fuzzed_config(toy, overrides)


@pytest.mark.slow
@hypothesis.settings(max_examples=5000, **RANDOM)
@hypothesis.given(OVERRIDES)
def test_very_many_configs_take_two_steps_or_are_refused_in_one_line(toy, overrides):
    fuzzed_config(toy, overrides)


@pytest.mark.slow
@hypothesis.settings(max_examples=500, phases=[hypothesis.Phase.generate], **RANDOM)
@hypothesis.given(ACCEPTED)
def test_many_accepted_values_take_two_steps_or_are_refused_together(toy, overrides):
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
    with flagsaver.flagsaver():  # a worker of pytest may come to this module twice
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


@hypothesis.settings(max_examples=8, **SETTINGS)
@hypothesis.given(CHOICE, damages())
def test_a_damaged_run_is_evaluated_or_refused(tmp_path_factory, finished, choice, damage):
    workdir = damaged(finished, tmp_path_factory.getbasetemp(), choice, damage)
    checked(*called(evaluate.main, "evaluate", str(workdir)))


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


SEARCHES = [
    searched(scheduler="asha", reduction=2, trials=8, segments=4),
    searched(COHORTS, scheduler="successive_halving", reduction=2, trials=8, segments=4),
    searched(scheduler="population_based", exploit_share=0.4, trials=5, segments=4),
    searched(method="coarse_to_fine", round_trials=2, trials=6, segments=4,
             enqueue=(((RATE, 1e-3), (SMOOTHING, 0.1)),) * 3),
]  # fmt: skip
ANYTHING = [None, True, 0, 1, 2, 7, -1, 2**63, 0.5, -0.5, 1e308, float("nan"), "", "x", "finished",
            "stopped", RATE, [], [0], {}, {"a": 1}, {"a.b": {}}]  # fmt: skip


def to_its_end(config, workdir: Path) -> int:
    """A search over a training in closed form, with all that it leaves behind."""
    study, _ = search(config, workdir / "ledger.jsonl")
    space = Space.from_config(config)
    export = optuna_export.OptunaExport(
        workdir / "journal.log", space, Objective.from_config(config)
    )
    export.update(study.trials)
    search_page.write_report([workdir], workdir / "report.html")
    if results.all_diverged(study.trials):
        return 3
    found = results.best(study.trials)
    results.config_file(results.as_config(config, found), "")
    results.command_line(results.overrides(config, found))
    results.summary(study.trials)
    methods.rounds(config.search, space, study.trials)
    return 0


@pytest.fixture(scope="module", params=range(len(SEARCHES)))
def searched_through(request, tmp_path_factory):
    """A search that came to its end: its config, and the lines of its ledger."""
    config, workdir = SEARCHES[request.param], tmp_path_factory.mktemp("searched")
    assert to_its_end(config, workdir) == 0
    return config, (workdir / "ledger.jsonl").read_text().splitlines()


def places(value) -> list[tuple]:
    """Of all that can be changed in an object of JSON: (what holds it, its key or index)."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, held in list(inner):
        found += [(value, key)] + (places(held) if isinstance(held, (dict, list)) else [])
    return found


@st.composite
def edits(draw):
    """A function that changes the lines of a ledger, as a hand may that means well."""
    kind = draw(
        st.sampled_from(["drop", "swap", "repeat", "cut", "value", "value", "value", "key"])
    )
    at, other, value = draw(CHOICE), draw(CHOICE), draw(st.sampled_from(ANYTHING))

    def edit(lines: list[str]) -> None:
        number, second = int(at * len(lines)), int(other * len(lines))
        if kind == "drop":
            del lines[number]
        elif kind == "swap":
            lines[number], lines[second] = lines[second], lines[number]
        elif kind == "repeat":
            lines.insert(second, lines[number])
        elif kind == "cut":
            del lines[number:]
        else:
            line = json.loads(lines[number])
            among = places(line)
            holder, key = among[int(other * len(among))]
            if kind == "value":
                holder[key] = value
            else:
                del holder[key]
            lines[number] = json.dumps(line)

    return edit


def edited_ledger(workdir: Path, searched_through, edit) -> None:
    config, lines = searched_through
    lines = list(lines)
    edit(lines)
    workdir.mkdir(exist_ok=True)
    for file in workdir.iterdir():
        file.unlink()
    (workdir / "ledger.jsonl").write_text("".join(line + "\n" for line in lines))
    code, errors = called(lambda _: to_its_end(config, workdir))
    checked(code, errors)
    where = r"ledger.jsonl, line \d+|search of another config|one of \d+ already"
    assert code != 2 or re.search(where, errors), errors
    (workdir / "report.html").unlink(missing_ok=True)
    checked(*called(lambda _: search_page.write_report([workdir], workdir / "report.html")))


@hypothesis.settings(max_examples=60, **SETTINGS)
@hypothesis.given(edits())
def test_an_edited_ledger_goes_on_or_is_refused_in_one_line(tmp_path, searched_through, edit):
    edited_ledger(tmp_path / "run", searched_through, edit)


@pytest.mark.slow
@hypothesis.settings(max_examples=5000, **RANDOM)
@hypothesis.given(edits())
def test_very_many_edited_ledgers(tmp_path, searched_through, edit):
    edited_ledger(tmp_path / "run", searched_through, edit)


@hypothesis.settings(max_examples=20, **SETTINGS)
@hypothesis.given(damages())
def test_a_damaged_ledger_goes_on_or_is_refused_in_one_line(tmp_path, searched_through, damage):
    config, lines = searched_through
    (tmp_path / "run").mkdir(exist_ok=True)
    path = tmp_path / "run" / "ledger.jsonl"
    if path.is_dir():
        path.rmdir()
    path.write_text("".join(line + "\n" for line in lines))
    damage(path)
    checked(*called(lambda _: to_its_end(config, path.parent)))


def test_overrides_reach_the_config(toy):
    """Or the tests above would only try unknown flags."""
    argv = ["main", f"--config={toy}", "--config.batch_size=7", "--config.model.hidden=(3,2)"]
    assert outcome(argv, lambda c: (c.batch_size, c.model.hidden) != (7, (3, 2))) == (0, "")
