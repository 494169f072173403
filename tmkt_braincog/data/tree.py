"""Folders of numbered files, as most data sets are distributed: one way to list them."""

import re
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from .base import NO_TWIN


class File(NamedTuple):
    """One recording or image: ``number`` is the one in its name. Sorted by class and number."""

    label: int
    number: int
    path: Path


def entries(folder: Path, expected: str, suffixes: Collection[str] = ()) -> list[Path]:
    """The folders in ``folder``, or its files with these suffixes (lower case): :func:`visible`."""
    return visible(
        folder, expected, lambda p: p.suffix.lower() in suffixes if suffixes else p.is_dir()
    )


def visible(folder: Path, expected: str, wanted: Callable[[Path], bool]) -> list[Path]:
    """What is wanted in ``folder``, in natural order, and not hidden, as some systems leave behind.

    A folder that is missing (then the ``expected`` tree is shown) or cannot be read is a
    :class:`UserError`.
    """
    try:
        found = [p for p in folder.iterdir() if not p.name.startswith(".") and wanted(p)]
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"There is no folder {folder}.\n{expected}") from None
    except OSError as error:
        text = f"Cannot read the folder {folder}: {error.strerror}. Make it readable, or remove it."
        raise UserError(text) from error
    return sorted(found, key=lambda path: (natural(path.name), path.name))


def natural(name: str) -> list[str | int]:
    """``a2`` before ``a10``."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]


def find_files(
    folder: Path, classes: Sequence[str], example: str, expected: str, ignored: Collection[str] = ()
) -> list[File]:
    """All files ``<folder>/<class>/<name with a number>``, sorted by class and number.

    Args:
        classes: names of the class folders; labels index into them.
        example: a file name, such as ``image_0001.bin``; its last run of digits is the number, what
            is around it must be in every name (``*``: anything); its extension is in any case.
        expected: the tree that messages show.
        ignored: class folders that do not count.

    Raises:
        UserError: a folder that is missing or cannot be read, no file, an unknown class or file
            name, or the same number twice in a class.
    """
    folders = [f for f in entries(folder, expected) if f.name not in ignored]
    unknown = [f.name for f in folders if f.name not in classes]
    if unknown:
        raise UserError(
            f"{folder} holds the folders {', '.join(unknown)}, which are none of the "
            f"{len(classes)} classes. Rename or remove them, or check the data root.\n{expected}"
        )
    found = []
    for f in folders:
        files = numbered(entries(f, expected, {Path(example).suffix}), example)
        found += [file._replace(label=classes.index(f.name)) for file in files]
    if not found:
        raise UserError(f"Found 0 files like {example} in {folder}.\n{expected}")
    return sorted(found)


def numbered(paths: Sequence[Path], example: str) -> list[File]:
    """Files or folders by the number in their names, label 0.

    A name unlike the example, see :func:`find_files`, or two of a number are a UserError.
    """
    around = re.split(r"[0-9]+(?=[^0-9]*$)", Path(example).stem)
    before, after = (re.escape(text).replace(r"\*", ".*") for text in around)
    files = []
    for path in paths:
        match = re.fullmatch(f"{before}([0-9]{{1,9}}){after}", path.stem)
        if match is None:
            raise UserError(f"Found {path}; a name like {example} was expected. Rename it.")
        files.append(File(0, int(match[1]), path))
    files.sort()
    for one, other in pairwise(files):
        if one.number == other.number:
            raise UserError(
                f"Both {one.path} and {other.path} have number {one.number}; every number is one "
                "recording or image. Remove one."
            )
    return files


def find_twins(recordings: Sequence[File], images: Sequence[File]) -> np.ndarray:
    """``[R]`` int64 indices of the images of the same class and number, or ``NO_TWIN``."""
    at = {image[:2]: i for i, image in enumerate(images)}
    return np.array([at.get(r[:2], NO_TWIN) for r in recordings], np.int64)


def labels_of(files: Sequence[File]) -> np.ndarray:
    """``[files]`` int64."""
    return np.array([file.label for file in files], np.int64)


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
