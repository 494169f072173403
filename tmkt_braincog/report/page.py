"""What the report says of a folder: everything that is there, and what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import UserError
from ..jobs import shared_machine
from . import tables
from .commands import commands
from .curves import draw_curves
from .found import FIGURES, MOST_ROWS, Document, Found, find, read_document
from .groups import Group, make_groups
from .pictures import Picture, drawn
from .runs import Run, read_runs
from .shown import Hide, shown
from .tables import Setting, Table

PICTURES = "report_pictures"  # folder beside the report


@dataclass(frozen=True)
class Section:
    """One folder.

    Attributes:
        title: the folder as shown.
        warnings: what makes numbers wrong or incomplete.
        notices: what else a reader should know, and what is not there.
        results: tables over seeds, then those found.
        sheets: found CSV files without such a table, by name.
        curves, pictures: drawn here, and found.
        protocols: those of the runs.
    """

    title: str
    warnings: list[str]
    notices: list[str]
    results: list[Document]
    sheets: dict[str, Table]
    curves: list[Picture]
    pictures: list[Picture]
    runs: Table
    audits: Table
    settings: dict[str, list[Setting]]
    environments: Table
    commands: list[str]
    protocols: list[str]

    @property
    def contents(self) -> list[tuple[str, str, bool]]:
        """For the table of contents: key, heading, whether it is there."""
        return [
            ("results", "Results", bool(self.results or self.sheets)),
            ("curves", "Curves", bool(self.curves)),
            ("pictures", "Pictures", bool(self.pictures)),
            ("runs", "Runs", bool(self.runs.rows)),
            ("split", "Split and its audit", bool(self.audits.rows)),
            ("settings", "Settings", bool(self.settings)),
            ("environment", "Environment of the runs", bool(self.environments.rows)),
            ("commands", "To make it again", bool(self.commands)),
        ]


def make_section(folder: Path, target: Path, number: int) -> Section:
    """Read the folder, draw its curves and copy its pictures.

    Args:
        folder: an output folder of main_transfer.py, of a sweep or table, or one with tables and pictures.
        target: where the report goes.
        number: of the section, for the names of its pictures.

    Raises:
        UserError: no such folder, or nothing in it that a report could show.
    """
    if not folder.is_dir():
        raise UserError(
            f"There is no folder {folder}. Give an output folder, such as results/NAME."
        )
    place, prefix = target / PICTURES, f"{number}-"
    runs, unread = read_runs(folder)
    groups, doubles = make_groups(runs)
    found = find(folder, place, prefix)
    results, failed = _results(folder, groups)
    results += found.documents
    section = Section(
        title=shown(folder),
        warnings=[*_warnings(folder, runs), *unread, *doubles, *failed, *found.warnings],
        notices=_notices(folder, runs, found),
        results=results,
        sheets=found.sheets,
        curves=_curves(groups, place, f"{prefix}curve-"),
        pictures=found.pictures,
        runs=tables.one_by_one(runs),
        audits=tables.audits(runs),
        settings=tables.all_settings(runs) if runs else {},
        environments=tables.environments(runs),
        commands=commands(
            folder, runs, [document.text for document in results], _has_figures(folder)
        ),
        protocols=_protocols(runs),
    )
    if not any(there for _, _, there in section.contents) and not section.warnings:
        raise UserError(
            f"{folder} holds nothing to report. Expected config.yaml and runs/ of main_transfer.py, jobs/ of a sweep, "
            "or tables and pictures (.md, .csv, .png)."
        )
    return Hide(folder, runs).everywhere(section)


def _results(folder: Path, groups: Sequence[Group]) -> tuple[list[Document], list[str]]:
    """Tables over seeds, from the runs or, without any, from the CSV of a comparison; and warnings."""
    title = "Over seeds"
    tried = [
        (f"{title}: {g.title}" if g.title else title, partial(tables.over_seeds, g)) for g in groups
    ]
    csv, text = folder / "comparison.csv", folder / "comparison.md"
    if not groups and csv.exists():
        tried.append((title, partial(tables.of_csv, csv)))
    made, warnings = [], []
    for name, make in tried:
        try:
            made.append(Document(name, make()))
        except UserError as error:
            warnings.append(f"{name}: {error}")
    if not tried and text.exists():
        made.append(read_document(text, folder))
    return made, warnings


def _curves(groups: Sequence[Group], place: Path, prefix: str) -> list[Picture]:
    curves = []
    for i, group in enumerate(groups, start=1):
        own = f"{prefix}{i}-" if len(groups) > 1 else prefix
        for path, caption in draw_curves(group, place, own):
            curves.append(drawn(path, f"{group.title}: {caption}" if group.title else caption))
    return curves


def _has_figures(folder: Path) -> bool:
    """Whether there are figures of the runs of this very folder."""
    return (folder / "config.yaml").exists() and any((folder / FIGURES).glob("*.png"))


def _protocols(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run.options.protocol for run in runs))


def _warnings(folder: Path, runs: Sequence[Run]) -> list[str]:
    missing = [
        f"{run.folder.relative_to(folder).as_posix()} ({run.state})"
        for run in runs
        if not run.result
    ]
    protocols = _protocols(runs)
    lines = []
    if missing:
        lines.append(f"{len(missing)} of {len(runs)} runs are not finished: {', '.join(missing)}.")
    if len(protocols) > 1:
        lines.append(
            f"The runs follow different protocols ({', '.join(protocols)}): do not compare these."
        )
    return lines


def _notices(folder: Path, runs: Sequence[Run], found: Found) -> list[str]:
    lines = []
    if not runs:
        lines.append(
            "No runs here (no config.yaml): curves, split, settings and training commands cannot be shown, only the files "
            "that lie in the folder."
        )
    elif (folder / "config.yaml").exists() and not _has_figures(folder):
        lines.append(f"No figures. They are made by: tmkt figure all {shown(folder)}")
    silent = sum(not run.environments for run in runs)
    if silent:
        lines.append(f"{silent} of {len(runs)} runs did not keep their environment.")
    if shared_machine(folder):
        lines.append("Several jobs ran at once: their times depend on each other.")
    long = [name for name, sheet in found.sheets.items() if len(sheet.rows) == MOST_ROWS]
    if long:
        lines.append(f"Of {', '.join(long)} the first {MOST_ROWS} rows are shown.")
    if found.others:
        lines.append(f"Files not shown: {', '.join(found.others)}.")
    return lines
