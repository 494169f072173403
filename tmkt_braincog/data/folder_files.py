"""Where a user's own recordings and images are: folders that are classes, or a table of files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .folder_table import IMAGE_SUFFIXES, Row, read_table
from .tree import entries, listed, visible

TABLE = "recordings.csv"
# What lies in folders beside recordings, and is none.
OTHERS = {".db", ".ini", ".json", ".yaml", ".md", ".log", ".md5", ".sha256", ".pdf", ".avi", ".mp4"}

EXPECTED = f"""Expected:
  <data root>/events/<class>/*   recordings, of any format
  <data root>/images/<class>/*   photographs of the same classes (.png, .jpg, ...)
or the same below <data root>/train and <data root>/test; or, in place of events,
  <data root>/{TABLE}     with the columns path, class and, if you like, split and image
An image with the name of a recording, but for the ending, is taken for the one that it was made
from (a same-image pair)."""


class Found(NamedTuple):
    """Recordings and images by class.

    ``train``: files that train, None where nothing says it; ``twins``: the image of each recording
    that has one, None where names tell it; ``root``: a folder above all files.
    """

    events: dict[str, list[Path]]
    images: dict[str, list[Path]]
    train: set[Path] | None
    twins: dict[Path, Path] | None
    root: Path


def find(root: Path) -> Found:
    """What there is below the data root.

    Raises:
        UserError: folders that are missing or nested, or a table that cannot be used.
    """
    if (root / TABLE).is_file():
        root = Path(os.path.abspath(root))
        return _listed(root, read_table(root / TABLE))
    parts = [root / part for part in ("train", "test") if (root / part).is_dir()] or [root]
    if len(parts) == 1 and parts != [root]:
        raise UserError(f"{root} has the folder {parts[0].name} alone; train and test expected.")
    events, images = _in_folders(parts, "events"), _in_folders(parts, "images")
    for name, files in events.items():
        events[name] = [path for path in files if not _is_image(path)]
    for name, files in images.items():
        images[name] = list(filter(_is_image, files))
    train = {path for path in _every(events, images) if parts[0] in path.parents}
    return Found(events, images, train if len(parts) == 2 else None, None, root)


def _listed(root: Path, rows: Sequence[Row]) -> Found:
    """What the table names; its images beside those in the folder ``images``, if there is one."""
    images = _in_folders([root], "images") if (root / "images").is_dir() else {}
    images = {name: list(filter(_is_image, files)) for name, files in images.items()}
    at = {os.path.realpath(path): (n, path) for n, files in images.items() for path in files}
    events, twins = dict[str, list[Path]](), dict[Path, Path]()
    for row in rows:
        events.setdefault(row.name, []).append(row.path)
        if row.image is not None:
            name, image = at.setdefault(os.path.realpath(row.image), (row.name, row.image))
            if name != row.name:
                raise UserError(
                    f"{root / TABLE}: {row.path.name} is of class {row.name}, but its image lies "
                    f"in images/{name}. Move it, or correct the row."
                )
            twins[row.path] = image
            if image not in images.setdefault(name, []):
                images[name].append(image)
    train = {row.path for row in rows if row.split == "train"} | set(_every(images))
    top = Path(os.path.commonpath([root, *_every(events, images)]))
    return Found(events, images, train if rows[0].split else None, twins or None, top)


def _every(*found: dict[str, list[Path]]) -> list[Path]:
    return [path for by_class in found for files in by_class.values() for path in files]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _in_folders(parts: Sequence[Path], what: str) -> dict[str, list[Path]]:
    """Files by class, those of ``train`` first."""
    found: dict[str, list[Path]] = {}
    for part in parts:
        for folder in entries(part / what, EXPECTED):
            found.setdefault(folder.name, []).extend(_files(folder))
    return {name: files for name, files in found.items() if files}


def _files(folder: Path) -> list[Path]:
    found = visible(folder, EXPECTED, lambda p: p.suffix.lower() not in OTHERS)
    if nested := [p.name for p in found if p.is_dir()]:
        raise UserError(f"{folder} holds the folders {listed(nested)}; files alone expected.")
    return found
