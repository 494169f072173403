"""What a figure is drawn from, and how it is written: pictures, numbers, and a caption for the
report."""

import json
from collections.abc import Callable, Mapping, Sequence
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
        folder: where the pictures and the numbers behind them go.
        samples: most recordings to use, for figures whose cost grows with them.
        seed: of every random choice that is not the run's own.
        batches, ratios: of ``gradient-variance``.
        command: the words that made it, ``{}`` for the figure's name.
    """

    runs: Sequence[Trainer]
    folder: Path
    samples: int = 500
    seed: int = 0
    batches: int = 64
    ratios: Sequence[float] = (0.2, 0.4, 0.6, 0.8)
    command: str = ""

    @cached_property
    def names(self) -> list[str]:
        """The shortest that tell the runs apart: method, method and seed, or folder."""
        outputs = [run.folder.parent.parent.name for run in self.runs]
        choices = (
            [run.name for run in self.runs],
            [f"{run.name}, seed {run.seed}" for run in self.runs],
            outputs,
            [f"{out}, seed {run.seed}" for out, run in zip(outputs, self.runs, strict=True)],
        )
        different = (names for names in choices if len(set(names)) == len(names))
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
        part = f"{self.samples} of " if self.samples < total else ""
        return f"{part}{total} test recordings"

    def only(self, kept: Callable[[Trainer], bool]) -> "Request":
        """The same of some of the runs, which keep their names."""
        runs = {name: run for name, run in zip(self.names, self.runs, strict=True) if kept(run)}
        one = replace(self, runs=list(runs.values()))
        one.__dict__["names"] = list(runs)
        return one

    def common_test(self) -> np.ndarray:
        """Sorted indices of the recordings that all runs test on.

        Raises:
            UserError: there are none.
        """
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
        self, n: int, width: float, height: float, sharey: bool = True
    ) -> tuple[Figure, list[Axes]]:
        """A figure with ``n`` panels of that size in inches, at most :data:`COLUMNS` to a row."""
        columns = min(n, COLUMNS)
        rows = -(-n // columns)
        figure = self.canvas(columns * width, rows * height)
        axes = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
        for spare in axes[n:]:
            spare.set_axis_off()
        return figure, axes[:n]

    def publish(
        self,
        name: str,
        draw: Draw | Mapping[str, Draw],
        table: pd.DataFrame | Mapping[str, pd.DataFrame],
        about: str = "",
        digits: str | None = "%.6g",
        said: Mapping[str, pd.DataFrame] | None = None,
    ) -> list[Path]:
        """Write every picture as PNG and PDF, every table as CSV, and ``<name>.json``, which the
        report shows.

        Args:
            name: of the figure.
            draw, table: one, or several by the names of their files.
            about: the caption, after the line of what the figure shows.
            digits: of the CSV; None: as many as there are.
            said: tables of words by their headings, for ``<name>.md``; the first is shown in the
            report.
        """
        stem = name.replace("-", "_") if said else name
        pictures = draw if isinstance(draw, Mapping) else {stem: draw}
        tables = table if isinstance(table, Mapping) else {stem: table}
        written = [self.folder / f"{one}{end}" for one in pictures for end in (".png", ".pdf")]
        for path in written:
            plots.save(pictures[path.stem], path)
        for file, rows in tables.items():
            written.append(self.folder / f"{file}.csv")
            with replacing(written[-1]) as temporary:
                rows.to_csv(temporary, index=False, float_format=digits)
        fact: dict[str, Any] = {
            "kind": "table" if said else "figure",
            "name": name,
            "title": self.title,
            "caption": f"{caption(name)} {about}".strip(),
            "emulated": self.runs[0].data.emulated,
            "pictures": [f"{one}.png" for one in pictures],
            "command": self.command.replace("{}", name, 1),
        }
        texts = {}
        if said:
            texts["md"] = _markdown(fact, said)
            first = next(iter(said.values()))
            fact["columns"] = list(first.columns[1:])
            fact["rows"] = [
                {"name": row.pop(first.columns[0]), "values": row}
                for row in first.to_dict("records")
            ]
        texts["json"] = json.dumps(fact, indent=1, ensure_ascii=False) + "\n"
        for suffix, text in texts.items():
            written.append(self.folder / f"{stem}.{suffix}")
            with replacing(written[-1]) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return written


def _markdown(fact: dict, said: Mapping[str, pd.DataFrame]) -> str:
    emulated = " Events are emulated." if fact["emulated"] else ""
    lines = [f"{fact['title']}. {fact['caption']}{emulated}"]
    for heading, table in said.items():
        lines += ["", heading, ""] if heading else [""]
        rows = [table.columns, ["---"] * len(table.columns), *table.to_numpy()]
        lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def mean_std(values: pd.Series) -> str:
    mean, std = values.mean(), values.std(ddof=1)
    spread = "" if pd.isna(std) or std <= 1e-9 * abs(mean) else f" ± {std:.2g}"
    return f"{mean:.4g}{spread}"


def check_distinct(runs: Sequence[Trainer]) -> None:
    """Refuse runs that would be taken for each other."""
    seen: dict[tuple[str, int], Path] = {}
    for run in runs:
        other = seen.setdefault((run.name, run.seed), run.folder)
        if other is not run.folder:
            raise UserError(
                f"{other} and {run.folder} are both {run.name}, seed {run.seed}: give one of them."
            )


def untrained(run: Trainer) -> Trainer:
    """The same run with the initial weights of its seed."""
    trainer = Trainer(run.options, run.data, run.split, run.folder, run.device)
    trainer.model.executor = run.model.executor
    return trainer


def bare(axes: Axes) -> None:
    """No ticks and no grid, a light frame: for images and embeddings."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set(visible=True, color="0.8", linewidth=0.6)
