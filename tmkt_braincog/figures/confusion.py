"""Which classes a network takes for which: confusion matrices of the test recordings."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from ..engine.train import Trainer
from .features import COLUMNS, counted, event_logits, folded, panels, publish, run_names, setting
from .figures import FIGURES, Request

NUMBERED = 20  # most classes with numbers in the cells and names at the ticks
RESOLVED = 200  # most cells per side that a printed panel can show


@FIGURES.register("confusion")
def confusion(request: Request) -> list[Path]:
    """Confusion matrix of the test recordings, as shares of every true class.

    The CSV has the counts, cells of 0 left out. With more than 200 classes neighbouring ones are drawn as one cell, so that no
    cell falls between two pixels.
    """
    names = run_names(request.runs)
    counts = {name: counts_of(run, request) for name, run in zip(names, request.runs, strict=True)}
    first = request.runs[0]
    title = f"Confusion of {counted(first, request)}; {setting(first)}"
    draw = partial(_draw, counts, first.data.classes, title)
    return publish(request.folder, "confusion", draw, points=_table(counts, first.data.classes))


def counts_of(run: Trainer, request: Request) -> np.ndarray:
    """``[N, N]`` int64: row i, column j counts the recordings of class i that the mean logits take for j."""
    logits, labels = event_logits(run, request)
    return confusion_matrix(labels, logits.mean(1).argmax(1), labels=range(logits.shape[-1]))


def shares(counts: np.ndarray) -> np.ndarray:
    """Every row over its sum; NaN where a class has no recording."""
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(axis=1, keepdims=True)


def pooled(counts: np.ndarray, cells: int) -> np.ndarray:
    """Neighbouring classes added up, as many to a cell as leave at most ``cells`` per side."""
    group = -(-len(counts) // cells)
    starts = np.arange(0, len(counts), group)
    return np.add.reduceat(np.add.reduceat(counts, starts, axis=0), starts, axis=1)


def _table(counts: dict[str, np.ndarray], classes: tuple[str, ...]) -> pd.DataFrame:
    rows = []
    for name, matrix in counts.items():
        share = shares(matrix)
        rows += [
            {
                "run": name,
                "true": classes[i],
                "predicted": classes[j],
                "count": matrix[i, j],
                "share": share[i, j],
            }
            for i, j in np.argwhere(matrix)
        ]
    return pd.DataFrame(rows)


def _draw(counts: dict[str, np.ndarray], classes: tuple[str, ...], title: str) -> Figure:
    side = 3.0 if len(classes) <= 10 else 4.2
    named = len(classes) <= NUMBERED
    names = [_short(name) for name in classes] if named else []
    figure, panel = panels(
        len(counts), side, side + 0.35 + 0.07 * max(map(len, names), default=0), title, sharey=False
    )
    # where no number says so, a root makes the few per cent visible that most confusions are
    norm = PowerNorm(1 if named else 0.5, 0, 100)
    for i, (axes, (name, matrix)) in enumerate(zip(panel, counts.items(), strict=True)):
        percent = 100 * shares(pooled(matrix, RESOLVED))
        image = axes.imshow(percent, cmap="Blues", norm=norm, interpolation="nearest")
        _frame(axes)
        if named:
            _name_cells(axes, percent, names)
        if i % COLUMNS:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel("true")
        axes.set_title(f"{folded(name)}: {100 * np.trace(matrix) / matrix.sum():.1f} %")
        axes.set_xlabel("predicted")
    figure.colorbar(image, ax=panel, label="share of the true class (%)", shrink=0.8, pad=0.01)
    return figure


def _frame(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[], facecolor="0.85")  # shows through where a class has no recording
    axes.grid(False)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color("0.8")


def _short(name: str) -> str:
    return name if len(name) <= 12 else name[:11] + "…"


def _name_cells(axes: Axes, percent: np.ndarray, names: list[str]) -> None:
    size = 9 if len(names) <= 10 else 7
    axes.set_xticks(
        range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0, fontsize=size
    )
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.tick_params(length=0)
    for i, j in np.argwhere(percent > 0):
        colour = "white" if percent[i, j] > 55 else "black"
        axes.text(j, i, f"{percent[i, j]:.0f}", ha="center", va="center", fontsize=6, color=colour)
