"""A report of what lies in output folders: one HTML page that holds all its pictures."""

import argparse
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from . import report_runs
from .errors import UserError
from .files import replacing
from .report_files import Block, Found
from .runs import Run, find_runs
from .version import VERSION

GENERATOR = f"tmkt_braincog {VERSION} report"
OURS = re.compile(r"tmkt_braincog \S+ report")
# Shown in another form: always, and where there are runs.
OWN = {"config.yaml", "report.html", "report.md"}
COMPARISON = {"comparison.csv", "comparison.md"}


@dataclass(frozen=True)
class Section:
    """What the page says of a folder: by heading what is there, and what is missing."""

    title: str
    protocols: list[str]
    warnings: list[str]
    notices: list[str]
    parts: dict[str, list[Block]]


def write(options: argparse.Namespace) -> str:
    """Write ``report.html`` about ``options.folders``; returns what is to be said about it.

    Raises:
        UserError: folders that are missing, empty or named twice, or somebody else's report.
    """
    folders, target = options.folders, options.output or options.folders[0] / "report"
    path = target / "report.html"
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError(f"A folder is named twice: {' '.join(map(str, folders))}. Name each once.")
    if target.exists() and not target.is_dir():
        raise UserError(f"--output {target} is a file. Give a folder.")
    if path.exists() and not OURS.search(path.read_text(errors="replace")[:2000]):
        raise UserError(f"{path} was not made by this command. Give another --output.")
    sections = [make_section(folder) for folder in folders]
    warnings = _across(sections)
    loader = PackageLoader("tmkt_braincog")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    with pd.option_context("display.max_colwidth", None):  # else long cells are cut
        page = environment.get_template("report.html.j2").render(
            sections=sections,
            warnings=warnings,
            made=f"{datetime.now().astimezone().isoformat(' ', 'minutes')} by {GENERATOR}",
            command=shlex.join(["tmkt", "report", *map(shown, folders), "--output", shown(target)]),
        )
    with replacing(path) as temporary:
        temporary.write_text(_hide(page), encoding="utf-8")
    said = [*warnings, *(line for section in sections for line in section.warnings)]
    size = path.stat().st_size / 2**20
    return "\n".join([*(f"warning: {line}" for line in said), f"Written: {path} ({size:.1f} MiB)"])


def shown(path: Path) -> str:
    """Relative to the working directory where it lies inside; otherwise as it was given."""
    whole, here = path.resolve(), Path.cwd()
    return whole.relative_to(here).as_posix() if whole.is_relative_to(here) else str(path)


def _hide(page: str) -> str:
    """The page without absolute paths of this machine: relative, or from ``~``."""
    known = {f"{Path.cwd()}/": "", f"{Path.home()}/": "~/"}
    paths = "|".join(re.escape(path) for path in known if path.count("/") > 1)
    pattern = rf"data:image/png;base64,[\w+/=]*|(?<![\w.])(?:{paths})"
    return re.sub(pattern, lambda match: known.get(match[0], match[0]), page)


def make_section(folder: Path) -> Section:
    """Read a folder and draw its curves.

    Raises:
        UserError: no such folder, or nothing in it that a report could show.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}. Give an output folder, as results/NAME.")
    runs, problems = find_runs(folder)
    groups = report_runs.make_groups(runs, problems)
    found = Found(folder, OWN | COMPARISON if runs else OWN)
    emulated = any(run.emulated for run in runs) or any(f.get("emulated") for f in found.facts)
    parts = {
        "Results": [*report_runs.results(groups, problems), *found.blocks],
        "Curves": list(report_runs.curves(groups, problems)),
        "Figures": [Block(emulated=emulated, pictures=found.pictures)],
        "Other files": found.sheets,
        "Runs": [Block(emulated=emulated, table=report_runs.one_by_one(runs))],
        "Split and its audit": [Block(table=report_runs.audits(runs))],
        "Settings": [Block(table=report_runs.settings(runs))],
        "Environment of the runs": [Block(table=report_runs.environments(runs))],
        "To make it again": [Block(lines=_commands(folder, runs, found.facts))],
    }
    parts = {heading: [b for b in blocks if not b.empty] for heading, blocks in parts.items()}
    parts = {heading: blocks for heading, blocks in parts.items() if blocks}
    warnings = [*_warnings(folder, runs), *problems, *found.problems]
    if not parts and not warnings:
        raise UserError(
            f"{folder} holds nothing to report. Expected config.yaml and runs/ of tmkt train, "
            "jobs/ of a sweep, or tables and pictures (.json, .md, .csv, .png)."
        )
    protocols = [run.options.protocol for run in runs] or [f.get("protocol") for f in found.facts]
    return Section(
        title=shown(folder),
        protocols=list(dict.fromkeys(filter(None, protocols))),
        warnings=warnings,
        notices=list(_notices(folder, runs, found.left)),
        parts=parts,
    )


def _warnings(folder: Path, runs: Sequence[Run]) -> Iterator[str]:
    missing = [
        f"{run.folder.relative_to(folder).as_posix()} ({run.state})"
        for run in runs
        if not run.result
    ]
    protocols = list(dict.fromkeys(run.options.protocol for run in runs))
    if missing:
        yield f"{len(missing)} of {len(runs)} runs are not finished: {', '.join(missing)}."
    if len(protocols) > 1:
        yield f"The runs follow different protocols ({', '.join(protocols)}): do not compare these."


def _notices(folder: Path, runs: Sequence[Run], left: Sequence[Path]) -> Iterator[str]:
    if not runs:
        yield (
            "No runs here (no config.yaml): curves, split, settings and training commands cannot "
            "be shown, only the files that lie in the folder."
        )
    elif (folder / "config.yaml").exists() and not _has_figures(folder):
        yield f"No figures. They are made by: tmkt figure all {shown(folder)}"
    silent = sum(not run.environments for run in runs)
    if silent:
        yield f"{silent} of {len(runs)} runs did not keep their environment."
    if (folder / "jobs" / ".several-at-once").exists():
        yield "Several jobs ran at once: their times depend on each other."
    if left:
        yield f"Files not shown: {', '.join(sorted(path.name for path in left))}."


def _has_figures(folder: Path) -> bool:
    """Whether there are figures of the runs of this very folder."""
    return (folder / "config.yaml").exists() and any(folder.glob("figures/*.png"))


def _commands(folder: Path, runs: Sequence[Run], facts: Sequence[dict[str, Any]]) -> list[str]:
    """Command lines for the working directory of the report, comments between them."""
    tables = [fact for fact in facts if fact.get("kind") == "table"]
    named = list(dict.fromkeys(str(fact["command"]) for fact in tables if fact.get("command")))
    lines = ["# the tables, and the runs behind them", *named] if named else []
    if any(run.result is None for run in runs):
        lines += ["# go on with what is not finished", *_train(folder, runs, "", ["--resume"])]
    if runs:
        lines += ["# all runs once more, in another folder", *_train(folder, runs, "-again", [])]
    if _has_figures(folder):
        lines += ["# the figures", f"tmkt figure all {shlex.quote(shown(folder))}"]
    return lines


def _train(folder: Path, runs: Sequence[Run], suffix: str, more: Sequence[str]) -> list[str]:
    """Calls of ``tmkt train`` for these runs, into the folder of that name with a suffix."""
    outputs = list(dict.fromkeys(run.output for run in runs))
    if outputs == [folder]:
        words = ["tmkt", "train", "-c", shown(folder / "config.yaml")]
        words += ["--method", *dict.fromkeys(run.method for run in runs)]
        words += ["--seed", *dict.fromkeys(str(run.seed) for run in runs)]
        return [shlex.join([*words, "--output", shown(folder) + suffix, *more])]
    here, there = shlex.quote(f"{shown(folder)}/"), shlex.quote(shown(folder) + suffix)
    call = " ".join(['tmkt train -c "$c" --output', f'{there}/"${{o#{here}}}"', *more])
    return [
        f"for c in {here}{'*/' * depth}config.yaml; do o=${{c%/config.yaml}}; {call}; done"
        for depth in dict.fromkeys(len(output.relative_to(folder).parts) for output in outputs)
    ]


def _across(sections: Sequence[Section]) -> list[str]:
    """What holds for the sections together."""
    of = {section.title: ", ".join(section.protocols) for section in sections if section.protocols}
    seen = "; ".join(f"{title}: {protocols}" for title, protocols in of.items())
    differ = len(set(of.values())) > 1
    line = f"The folders follow different protocols ({seen}): do not compare their numbers."
    return [line] if differ else []
