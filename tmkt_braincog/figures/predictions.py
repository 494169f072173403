"""What networks take test recordings for: confusion matrices, and accuracy as time goes on."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix
from timm.utils import accuracy

from ..engine.train import Trainer
from ..plots import ACCURACY, key, lines
from .base import COLUMNS, FIGURES, Request, bare
from .features import event_logits

NUMBERED = 20  # most classes with numbers in the cells and names at the ticks


@FIGURES.register("confusion")
def confusion(request: Request) -> list[Path]:
    """Confusion matrix of the test recordings, as shares of every true class.

    The CSV has the counts, cells of 0 left out.
    """
    counts = {run: counts_of(run, request) for run in request.runs}
    classes: Any = np.array(request.runs[0].data.classes)

    def cells(run: Trainer) -> pd.DataFrame:
        true, predicted = at = np.nonzero(counts[run])
        columns = {"true": classes[true], "predicted": classes[predicted]}
        columns |= {"count": counts[run][at], "share": shares(counts[run])[at]}
        return pd.DataFrame(columns)

    def draw() -> Figure:
        return _draw(request, list(counts.values()), classes)

    about = f"{request.counted}; above each matrix the accuracy."
    return request.publish("confusion", draw, request.table(cells), about)


def counts_of(run: Trainer, request: Request) -> np.ndarray:
    """``[N, N]`` int64: recordings of class i that the mean logits take for class j."""
    logits, labels = event_logits(run, request)
    return confusion_matrix(labels, logits.mean(1).argmax(1), labels=range(logits.shape[-1]))


def shares(counts: np.ndarray) -> np.ndarray:
    """Every row over its sum; NaN where a class has no recording."""
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(axis=1, keepdims=True)


def _draw(request: Request, counts: Sequence[np.ndarray], classes: Sequence[str]) -> Figure:
    side, named = 3.0 if len(classes) <= 10 else 4.2, len(classes) <= NUMBERED
    names = [c if len(c) <= 12 else f"{c[:11]}…" for c in classes] if named else []
    height = side + 0.35 + 0.07 * max(map(len, names), default=0)
    figure, panel = request.panels(len(counts), side, height, "predicted", "true", sharey=False)
    # where no number says so, a root makes the few per cent visible that most confusions are
    norm = PowerNorm(1 if named else 0.5, 0, 100)
    for i, (axes, name, matrix) in enumerate(zip(panel, request.names, counts, strict=True)):
        percent = 100 * shares(matrix)
        image = axes.imshow(percent, cmap="Blues", norm=norm)
        bare(axes)
        axes.set_facecolor("0.85")  # shows through where a class has no recording
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), [""] * len(names) if i % COLUMNS else names, fontsize=7)
        for row, column in np.argwhere(percent > 0) if named else ():
            colour = "white" if percent[row, column] > 55 else "black"
            text = f"{percent[row, column]:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
        top1 = 100 * np.trace(matrix) / matrix.sum()
        axes.set_title(textwrap.fill(f"{name}: {top1:.1f} %", 34))
    figure.colorbar(image, ax=panel, label="share of the true class (%)", shrink=0.8, pad=0.01)
    return figure


@FIGURES.register("accuracy-over-time")
def accuracy_over_time(request: Request) -> list[Path]:
    """Top-1 accuracy of the logits accumulated up to each time-step."""
    table = request.table(lambda run: accuracy_of(run, request))

    def draw() -> Figure:
        figure, (axes,) = request.panels(1, 5.0, 3.4, "time-steps seen", ACCURACY)
        key(figure, lines(axes, table, "t", "top1"))
        return figure

    return request.publish("accuracy-over-time", draw, table, f"{request.counted}.")


def accuracy_of(run: Trainer, request: Request) -> pd.DataFrame:
    """Columns t from 1, top1 in percent of the mean of the logits of steps 1..t."""
    logits, labels = event_logits(run, request)
    steps = range(1, logits.shape[1] + 1)
    top1 = [accuracy(logits[:, :t].mean(1), labels)[0].item() for t in steps]
    return pd.DataFrame({"t": steps, "top1": top1})
