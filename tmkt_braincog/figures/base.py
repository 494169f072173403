"""What a figure is drawn from, and how it is written: pictures, numbers and a caption."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import plots
from ..engine.train import Trainer
from ..errors import UserError
from ..files import replacing
from ..options import model_text
from ..registry import FIGURES as FIGURES
from ..registry import caption

COLUMNS = 3  # most panels in a row
Draw = Callable[[], Figure]


@dataclass(frozen=True)
class Request:
    """What a figure is drawn from.

    Attributes:
        runs: opened runs of one setting (:func:`~tmkt_braincog.runs.reopen`).
        samples: most recordings to use.
        batches, ratios: of ``gradient-variance``.
        command: the words that made it, ``{}`` for the figure's name.
    """

    runs: Sequence[Trainer]
    folder: Path
    samples: int = 500
    batches: int = 64
    ratios: Sequence[float] = (0.2, 0.4, 0.6, 0.8)
    command: str = ""

    @cached_property
    def names(self) -> list[str]:
        """The shortest that tell the runs apart: method, method and seed, or folder."""
        tried = [(r.name, f"{r.name}, seed {r.seed}", r.folder.parents[1].name) for r in self.runs]
        different = (
            list(names) for names in zip(*tried, strict=True) if len(set(names)) == len(names)
        )
        return next(different, [str(run.folder) for run in self.runs])

    @property
    def title(self) -> str:
        """Data set, model and T; the spaces at the sign keep it on one line."""
        run = self.runs[0]
        return f"{run.data.target}, {model_text(run.options)}, T\u00a0=\u00a0{run.options.step}"

    @property
    def counted(self) -> str:
        """How many of the test recordings are looked at, in words."""
        total = len(self.runs[0].split.test)
        return f"{self.samples} of " * (self.samples < total) + f"{total} test recordings"

    def only(self, kept: Callable[[Trainer], bool], none: str) -> "Request":
        """The same of some of the runs, which keep their names; without any a UserError.

        ``none``: what it says, with ``{}`` for the names that were seen.
        """
        runs = {name: run for name, run in zip(self.names, self.runs, strict=True) if kept(run)}
        if not runs:
            raise UserError(none.format(", ".join(self.names)))
        one = replace(self, runs=list(runs.values()))
        one.__dict__["names"] = list(runs)
        return one

    def common_test(self) -> np.ndarray:
        """Sorted indices of the recordings that all runs test on; a UserError without any."""
        common = reduce(np.intersect1d, [run.split.test for run in self.runs])
        if not len(common):
            raise UserError(
                "These runs share no test recording, so nothing can be compared. Give runs of one "
                "seed, or of a data set with a test split of its own."
            )
        return common

    def table(self, of: Callable[[Trainer], pd.DataFrame]) -> pd.DataFrame:
        """The rows of all runs below each other, with the column ``run`` before theirs."""
        rows = [of(run) for run in self.runs]
        return pd.concat(rows, keys=self.names, names=["run"]).reset_index(level=0)

    def canvas(self, width: float, height: float) -> Figure:
        """An empty figure, in inches, with the title."""
        return plots.canvas(width, height, self.title, self.runs[0].data.emulated)

    def panels(
        self, n: int, width: float, height: float, x: str = "", y: str = "", sharey: bool = True
    ) -> tuple[Figure, list[Axes]]:
        """A figure and ``n`` panels of that size in inches, axes labelled, COLUMNS to a row."""
        columns, rows = min(n, COLUMNS), -(-n // COLUMNS)
        figure = self.canvas(columns * width, rows * height)
        axes = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
        for i, one in enumerate(axes):
            one.set(xlabel=x, ylabel="" if i % columns else y)
        for spare in axes[n:]:
            spare.set_axis_off()
        return figure, axes[:n]

    def publish(
        self,
        name: str,
        draw: Draw | Mapping[str, Draw],
        table: pd.DataFrame | Mapping[str, pd.DataFrame],
        about: str = "",
        said: pd.DataFrame | None = None,
    ) -> list[Path]:
        """Write pictures as PNG and PDF, tables as CSV, and ``<name>.json`` for the report.

        ``draw`` and ``table`` are one, or several by the names of their files; ``about`` goes
        behind the line of what the figure shows; ``said`` is a table of words, for ``<name>.md``.
        """
        stem = name if said is None else name.replace("-", "_")
        pictures = draw if isinstance(draw, Mapping) else {stem: draw}
        tables = table if isinstance(table, Mapping) else {stem: table}
        fact = {
            "kind": "figure",
            "name": name,
            "title": self.title,
            "caption": f"{caption(name)} {about}".strip(),
            "emulated": self.runs[0].data.emulated,
            "pictures": [f"{one}.png" for one in pictures],
            "command": self.command.replace("{}", name, 1),
        }
        style: Any = {"index": False, "float_format": "%.8g"}
        texts = {f"{file}.csv": rows.to_csv(**style) for file, rows in tables.items()}
        if said is not None:
            cells: Any = [list(said), ["---"] * len(said.columns), *said.to_numpy().tolist()]
            body = "".join(f"| {' | '.join(row)} |\n" for row in cells)
            emulated = " Events are emulated." * self.runs[0].data.emulated
            texts[f"{stem}.md"] = f"{self.title}. {fact['caption']}{emulated}\n\n{body}"
        texts[f"{stem}.json"] = json.dumps(fact, indent=1, ensure_ascii=False) + "\n"
        written = [self.folder / f"{one}{end}" for one in pictures for end in (".png", ".pdf")]
        for path in written:
            plots.save(pictures[path.stem], path)
        for file, text in texts.items():
            written.append(self.folder / file)
            with replacing(written[-1]) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return written


def untrained(run: Trainer) -> Trainer:
    """The same run with the initial weights of its seed."""
    return Trainer(run.options, run.data, run.split, run.folder, run.device)


def copied(model: Any) -> Any:
    """A copy to look into; a membrane that is part of a graph could not be copied."""
    model.reset()
    return deepcopy(model)


def bare(axes: Axes) -> None:
    """No ticks and no grid, a light frame: for images and embeddings."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set(visible=True, color="0.8", linewidth=0.6)
