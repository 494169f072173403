"""Writes the report of output folders: one page of HTML, and the same in Markdown."""

import argparse
import re
import shlex
from datetime import datetime
from pathlib import Path

import torch

from ..engine.folder import environment
from ..errors import UserError
from ..files import replacing
from ..version import VERSION
from .page import Section, make_section
from .render import html, markdown
from .shown import shown

GENERATOR = f"tmkt_braincog {VERSION} report"
OURS = re.compile(r"tmkt_braincog \S+ report")
NAMES = ("report.html", "report.md")


def write(options: argparse.Namespace) -> str:
    """Write the files; returns what is to be said about them.

    Raises:
        UserError: folders that are missing, empty or named twice, or an output folder with somebody else's report.
    """
    folders = options.folders
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError(f"A folder is named twice: {' '.join(map(str, folders))}. Name each once.")
    target = options.output or folders[0] / "report"
    _check_target(target)
    sections = [make_section(folder, target, i) for i, folder in enumerate(folders, start=1)]
    words = {
        "title": "Report: " + ", ".join(section.title for section in sections),
        "generator": GENERATOR,
        "made": datetime.now().astimezone().isoformat(" ", "minutes"),
        "warnings": _across(sections),
        "environment": environment(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "command": shlex.join(["tmkt", "report", *map(shown, folders), "--output", shown(target)]),
    }
    texts = (html(sections, **words), markdown(sections, target, **words))
    for name, text in zip(NAMES, texts, strict=True):
        with replacing(target / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    warnings = [*words["warnings"], *(w for section in sections for w in section.warnings)]
    written = [
        f"Written: {target / name} ({(target / name).stat().st_size / 2**20:.1f} MiB)"
        for name in NAMES
    ]
    return "\n".join([*(f"warning: {line}" for line in warnings), *written])


def _check_target(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise UserError(f"--output {target} is a file. Give a folder.")
    for path in (target / name for name in NAMES):
        if path.exists() and not OURS.search(path.read_text(errors="replace")[:2000]):
            raise UserError(
                f"{path} is there and was not made by this command. Give another --output."
            )


def _across(sections: list[Section]) -> list[str]:
    """What holds for the sections together."""
    of = {section.title: section.protocols for section in sections if section.protocols}
    if len({tuple(protocols) for protocols in of.values()}) < 2:
        return []
    seen = "; ".join(f"{title}: {', '.join(protocols)}" for title, protocols in of.items())
    return [f"The folders follow different protocols ({seen}): do not compare their numbers."]
