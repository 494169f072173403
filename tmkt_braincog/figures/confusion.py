"""Which classes a network takes for which: confusion matrices of the test recordings."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from ..engine.train import Trainer
from .base import COLUMNS, FIGURES, Request
from .features import event_logits

NUMBERED = 20  # most classes with numbers in the cells and names at the ticks
RESOLVED = 200  # most cells per side that a printed panel can show


@FIGURES.register("confusion")
def confusion(request: Request) -> list[Path]:
    """Confusion matrix of the test recordings, as shares of every true class.

    The CSV has the counts, cells of 0 left out. With more than 200 classes neighbouring ones are
    drawn as one cell, so that no cell falls between two pixels.
    """
    counts = [counts_of(run, request) for run in request.runs]
    matrices, classes = dict(zip(request.names, counts, strict=True)), request.runs[0].data.classes
    rows = [
        (name, classes[i], classes[j], matrix[i, j], shares(matrix)[i, j])
        for name, matrix in matrices.items()
        for i, j in np.argwhere(matrix)
    ]
    table = pd.DataFrame(rows, columns=["run", "true", "predicted", "count", "share"])
    about = f"{request.counted}; above each matrix the accuracy."
    return request.publish("confusion", lambda: _draw(request, matrices, classes), table, about)


def counts_of(run: Trainer, request: Request) -> np.ndarray:
    """``[N, N]`` int64: recordings of class i that the mean logits take for class j."""
    logits, labels = event_logits(run, request)
    return confusion_matrix(labels, logits.mean(1).argmax(1), labels=range(logits.shape[-1]))


def shares(counts: np.ndarray) -> np.ndarray:
    """Every row over its sum; NaN where a class has no recording."""
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(axis=1, keepdims=True)


def pooled(counts: np.ndarray, cells: int) -> np.ndarray:
    """Neighbouring classes added up, as many to a cell as leave at most ``cells`` per side."""
    starts = np.arange(0, len(counts), -(-len(counts) // cells))
    return np.add.reduceat(np.add.reduceat(counts, starts, axis=0), starts, axis=1)


def _draw(request: Request, counts: dict[str, np.ndarray], classes: tuple[str, ...]) -> Figure:
    side, named = 3.0 if len(classes) <= 10 else 4.2, len(classes) <= NUMBERED
    names = [c if len(c) <= 12 else f"{c[:11]}…" for c in classes]
    height = side + 0.35 + 0.07 * named * max(map(len, names))
    figure, panel = request.panels(len(counts), side, height, sharey=False)
    # where no number says so, a root makes the few per cent visible that most confusions are
    look = {"cmap": "Blues", "norm": PowerNorm(1 if named else 0.5, 0, 100), "cbar": False}
    for i, (axes, (name, matrix)) in enumerate(zip(panel, counts.items(), strict=True)):
        percent = 100 * shares(pooled(matrix, RESOLVED))
        numbers = [[f"{cell:.0f}" if cell > 0 else "" for cell in row] for row in percent]
        cells = {"annot": numbers if named else None, "fmt": "", "annot_kws": {"size": 6}}
        ticks = {"xticklabels": named and names, "yticklabels": named and not i % COLUMNS and names}
        sns.heatmap(percent, ax=axes, square=True, rasterized=True, **look, **cells, **ticks)
        axes.set_facecolor("0.85")  # shows through where a class has no recording
        accuracy = 100 * np.trace(matrix) / matrix.sum()
        axes.set(xlabel="predicted", ylabel="" if i % COLUMNS else "true")
        axes.set_title(textwrap.fill(f"{name}: {accuracy:.1f} %", 34))
    bar: Any = {"label": "share of the true class (%)", "shrink": 0.8, "pad": 0.01}
    figure.colorbar(axes.collections[0], ax=panel, **bar)
    return figure
