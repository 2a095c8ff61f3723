"""Start and end every command: parse flags, run it, print a mistake in one line, exit."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from absl import app, flags, logging

from research import heartbeat
from research.errors import UserError, closest, unknown_name

_ALLOW = flags.DEFINE_list(
    "allow", [], "Packages whose code the files of a run folder may name: --allow=my_package."
)


def run(main: Callable[[list[str]], int | None]) -> None:
    """Run a command and exit: 0 done, 2 a mistake of the user in one line, 130 interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGTERM acts like Ctrl-C
        signal.signal(number, _interrupt)
    # Hide log lines of the libraries.
    flags.FLAGS.set_default("verbosity", logging.FATAL)
    flags.FLAGS["verbosity"].using_default_value = False  # else absl sets INFO
    sys.stdout.reconfigure(errors="backslashreplace")  # paths and names may be any bytes

    def ended(argv: list[str]) -> None:
        from research.config import trust  # imported late: a mistyped flag must be answered at once

        trust.allow(_ALLOW.value)
        code = _guarded(main, argv)
        _end_undisturbed()
        heartbeat.leave(code)
        sys.exit(code)

    app.run(ended, flags_parser=_parse_flags)


def refuse_arguments(argv: list[str]) -> None:
    """Refuse arguments that are not flags.

    Raises:
      UserError: there is one.
    """
    if argv[1:]:
        raise UserError(f"unexpected argument {argv[1]!r} (flags start with --)")


_INTERRUPTED = "interrupted; the same command goes on"
_interrupted: list[int] = []


def _interrupt(number, frame) -> None:
    _interrupted.append(number)
    while frame:  # during an import, libraries catch the exception or print it
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, f"{_INTERRUPTED}\n".encode())
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


def _guarded(main: Callable, argv: list[str]) -> int:
    try:
        return _told(main, argv)
    except KeyboardInterrupt:
        pass
    except Exception:
        if not _interrupted:  # libraries turn an interrupt into their own errors
            raise
    _end_undisturbed()
    print(_INTERRUPTED, file=sys.stderr)
    return 130


def _end_undisturbed() -> None:
    """Ignore signals at the end: a Ctrl-C would make the interpreter print a traceback."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _told(main: Callable, argv: list[str]) -> int:
    try:
        return main(argv) or 0
    except UserError as error:
        _tell(error)
        return 2
    except SystemExit as end:  # from `processes.alone`: process 0 prints the reason
        return end.code
    except MemoryError:
        print("error: the memory is too small for this", file=sys.stderr)
        return 2
    except OSError as error:  # a disk that is full, a folder that is gone
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 2


def _parse_flags(argv: list[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
    # Config files are imported while flags are parsed; their errors are mistakes of the user.
    try:
        argv = [_without_tilde(argument) for argument in values.read_flags_from_files(argv)]
        _check_config_file(argv)
        return values(argv)
    except UserError as error:
        message = str(error)
    except flags.Error as error:
        message = _wrong_override(argv) or " ".join(str(error).split())
    except Exception as error:  # whatever a config file raises
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = " ".join(f"{type(error).__name__}: {error}".split())
        in_library = "ml_collections" in where.filename
        message = in_library and _wrong_override(argv)
        message = message or f"{what} ({where.filename}, line {where.lineno})"
    _tell(message)
    sys.exit(2)


def _without_tilde(argument: str) -> str:
    """Expand the `~` at the start of a path if the shell does not: `--workdir=~/runs`."""
    flag, equals, value = argument.partition("=")
    if equals and flag.startswith("-"):
        return f"{flag}={os.path.expanduser(value)}"
    return os.path.expanduser(argument)


def _tell(message: object) -> None:
    print("error:", *str(message).split("\n"), file=sys.stderr)


def _check_config_file(argv: list[str]) -> None:
    """Refuse a missing config file; its flag's own parser would print a traceback."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        flag, _, value = argument.partition("=")
        if flag.lstrip("-") == "config" and flag.startswith("-"):
            path = value or following
            if not Path(path.partition(":")[0]).is_file():
                raise UserError(f"--config = {path!r}: no such file")


def _wrong_override(argv: list[str]) -> str | None:
    """Return the line for a wrong override, such as `--config.optimiser.x=1`; None without one.

    Other examples are `--config.batch_size=many` and a section that is given a value.
    """
    from research.config import (
        AUTOMATIC,
        RENAMED,
        default_config,
        default_search,
        flatten,
        section_of_options,
        unknown_key,
    )

    config = default_config()
    if any(argument.lstrip("-").startswith("config.search.") for argument in argv):
        config.search = default_search()
    known = flatten(config)
    for argument in argv[1:]:
        flag, equals, value = argument.lstrip("-").partition("=")
        key = flag.removeprefix("config.")
        if not flag.startswith("config.") or not argument.startswith("-"):
            continue
        within = [name for name in known if name.startswith(f"{key}.")]
        if within:
            return f"config.{key} is a section (allowed: {', '.join(within)})"
        if section_of_options(key):
            return f"config.{key}: an option that the config file does not set (set it there first)"
        if key in RENAMED:
            return str(unknown_key("config", key, known))
        if key not in known:
            close = closest(key, sorted(known)) or key
            section = close.rpartition(".")[0]
            names = [name for name in known if name.rpartition(".")[0] == section]
            return str(unknown_name("config", key, names or known))
        default = known[key]
        if equals and type(default) in _KINDS and not _is_a(type(default), value):
            follows = ", which follows the data" if key in AUTOMATIC else ""
            kind = _KINDS[type(default)]
            return f"config.{key} = {value!r} is not {kind} (default: {default}{follows})"
    return None


_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def _is_a(kind: type, text: str) -> bool:
    if kind is bool:
        return text.lower() in ("true", "false", "0", "1")
    try:
        kind(text)
    except ValueError:
        return False
    return True
