"""Replace files in one piece: readers and kills see the old file or the new one, never a half."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write; it takes the path's place when the context ends without an error."""
    path = Path(path)
    file = tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False)  # noqa: SIM115
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)
    except BaseException:
        Path(file.name).unlink(missing_ok=True)
        raise


def read_text(path: Path) -> str:
    """Return the text of a file, with bytes that are not UTF-8 replaced.

    Raises:
      OSError: it cannot be read, or is no file: opening a pipe would block.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is no file", str(path))
    return path.read_text(errors="replace")
