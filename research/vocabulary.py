"""All that a config may say, with formulas, papers and defaults: python -m research.vocabulary.

The page is made of docstrings, signatures and the comments of `default_config`; docs/vocabulary.md
is a copy that a test keeps true.
"""

import ast
import importlib
import inspect
import io
import tokenize
from types import ModuleType

from research import config as keys
from research import models
from research.data import augmentation, mixing, preprocessing
from research.models import (
    activations,
    data_dependent,
    initializers,
    normalization,
    pooling,
    regularization,
)
from research.names import numbers_of, public_functions
from research.optimizers import algorithms, averaging, schedules
from research.reporting import writers
from research.training import lanes, modes
from research.tuning import acquisition, engines, lane_modes, samplers, schedulers
from research.tuning import config as search

# The keys of the config whose values are names, and the modules whose functions they name.
NAMED: dict[str, ModuleType] = {
    "preprocessing.name": preprocessing,
    "augmentation.names": augmentation,
    "augmentation.mixing": mixing,
    "model.activation": activations,
    "model.initializer": initializers,
    "model.fit_weights": data_dependent,
    "model.normalization": normalization,
    "model.pooling": pooling,
    "model.dropout": regularization,
    "optimizer.name": algorithms,
    "schedule.name": schedules,
    "averaging.name": averaging,
    "ensemble.lanes": lanes,
    "parallel.mode": modes,
    "logging.writers": writers,
}
# Those of the section `search`, which only the configs of searches have.
SEARCH: dict[str, ModuleType] = {
    "search.method": samplers,
    "search.acquisition": acquisition,
    "search.scheduler": schedulers,
    "search.lane_mode": lane_modes,
    "search.engine": engines,
}


def page() -> str:
    """The page, in Markdown."""
    parts = [
        "# Vocabulary\n"
        "All that a config may say, made from the code by `python -m research.vocabulary`: first "
        "[every key](#every-key) with its\ndefault, then each name that a key may have as its "
        "value. Traced keys are numbers of the mathematics: changing\none does not recompile, and "
        "a resumed run may. Durations are `'10 epochs'`, `'500 steps'`, `'20000 examples'` or\n"
        "`'5 percent'` of the training.\n",
        "## Every key\n\n" + "\n".join(_keys()),
        "## config.model.name\nModels: the files of research/models/ that build one.\n\n"
        + _table(
            "Name | What it is", [(f"`{name}`", _told(_model(name))) for name in models.names()]
        ),
    ]
    for key, module in {**NAMED, **SEARCH}.items():
        summary = inspect.getdoc(module).partition("\n\n")[0]
        rows = [
            (f"`{name}`", _told(function), _numbers(key, function))
            for name, function in public_functions(module).items()
        ]
        table = _table("Name | What it is | Numbers", rows)
        parts.append(f"## config.{key}\n{summary}\n\n{table}")
    return "\n".join(parts)


def defaults() -> dict[str, object]:
    """Every key that a config may have, with its default."""
    config = keys.default_config()
    config.search = search.default_search()
    return keys.flatten(config)


def meanings() -> dict[str, str]:
    """What each key of the config stands for: its comment in `default_config`, as one line.

    That is the comment on the lines of its assignment, and on those below with nothing else.
    """
    return {**_comments(keys.default_config), **_comments(search.default_search)}


def _comments(function) -> dict[str, str]:
    source = inspect.getsource(function)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = source.splitlines()
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokens
        if token.type == tokenize.COMMENT
    }
    found = {}
    for statement in ast.parse(source).body[0].body:
        target = getattr(statement, "targets", [None])[0]
        if not isinstance(target, ast.Attribute):
            continue  # config.seed, or in a section's own name: optimizer.momentum
        section = "" if target.value.id == "config" else f"{target.value.id}."
        numbers = list(range(statement.lineno, statement.end_lineno + 1))
        while lines[numbers[-1]].lstrip().startswith("#"):
            numbers.append(numbers[-1] + 1)
        found[section + target.attr] = " ".join(comments.get(number, "") for number in numbers)
    return {key: meaning.strip() for key, meaning in found.items()}


def accepted(key: str) -> str:
    """What a key of the config may be set to, in Markdown."""
    default = defaults()[key]
    several = isinstance(default, tuple)
    sample = default[0] if several and default else default
    if key in (*NAMED, *SEARCH):
        return f"[names](#config{key.replace('.', '')})"
    words = {**keys.CHOICES, **search.CHOICES, "model.name": models.names()}
    if key in words:
        return ", ".join(f"`{name}`" for name in words[key])
    if key in search.FORMS:
        return search.FORMS[key]
    if key in keys.PAIRS:
        return f"pairs, as `{keys.PAIRS[key]}`"
    if key in (*keys.DURATIONS, *keys.TRACED_DURATIONS):
        words = "durations" if several else "a duration"
        return words + " above 0" * key.endswith("every")
    if isinstance(default, bool):
        return "`True`, `False`"
    if isinstance(sample, (int, float)):
        whole = ("whole numbers" if several else "a whole number") * isinstance(sample, int)
        limits = {**keys.LIMITS, **keys.TRACED, **search.LIMITS}.get(key)
        return ", ".join(filter(None, [whole, limits and keys.interval(*limits)]))
    return "patterns" if several else "text"


def _keys() -> list[str]:
    """A table for each section of the config, in the order of `default_config`."""
    every, told = defaults(), meanings()
    sections: dict[str, list] = {}
    for key in told:
        if key in every:
            default = repr(every[key]).replace("|", "\\|")
            traced = "yes" if key in (*keys.TRACED, *keys.TRACED_DURATIONS) else ""
            row = (f"`{key}`", _plain(told[key]), f"`{default}`", accepted(key), traced)
            sections.setdefault(key.rpartition(".")[0], []).append(row)
    head = "Key | What it does | Default | Accepted | Traced"
    return [
        "\n".join(filter(None, [section and f"### config.{section}", told.get(section)]))
        + "\n\n" * bool(section)
        + _table(head, rows)
        for section, rows in sections.items()
    ]


def _model(name: str) -> ModuleType:
    return importlib.import_module(f"{models.__name__}.{name}")


def _table(head: str, rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {head} |", "|---" * (head.count("|") + 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _told(function) -> str:
    """The docstring up to its sections, as one line of a table."""
    text = inspect.getdoc(function)
    for section in ("Args:", "Returns:", "Raises:"):
        text = text.partition(f"\n{section}\n")[0]
    return _plain(text)


def _plain(text: str) -> str:
    """As one line, with what Markdown would read something into escaped."""
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*")


def _numbers(key: str, function) -> str:
    section = key.rpartition(".")[0]
    prefix = f"{section}." if section else ""
    names = [name for name in numbers_of(function) if name not in augmentation.OF_THE_BATCH]
    return ", ".join(f"`{prefix}{name}`" for name in names)


if __name__ == "__main__":
    print(page(), end="")
