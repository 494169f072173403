"""Where a user's own recordings and images are: folders that are classes, or a table of files.

The table is CSV with the columns path, class and, if wanted, split and image."""

import csv
import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .parallel import MAX_PROBLEMS
from .tree import entries, listed, visible

log = logging.getLogger(__name__)

TABLE = "recordings.csv"
COLUMNS = ("path", "class", "split", "image")
SPLITS = ("train", "test", "")
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
# What lies in folders beside recordings, and is none.
OTHERS = {".db", ".ini", ".json", ".yaml", ".md", ".log", ".md5", ".sha256", ".pdf", ".avi", ".mp4"}

EXPECTED = f"""Expected:
  <data root>/events/<class>/*   recordings, of any format
  <data root>/images/<class>/*   photographs of the same classes (.png, .jpg, ...)
or the same below <data root>/train and <data root>/test; or, in place of events,
  <data root>/{TABLE}     with the columns path, class and, if you like, split and image
An image with the name of a recording, but for the ending, is taken for the one that it was made
from (a same-image pair)."""


class Row(NamedTuple):
    """A recording or an image: its class, ``train``, ``test`` or nothing, and the image that a
    recording was made from, where the table or its name says it."""

    path: Path
    name: str
    split: str = ""
    image: Path | None = None


def find(root: Path) -> tuple[list[Row], list[Row], Path]:
    """All recordings and images of a data root, and a folder above them; images beside a table are
    those in the folder ``images``, if there is one, and those that it names.

    Raises:
        UserError: folders that are missing or nested, or a table that cannot be used.
    """
    if (root / TABLE).is_file():
        root = Path(os.path.abspath(root))
        images = _in_folders(root, [""], "images") if (root / "images").is_dir() else []
        recordings = read_table(root / TABLE, images)
        above = os.path.commonpath([root, *(row.path for row in recordings + images)])
        named = any(row.image for row in recordings)
        return recordings if named else _paired(recordings, images), images, Path(above)
    parts = [part for part in ("train", "test") if (root / part).is_dir()]
    if len(parts) == 1:
        raise UserError(f"{root} has the folder {parts[0]} alone; train and test expected.")
    events, images = (_in_folders(root, parts or [""], what) for what in ("events", "images"))
    return _paired(events, images), images, root


def _in_folders(root: Path, parts: Sequence[str], what: str) -> list[Row]:
    """The files in the folders of all classes, those of the first part first."""
    return [
        Row(path, folder.name, part)
        for part in parts
        for folder in entries(root / part / what, EXPECTED)
        for path in _files(folder, what == "images")
    ]


def _files(folder: Path, images: bool) -> list[Path]:
    """All images, or all else."""
    found = visible(folder, EXPECTED, lambda path: path.suffix.lower() not in OTHERS)
    if nested := [path.name for path in found if path.is_dir()]:
        raise UserError(f"{folder} holds the folders {listed(nested)}; files alone expected.")
    kept = [path for path in found if is_image(path) == images]
    if found and not kept:
        what = f"image ({', '.join(sorted(IMAGE_SUFFIXES))})" if images else "recording"
        raise UserError(f"{folder} holds files such as {found[0].name}, and no {what}.")
    return kept


def _paired(recordings: Sequence[Row], images: Sequence[Row]) -> list[Row]:
    """The recordings with the images of the same class and name, but for the ending and the case.

    A UserError where several have one name.
    """
    named, first = defaultdict[tuple[str, str], list[Row]](list), dict[tuple[str, str], Row]()
    for image in images:
        named[_name(image)].append(image)
    paired = []
    for row in recordings:
        shown, other = named[_name(row)], first.setdefault(_name(row), row)
        if len(shown) > 1 or (shown and other is not row):
            one, two = shown[:2] if len(shown) > 1 else (other, row)
            raise UserError(
                f"{one.path} and {two.path} have one name: which of them shows the same as "
                f"{row.path.stem} cannot be known. Rename or remove one, or say it in {TABLE}, in "
                "the column image."
            )
        paired.append(row._replace(image=shown[0].path) if shown else row)
    return paired


def _name(row: Row) -> tuple[str, str]:
    return row.name, row.path.stem.casefold()


def is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def read_table(table: Path, images: list[Row]) -> list[Row]:
    """The recordings; their images are added to the known ``images``.

    Paths are relative to the table's folder, or absolute.

    Raises:
        UserError: a table without the columns path and class, or rows that cannot be used, each
            with the number of its line.
    """
    rows, problems = list[Row](), list[str]()
    lines: dict[str, int] = {}  # of each file
    known = {os.path.realpath(image.path): image for image in images}
    for line, cells in _lines(table):
        try:
            row = _row(cells, table.parent)
            if (first := lines.setdefault(os.path.realpath(row.path), line)) != line:
                raise ValueError(f"{cells['path']} is in line {first} already")
            if row.image:
                new = Row(row.image, row.name)
                image = known.setdefault(os.path.realpath(row.image), new)
                if image.name != row.name:
                    raise ValueError(f"the image {cells['image']} is of class {image.name} already")
                if image is new:
                    images.append(new)
                row = row._replace(image=image.path)
            rows.append(row)
        except ValueError as error:
            problems.append(f"line {line}: {error}")
    if problems:
        n, more = len(rows) + len(problems), len(problems) - MAX_PROBLEMS
        text = "".join(f"\n  {problem}" for problem in problems[:MAX_PROBLEMS])
        text += f"\n  and {more} more" if more > 0 else ""
        raise UserError(f"{table}: {len(problems)} of {n} rows cannot be used:{text}")
    if not rows:
        raise UserError(f"{table} has no row below its header. Name the recordings in it.")
    unsaid = [row for row in rows if not row.split]
    if unsaid and len(unsaid) < len(rows):
        raise UserError(
            f"{table}: {len(unsaid)} of {len(rows)} rows have no split, such as that of "
            f"{unsaid[0].path.name}. Give train or test to all, or to none."
        )
    return rows


def _lines(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Number of the line and cells by column, of rows that are not empty."""
    try:
        text = table.read_text("utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        lines = text.splitlines(keepends=True)
        reader = csv.DictReader(
            lines, restkey="surplus", restval="", delimiter=separator, strict=True
        )
        header = [cell.strip().lower() for cell in reader.fieldnames or []]
        reader.fieldnames = header
        if not {"path", "class"} <= set(header) or len(set(header)) < len(header):
            raise ValueError(
                f"its first line names the columns {', '.join(header) or 'none'}; path and class "
                "expected, and, if you like, split and image, each once"
            )
        if others := [name for name in header if name not in COLUMNS]:
            log.warning("%s: columns that are not read: %s", table, listed(others))
        for cells in reader:
            surplus = [cell for cell in cells.pop("surplus", []) if cell.strip()]
            said = {name: cell.strip() for name, cell in cells.items()}
            if surplus or any(said.values()):
                yield reader.line_num, {**said, "surplus": listed(surplus)}
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"Cannot use {table}: {error}. Save it as CSV in UTF-8.") from error


def _row(cells: Mapping[str, str], folder: Path) -> Row:
    """A row of the table; a ValueError for one that cannot be used."""
    split, image = cells.get("split", "").lower(), cells.get("image", "")
    for column in ("path", "class"):
        if not cells[column]:
            raise ValueError(f"no {column}")
    if cells["surplus"]:
        raise ValueError(f"more cells than columns: {cells['surplus']}")
    if split not in SPLITS:
        raise ValueError(f"split {split}; train, test or nothing expected")
    path = _file(folder, cells["path"])
    if is_image(path):
        raise ValueError(f"{cells['path']} is an image; a recording expected")
    if image and not is_image(Path(image)):
        raise ValueError(f"{image} is no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return Row(path, cells["class"], split, _file(folder, image) if image else None)


def _file(folder: Path, text: str) -> Path:
    path = Path(os.path.abspath(folder / Path(text).expanduser()))
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path
