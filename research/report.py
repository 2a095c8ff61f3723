"""Draw one run, or compare several: python -m research.report WORKDIR..."""

from pathlib import Path

from absl import flags

from research import cli
from research.errors import UserError

_OUTPUT = flags.DEFINE_string(
    "output", None, "The HTML file; default: report.html in the run folder, or here for several."
)


def main(argv: list[str]) -> int:
    """Writes the report of the run folders named on the command line."""
    from research.reporting import page

    workdirs = [Path(argument) for argument in argv[1:]]
    if not workdirs:
        raise UserError("which run? usage: python -m research.report WORKDIR...")
    folder = workdirs[0] if len(workdirs) == 1 else Path()
    path = Path(_OUTPUT.value or folder / "report.html")
    page.write_report(workdirs, path)
    print(path)
    return 0


if __name__ == "__main__":
    cli.run(main)
