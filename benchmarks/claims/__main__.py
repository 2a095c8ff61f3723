"""Measures claims and writes them into docs/claims.md, leaving those not asked for as they are.

    python -m benchmarks.claims [--data_dir=DIR] [SECTION[.CLAIM]...]

SECTION is a file of this folder, CLAIM a function in it. DIR holds the prepared MNIST and CIFAR-10.
"""

import argparse
import importlib.util
import inspect
import re
import time
from pathlib import Path

from absl import logging

from benchmarks.claims import common
from research import platform
from research.errors import UserError, unknown_name
from research.names import public_functions

PAGE = Path(__file__).parents[2] / "docs" / "claims.md"
SECTIONS = (
    "activations",
    "preprocessing",
    "initialization",
    "normalization",
    "landscapes",
    "saddles",
    "optimization",
    "regularization",
    "transfer",
)
HEAD = """# The lecture's claims, measured
Made by `python -m benchmarks.claims`, a claim at a time, with the parts that `research.main` trains
with. Each says whether it holds here. Nets and data are small: what fails here need not fail
elsewhere.

- **Settings** (learning rate, strength) are chosen by the metric that is judged: train loss by
  train loss, test accuracy by validation accuracy, test loss by validation loss, never by test. The
  best mean over seeds 11 to 13 is taken, from as many values for each row unless the text says
  otherwise. A best value at the edge of what was tried is named at the end of the text.
- **Judged** are seeds 1 to 10, the same for all that is compared, by the difference between the two
  trainings of each seed. A row is "better" or "worse" where a paired t test finds the mean
  difference at the 5 % level, corrected (Holm) for all rows that the claim judges; otherwise it is
  "inconclusive".
- **Figures**: "+-" is the standard deviation over seeds; "a (b to c)" is a mean and its 95 %
  interval (Student's t). The interval is not corrected for the number of rows, so it can exclude 0
  where the row is inconclusive.
- A seed changes the initial weights and the order of the batches. The data are split once, unless
  the text says that they are drawn, so that verdicts are about these data.
"""


def claims() -> dict[str, callable]:
    """Every claim there is, by 'section.name', in the order of the page."""
    modules = {name: importlib.import_module(f"benchmarks.claims.{name}") for name in SECTIONS}
    return {
        f"{section}.{name}": function
        for section, module in modules.items()
        for name, function in public_functions(module).items()
        if inspect.signature(function).return_annotation is common.Claim
    }


def written(page: str) -> dict[str, str]:
    """The claims that a page holds: what stands between their marks."""
    return dict(re.findall(r"<!-- (\w+\.\w+) -->\n(.*?)\n<!-- end -->", page, re.DOTALL))


def page(texts: dict[str, str]) -> str:
    """The page of these claims, in order, each with its verdict in a table before."""
    summary, parts = ["| Claim | Here |", "|---|---|"], []
    for section in SECTIONS:
        names = [name for name in claims() if name in texts and name.startswith(f"{section}.")]
        if names:
            parts.append(f"## {importlib.import_module(f'benchmarks.claims.{section}').TITLE}")
        for name in names:
            heading = texts[name].partition("\n")[0].lstrip("# ")
            verdict = re.search(r"^\*\*(.)(.*?)\.\*\*", texts[name], re.MULTILINE)
            told = verdict[1].lower() + verdict[2] if verdict else ""
            summary.append(f"| {heading} | {told} |")
            parts.append(f"<!-- {name} -->\n{texts[name]}\n<!-- end -->\n")
    return "\n".join([HEAD, *summary, "", *parts])


def drawn(name: str, picture: bytes) -> str:
    """Where a claim's picture is, as seen from the page, once it is written; '' of none."""
    if not picture:
        return ""
    path = PAGE.parent / "claims" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(picture)
    return path.relative_to(PAGE.parent).as_posix()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data_dir", default=common.data_dir)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    common.data_dir = arguments.data_dir
    platform.enable_compilation_cache()
    logging.set_verbosity(logging.FATAL)  # Orbax's chatter
    if importlib.util.find_spec("matplotlib") is None:
        parser.error("matplotlib, which draws the pictures, is not installed (bash setup.sh bench)")
    for wanted in arguments.names:
        if not any(name == wanted or name.startswith(f"{wanted}.") for name in claims()):
            parser.error(str(unknown_name("claim", wanted, [*SECTIONS, *claims()])))
    for name, measure in claims().items():
        if arguments.names and not {name, name.partition(".")[0]} & set(arguments.names):
            continue
        started = time.process_time()
        try:
            claim = measure()
        except UserError as error:  # no data there
            parser.error(f"{name}: {error}")
        text = claim.markdown(drawn(name, claim.picture))
        print(f"{text}\n[{name}: {time.process_time() - started:.0f} CPU s]\n", flush=True)
        texts = written(PAGE.read_text()) if PAGE.exists() else {}
        PAGE.write_text(page(texts | {name: text}))
        common.forget()


if __name__ == "__main__":
    main()
