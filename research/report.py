"""Draw one run or one search, or compare several: python -m research.report WORKDIR..."""

from pathlib import Path

from absl import flags

from research import cli
from research.errors import UserError

_OUTPUT = flags.DEFINE_string(
    "output", None, "The HTML file; default: report.html in the run folder, or here for several."
)


def main(argv: list[str]) -> int:
    """Write the report of the run folders, or of the searches, named on the command line."""
    from research.reporting import page, search_page

    workdirs = [Path(argument) for argument in argv[1:]]
    if not workdirs:
        raise UserError("which run? usage: python -m research.report WORKDIR...")
    folder = workdirs[0] if len(workdirs) == 1 else Path()
    path = Path(_OUTPUT.value or folder / "report.html")
    searches = [workdir for workdir in workdirs if search_page.is_search(workdir)]
    if searches and len(searches) < len(workdirs):
        run = next(workdir for workdir in workdirs if workdir not in searches)
        raise UserError(
            f"{str(searches[0])!r} is a search and {str(run)!r} is none "
            "(allowed: runs, or searches)"
        )
    (search_page if searches else page).write_report(workdirs, path)
    print(path)
    return 0


if __name__ == "__main__":
    cli.run(main)
