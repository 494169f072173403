"""A report of what lies in output folders: one HTML page that holds all its pictures."""

import argparse
import re
import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from . import report_parts as parts
from .errors import UserError
from .files import replacing
from .report_parts import Facts
from .runs import Run, find_runs
from .version import VERSION

GENERATOR = f"tmkt_braincog {VERSION} report"
OURS = re.compile(r"tmkt_braincog \S+ report")
SHADED = "Mean over seeds, shaded: standard deviation."
# Shown in another form: always, and where there are runs.
OWN = {"config.yaml", "report.html"}
COMPARISON = {"comparison.csv", "comparison.md", "comparison.png"}


def write(options: argparse.Namespace) -> str:
    """Write ``report.html`` about ``options.folders``; returns what is to be said about it.

    Raises:
        UserError: folders that are missing or hold nothing, or somebody else's report.
    """
    folders, target = options.folders, options.output or options.folders[0] / "report"
    path = target / "report.html"
    if path.exists() and not OURS.search(path.read_text(errors="replace")[:2000]):
        raise UserError(f"{path} was not made by this command. Give another --output.")
    sections = [make_section(folder) for folder in folders]
    of = {section["title"]: section["protocols"] for section in sections if section["protocols"]}
    seen = "; ".join(f"{title}: {protocols}" for title, protocols in of.items())
    warnings = [f"The folders follow different protocols ({seen}): do not compare their numbers."]
    warnings = warnings if len(set(of.values())) > 1 else []
    loader = PackageLoader("tmkt_braincog")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("report.html.j2").render(
        sections=sections,
        warnings=warnings,
        made=f"{datetime.now().astimezone().isoformat(' ', 'minutes')} by {GENERATOR}",
        command=shlex.join(["tmkt", "report", *map(shown, folders), "--output", shown(target)]),
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    said = [*warnings, *(line for section in sections for line in section["warnings"])]
    size = path.stat().st_size / 2**20
    return "\n".join([*(f"warning: {line}" for line in said), f"Written: {path} ({size:.1f} MiB)"])


def shown(path: Path) -> str:
    """Relative to the working directory where it lies inside; otherwise as it was given."""
    whole, here = path.resolve(), Path.cwd()
    return whole.relative_to(here).as_posix() if whole.is_relative_to(here) else str(path)


def make_section(folder: Path) -> Facts:
    """What the page shows of a folder, whose curves are drawn; ``parts``: HTML by heading.

    Raises:
        UserError: no such folder, or nothing in it that a report could show.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}. Give an output folder, as results/NAME.")
    runs, problems = find_runs(folder)
    summary, drawn = parts.over_seeds(runs, problems), parts.curves(runs, problems)
    hidden = OWN | COMPARISON if runs else OWN
    texts, pictures, facts, left = parts.look_into(folder, hidden, problems)
    blocks = {
        "Results": summary + texts,
        "Curves": Markup("<div>{}</div>\n").format(SHADED) + drawn if drawn else "",
        "Figures": pictures,
        "Runs": parts.html_table(parts.one_by_one(runs)),
        "Split and its audit": parts.html_table(parts.audits(runs)),
        "Settings": parts.html_table(parts.settings(runs)),
        "Environment of the runs": parts.html_table(parts.environments(runs)),
    }
    blocks = {heading: html for heading, html in blocks.items() if html}
    warnings = [*_unfinished(folder, runs), *problems]
    if not blocks and not warnings:
        raise UserError(
            f"{folder} holds nothing to report. Expected config.yaml and runs/ of tmkt train, "
            "jobs/ of a sweep, or tables and pictures (.md, .png)."
        )
    emulated = any(run.emulated for run in runs) or any(fact.get("emulated") for fact in facts)
    protocols = [run.options.protocol for run in runs] or [fact.get("protocol") for fact in facts]
    return {
        "title": shown(folder),
        "protocols": ", ".join(dict.fromkeys(filter(None, protocols))),
        "warnings": warnings,
        "notices": list(_notices(folder, runs, left, emulated)),
        "parts": blocks,
        "commands": list(_commands(folder, runs, facts)),
    }


def _unfinished(folder: Path, runs: Sequence[Run]) -> Iterator[str]:
    missing = [run for run in runs if not run.result]
    if missing:
        names = ", ".join(f"{run.folder.relative_to(folder)} ({run.state})" for run in missing)
        yield f"{len(missing)} of {len(runs)} runs are not finished: {names}."
    for config in dict.fromkeys(shown(run.output / "config.yaml") for run in missing):
        yield f"Go on with: tmkt train -c {shlex.quote(config)} --resume"


def _notices(folder: Path, runs: Sequence[Run], left: list[str], emulated: bool) -> Iterator[str]:
    if emulated:
        yield "Events are emulated from the images."
    if not runs:
        yield "No runs here (no config.yaml): only the files that lie in the folder are shown."
    elif (folder / "config.yaml").exists() and not any(folder.glob("figures/*.png")):
        yield f"No figures. They are made by: tmkt figure all {shown(folder)}"
    if (folder / "jobs" / ".several-at-once").exists():
        yield "Several jobs ran at once: their times depend on each other."
    if left:
        yield f"Files not shown: {', '.join(sorted(left))}."


def _commands(folder: Path, runs: Sequence[Run], facts: Sequence[Facts]) -> Iterator[str]:
    """Command lines for the working directory of the report: tables and figures, then all runs."""
    yield from dict.fromkeys(str(fact["command"]) for fact in facts if fact.get("command"))
    for output in dict.fromkeys(run.output for run in runs):
        its = [run for run in runs if run.output == output]
        words = ["tmkt", "train", "-c", shown(output / "config.yaml")]
        words += ["--method", *dict.fromkeys(run.method for run in its)]
        words += ["--seed", *dict.fromkeys(str(run.seed) for run in its)]
        there = Path(f"{shown(folder)}-again", output.relative_to(folder))
        yield shlex.join([*words, "--output", str(there)])
