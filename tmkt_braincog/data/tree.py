"""Folders of classes with numbered files, as most data sets are distributed."""

import re
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError


class File(NamedTuple):
    """One recording or image: ``number`` is the one in its name. Sorted by class and number."""

    label: int
    number: int
    path: Path


class Layout(NamedTuple):
    """What a folder ``<folder>/<class>/<name with a number>`` should hold.

    Attributes:
        classes: names of the class folders; labels index into them.
        example: a file name for messages, such as ``image_0001.bin``; its last run of digits is the number, what
            is around it must be in every name (``*``: anything), ``suffix`` its extension.
        expected: the tree that messages show.
        ignored: class folders that do not count.
    """

    classes: Sequence[str]
    example: str
    expected: str
    ignored: Collection[str] = ()

    @property
    def suffix(self) -> str:
        return Path(self.example).suffix


def find_files(folder: Path, layout: Layout) -> list[File]:
    """All files of the classes, sorted by class and number, however the file system lists them.

    Hidden files and folders, which operating systems leave behind, and files with other extensions do not count.

    Raises:
        UserError: no such folder, no file in it, an unknown class or file name, or the same number
            twice in a class.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.\n{layout.expected}")
    found = sorted(
        file for of_class in _class_folders(folder, layout) for file in _files(of_class, layout)
    )
    if not found:
        raise UserError(f"Found 0 files like {layout.example} in {folder}.\n{layout.expected}")
    check_unique(found)
    return found


def _class_folders(folder: Path, layout: Layout) -> list[Path]:
    folders = [
        f for f in folder.iterdir()
        if f.is_dir() and not f.name.startswith(".") and f.name not in layout.ignored
    ]  # fmt: skip
    unknown = sorted(f.name for f in folders if f.name not in layout.classes)
    if unknown:
        raise UserError(
            f"{folder} holds the folders {', '.join(unknown)}, which are none of the {len(layout.classes)} classes. "
            f"Rename or remove them, or check the data root.\n{layout.expected}"
        )
    return folders


def _files(folder: Path, layout: Layout) -> list[File]:
    label, found = layout.classes.index(folder.name), []
    for path in folder.glob(f"[!.]*{layout.suffix}"):
        number = file_number(path, layout.example.format(**{"class": folder.name}))
        found.append(File(label, number, path))
    return found


def file_number(path: Path, example: str) -> int:
    """The number in the file's name.

    Raises:
        UserError: the name is not like the example.
    """
    before, after = re.split(r"[0-9]+(?=[^0-9]*$)", Path(example).stem)
    before, after = (re.escape(text).replace(r"\*", ".*") for text in (before, after))
    match = re.fullmatch(f"{before}([0-9]{{1,9}}){after}", path.stem)
    if match is None:
        raise UserError(f"Found {path}; a name like {example} was expected. Rename or remove it.")
    return int(match[1])


def check_unique(files: Sequence[File]) -> None:
    """Raise a :class:`UserError` if two of the sorted files have the same class and number."""
    for one, other in pairwise(files):
        if one[:2] == other[:2]:
            raise UserError(
                f"Both {one.path} and {other.path} have number {one.number}; every number is one recording or "
                "image. Remove one."
            )
