"""List a folder of images: its splits, classes and images, and the files that are not read."""

import functools
import os
import re
from collections import defaultdict
from pathlib import Path

from research.data.images import read_header
from research.errors import UserError, closest

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
NO_IMAGE = "files that are no images"
_SPLITS = {
    split: re.compile(rf"({names})([ _-]?(set|split|data|images?))?", re.IGNORECASE)
    for split, names in {
        "train": "train(ing)?",
        "validation": "val(id(ation)?)?|dev",
        "test": "test(ing)?",
    }.items()
}
# Files that systems and editors leave behind.
_LITTER = re.compile(
    r"\..*|__MACOSX|__pycache__|(eh)?thumbs\.db|desktop\.ini|icon\r|@eaDir|\$RECYCLE\.BIN"
    r"|lost\+found|System Volume Information",
    re.IGNORECASE,
)


class Tree:
    """A folder PATH/SPLIT/CLASS/ or PATH/CLASS/ of images.

    Attributes:
      unread: paths that were not read so far, by reason.
      nested: images that lie in subfolders of their class.
    """

    def __init__(self, path: Path):
        self.unread: dict[str, list[Path]] = defaultdict(list)
        self.nested: list[Path] = []
        self._path = path
        self._inner = functools.cache(self._listed)  # cached, so that no path is counted twice

    def split_folders(self, whole: bool = False) -> dict[str, Path]:
        """Return the folder of each split; {'train': PATH} if PATH holds the class folders.

        Raises:
          UserError: train or test is missing, unless `whole`, or there are two folders for one
            split.
        """
        folders, files = self._inner(self._path)
        named = [(split, folder) for folder in folders if (split := _split_of(folder))]
        # A class may be called 'train' too: its folder holds images.
        if len(named) < 2 and not any(self._inner(folder)[0] for _, folder in named):
            return {"train": self._path}
        found = {}
        for split, folder in named:
            if split in found:
                raise UserError(f"{found[split]} and {folder}: which is the {split} split?")
            found[split] = folder
        for split, other in (("test", "train"), ("train", "test")):
            if split not in found and not whole:
                has = found.get(other) or found["validation"]
                hint = f"train/ and test/, or classes alone: config.data.path = {str(has)!r}"
                if split == "test" and "validation" in found:
                    hint += f", or {found['validation'].name}/ under the name test/"
                raise UserError(f"{self._path} has {has.name}/ but no {split}/ (allowed: {hint})")
        self.unread["folders beside those of the splits"] += [
            folder for folder in folders if folder not in found.values()
        ]
        self._pass_over(files)
        return {split: found[split] for split in _SPLITS if split in found}

    def classes(self, folder: Path, least: int = 2) -> list[str]:
        """Return the names of the class folders of a split, sorted.

        Raises:
          UserError: fewer than `least`.
        """
        folders, files = self._inner(folder)
        self._demand(least, folder)
        self._pass_over(files)
        return [inner.name for inner in folders]

    def check_known(self, folder: Path, train: Path, names: list[str]) -> None:
        """Refuse a split without classes, or with one that train does not have."""
        folders, files = self._inner(folder)
        self._demand(1, folder)
        self._pass_over(files)
        for inner in folders:
            if inner.name not in names:
                close = closest(inner.name, names)
                hint = f"; did you mean {close!r}?" if close else ""
                raise UserError(f"{folder}: class {inner.name!r} is not in {train}{hint}")

    def images(self, folder: Path) -> list[Path]:
        """Return the images of a class folder, sorted by name, followed by those of its subfolders.

        Raises:
          UserError: the class folder holds folders of splits.
        """
        if not folder.is_dir():
            return []
        splits = [inner for inner in self._inner(folder)[0] if _split_of(inner)]
        if len(splits) > 1:
            raise UserError(
                f"{folder} holds {splits[0].name}/ and {splits[1].name}/ (allowed: "
                f"{self._path}/train/{folder.name}/ and {self._path}/test/{folder.name}/)"
            )
        return self._images(folder, (folder.resolve(),))

    def _images(self, folder: Path, above: tuple[Path, ...]) -> list[Path]:
        folders, files = self._inner(folder)
        found = []
        for file in files:
            (found if is_image(file) else self.unread[NO_IMAGE]).append(file)
        for inner in folders:
            target = inner.resolve()
            if target in above:  # a link back to a folder above
                self.unread["links to a folder above"].append(inner)
                continue
            nested = self._images(inner, (*above, target))
            self.nested += [file for file in nested if file.parent == inner]
            found += nested
        return found

    def _demand(self, least: int, folder: Path) -> None:
        folders, files = self._inner(folder)
        if len(folders) < least:
            raise UserError(
                f"{folder}: {len(folders)} class folders, {len(files)} files beside them (allowed: "
                f"at least {least}, the images of each class in one{self._several_in(folder)})"
            )

    def _pass_over(self, files: list[Path]) -> None:
        for file in files:
            kind = "images outside of classes" if is_image(file) else NO_IMAGE
            self.unread[kind].append(file)

    def _listed(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Return the folders and the files in a folder, sorted; note all else as unread."""
        folders, files = [], []
        try:
            with os.scandir(folder) as entries:
                entries = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"{folder}: {error.strerror}") from None
        for entry in entries:
            path = folder / entry.name
            if _LITTER.fullmatch(entry.name):
                self.unread["hidden and system files"].append(path)
            elif entry.is_dir():
                folders.append(path)
            elif entry.is_file():
                files.append(path)
            else:
                self.unread["broken links and pipes"].append(path)
        return folders, files

    def _several_in(self, folder: Path) -> str:
        """Return a hint if the folder holds one folder that itself holds several; else ''."""
        deeper = folder
        for _ in range(9):  # links may lead in a circle
            inner = self._inner(deeper)[0]
            if len(inner) != 1:
                break
            deeper = inner[0]
        if len(inner) < 2:
            return ""
        key = "config.data.path = " if folder == self._path else ""
        return f"; there are {len(inner)} folders in {key}{str(deeper)!r}"


def _split_of(folder: Path) -> str | None:
    return next((name for name, words in _SPLITS.items() if words.fullmatch(folder.name)), None)


def is_image(file: Path) -> bool:
    """Return whether a file is an image, by its suffix or else by its content."""
    return file.suffix.lower() in SUFFIXES or read_header(file) is not None
