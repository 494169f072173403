"""A table of a user's own recordings: CSV with path, class and, if wanted, split and image."""

import csv
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .parallel import MAX_PROBLEMS
from .tree import listed

log = logging.getLogger(__name__)

COLUMNS = ("path", "class", "split", "image")
SPLITS = ("train", "test", "")
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}


class Row(NamedTuple):
    """A recording: its class, ``train``, ``test`` or nothing, and the image that it was made from,
    if there is one."""

    path: Path
    name: str
    split: str
    image: Path | None


def read_table(table: Path) -> list[Row]:
    """The rows; paths are relative to the table's folder, or absolute.

    Raises:
        UserError: a table without the columns path and class, or rows that cannot be used, each
            with the number of its line.
    """
    rows, problems = list[Row](), list[str]()
    lines: dict[str, int] = {}  # of each file
    shown: dict[str, str] = {}  # class of each image
    for line, cells in _lines(table):
        try:
            row = _row(cells, table.parent)
            if (first := lines.setdefault(os.path.realpath(row.path), line)) != line:
                raise ValueError(f"{cells['path']} is in line {first} already")
            image = os.path.realpath(row.image) if row.image else ""
            if image and (name := shown.setdefault(image, row.name)) != row.name:
                raise ValueError(f"the image {cells['image']} is of class {name} already")
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
        reader = csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True)
        header = [cell.strip().lower() for cell in next(reader, [])]
        if not {"path", "class"} <= set(header) or len(set(header)) < len(header):
            raise ValueError(
                f"its first line names the columns {', '.join(header) or 'none'}; path and class "
                "expected, and, if you like, split and image, each once"
            )
        if others := [name for name in header if name not in COLUMNS]:
            log.warning("%s: columns that are not read: %s", table, listed(others))
        for cells in reader:
            if any(cell.strip() for cell in cells):
                surplus = [cell for cell in cells[len(header) :] if cell.strip()]
                padded = [cell.strip() for cell in cells] + [""] * len(header)
                yield (
                    reader.line_num,
                    {**dict(zip(header, padded, strict=False)), "surplus": listed(surplus)},
                )
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
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise ValueError(f"{cells['path']} is an image; a recording expected")
    if image and Path(image).suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"{image} is no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return Row(path, cells["class"], split, _file(folder, image) if image else None)


def _file(folder: Path, text: str) -> Path:
    path = Path(os.path.abspath(folder / Path(text).expanduser()))
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path
