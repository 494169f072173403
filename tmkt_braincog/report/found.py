"""Tables and pictures that lie in a folder, whichever command made them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .pictures import Picture, take
from .tables import Table, from_csv

FIGURES = "figures"  # where the command of that name puts its pictures
MOST_ROWS = 100  # of a CSV
SUFFIXES = (".md", ".csv", ".png")
# Shown in another form, or the report itself.
OWN = ("comparison.csv", "comparison.md", "config.yaml", "report.md", "report.html")


@dataclass(frozen=True)
class Document:
    """Markdown text, its heading, and the file that it comes from (empty: made from the runs)."""

    title: str
    text: str
    source: str = ""


@dataclass(frozen=True)
class Found:
    """What lies in a folder.

    Attributes:
        documents: the Markdown files.
        sheets: CSV files that no Markdown and no picture beside them shows, by name.
        pictures: copied beside the report; or why they cannot be shown.
        others: names of files that are not shown.
        warnings: on files that cannot be read.
    """

    documents: list[Document]
    sheets: dict[str, Table]
    pictures: list[Picture]
    others: list[str]
    warnings: list[str]


def find(folder: Path, place: Path, prefix: str) -> Found:
    """Look into ``folder`` and its figures; pictures are copied to ``place``, their names prefixed."""
    files = _files(folder)
    pngs = [path for path in files if path.suffix == ".png"]
    pictures = [
        take(path, _name(path, folder), place / f"{prefix}{i:02d}-{_plain(path.stem)}.png")
        for i, path in enumerate(pngs, start=1)
    ]
    sheets, warnings = _sheets(folder, [path for path in files if path.suffix == ".csv"])
    return Found(
        documents=[read_document(path, folder) for path in files if path.suffix == ".md"],
        sheets=sheets,
        pictures=pictures,
        others=_others(folder, files),
        warnings=[*warnings, *(picture.problem for picture in pictures if picture.problem)],
    )


def read_document(path: Path, folder: Path) -> Document:
    """A Markdown file; the heading that it starts with, if it does, becomes the title."""
    text, name = path.read_text(errors="replace").lstrip(), _name(path, folder)
    if not text.startswith("# "):
        return Document(name, text, name)
    title, _, rest = text.removeprefix("# ").partition("\n")
    return Document(title.strip(), rest, name)


def _files(folder: Path) -> list[Path]:
    own = [path for path in sorted(folder.glob("[!.]*")) if path.name not in OWN]
    drawn = sorted((folder / FIGURES).glob("[!.]*"))
    return [path for path in (*own, *drawn) if path.suffix in SUFFIXES and path.is_file()]


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _plain(name: str) -> str:
    """A name that may stand in a link; numbers keep such names apart."""
    return re.sub(r"[^\w+-]", "-", name, flags=re.ASCII)


def _sheets(folder: Path, paths: Sequence[Path]) -> tuple[dict[str, Table], list[str]]:
    sheets, warnings = {}, []
    for path in paths:
        if not any(path.with_suffix(other).exists() for other in (".md", ".png")):
            try:
                sheets[_name(path, folder)] = from_csv(path, MOST_ROWS)
            except UserError as error:
                warnings.append(str(error))
    return sheets, warnings


def _others(folder: Path, shown: Sequence[Path]) -> list[str]:
    paths = [path for path in sorted(folder.glob("[!.]*")) if path.is_file() and path not in shown]
    # A picture is there as PDF too, a table as LaTeX.
    known = {path.stem for path in shown}
    return [path.name for path in paths if path.name not in OWN and path.stem not in known]
