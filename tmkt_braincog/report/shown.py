"""Paths and found text as the report may show them to others."""

import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from .runs import Run


def shown(path: Path) -> str:
    """Relative to the working directory where it lies inside; otherwise as it was given."""
    absolute = path.resolve()
    return (
        absolute.relative_to(Path.cwd()).as_posix()
        if absolute.is_relative_to(Path.cwd())
        else str(path)
    )


class Hide:
    """Replaces absolute paths of this machine in text.

    Args:
        folder: as given on the command line, and shown so.
        runs: whose outputs and data roots are shortened to ``.../<name>`` where they lie elsewhere.
    """

    def __init__(self, folder: Path, runs: Sequence[Run]):
        found = {
            value for run in runs for value in (run.options.output, run.options.data_root) if value
        }
        known = {path: _short(Path(path)) for path in found if Path(path).is_absolute()}
        known |= {str(Path.home()): "~", str(Path.cwd()): ".", str(folder.resolve()): shown(folder)}
        # A root folder is no secret, and is part of everything.
        self._known = {path: text for path, text in known.items() if len(Path(path).parts) > 1}
        longest_first = sorted(map(re.escape, self._known), key=len, reverse=True)
        self._pattern = re.compile(rf"(?<![\w.])({'|'.join(longest_first)})(?![\w.-])")

    def __call__(self, text: str) -> str:
        return self._pattern.sub(lambda match: self._known[match[1]], text)

    def everywhere(self, value: Any) -> Any:
        """The same value with all text in its lists, dicts and dataclasses replaced."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, list):
            return [self.everywhere(one) for one in value]
        if isinstance(value, dict):
            return {self.everywhere(k): self.everywhere(v) for k, v in value.items()}
        if is_dataclass(value):
            return replace(
                value, **{f.name: self.everywhere(getattr(value, f.name)) for f in fields(value)}
            )
        return value


def _short(path: Path) -> str:
    inside = shown(path)
    return inside if not Path(inside).is_absolute() else f".../{path.name}"
