"""Print all that a config may say, with formulas and papers: python -m research.vocabulary.

The page comes from the declarations of the keys, and from docstrings and signatures. A test keeps
its copy docs/vocabulary.md up to date.
"""

import inspect
from types import ModuleType

from research.config import KEYS, NAMED, usage
from research.data import augmentation
from research.names import choices, numbers_of


def page() -> str:
    """Return the page, in Markdown."""
    parts = [
        "# Vocabulary\n"
        "All that a config may say, made from the code by `python -m research.vocabulary`: first "
        "[every key](#every-key) with its\ndefault, then each name that a key may have as its "
        "value. Traced keys are numbers of the mathematics: changing\none does not recompile, and "
        "a resumed run may. A resumed run may also change the keys marked *resume*. Durations are\n"
        "`'10 epochs'`, `'500 steps'`, `'20000 examples'` or `'5 percent'` of the training. "
        "Where a key takes names, it also takes a\ndotted name of your own code, such as "
        "`'my_package.layers:swish'`.\n",
        "## Every key\n\n" + "\n".join(_keys()),
    ]
    for key in NAMED:
        module = usage.module_of(key)
        summary = inspect.getdoc(module).partition("\n\n")[0]
        rows = [
            (f"`{name}`", _summary(choice), _numbers(key, choice))
            for name, choice in choices(module).items()
        ]
        table = _table("Name | What it is | Keys it uses", rows)
        parts.append(f"## config.{key}\n{summary}\n\n{table}")
    return "\n".join(parts)


def accepted(key: str) -> str:
    """Return what a key of the config may be set to, in Markdown."""
    if key not in NAMED:
        return KEYS[key].accepted()
    words = [f"`{word}`" for word in KEYS[key].choices]
    return ", ".join([*words, f"[names](#config{key.replace('.', '')})"])


def _keys() -> list[str]:
    """Return a table for each section of the config, in its order."""
    sections: dict[str, list] = {}
    for key, declared in KEYS.items():
        default = repr(declared.default).replace("|", "\\|")
        changes = "traced" if declared.traced else "resume" * declared.resumable
        row = (f"`{key}`", _plain(declared.meaning), f"`{default}`", accepted(key), changes)
        sections.setdefault(key.rpartition(".")[0], []).append(row)
    head = "Key | What it does | Default | Accepted | May change"
    return [
        f"### config.{section}\n\n" * bool(section) + _table(head, rows)
        for section, rows in sections.items()
    ]


def _table(head: str, rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {head} |", "|---" * (head.count("|") + 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _summary(choice) -> str:
    """Return a docstring up to its sections, as one line of a table."""
    text = inspect.getdoc(choice)
    for section in ("Args:", "Returns:", "Raises:"):
        text = text.partition(f"\n{section}\n")[0]
    return _plain(text)


def _plain(text: str) -> str:
    """Return text as one line, with the characters escaped that have a meaning in Markdown."""
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*")


def _numbers(key: str, choice) -> str:
    section = key.rpartition(".")[0]
    if isinstance(choice, ModuleType):
        names = getattr(choice, "USES", ())
    else:
        given = augmentation.OF_THE_BATCH
        names = [name for name in numbers_of(choice) if name not in given]
        names += getattr(choice, "uses", ())
    return ", ".join(f"`{section}.{name}`" for name in names)


if __name__ == "__main__":
    print(page(), end="")
