"""t-SNE of event and static features, and how far the two modalities are aligned in numbers."""

from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..engine.train import Trainer
from ..plots import COLOURS, key
from .base import FIGURES, Request, bare
from .features import PairedTaps, paired_taps

FOLDS = 5  # of the cross-validation, so also the fewest recordings
NAMED = 10  # most classes whose colours can be told apart in a legend
LOOKS = {
    "event": {"color": COLOURS[0], "marker": "o", "linestyle": ""},
    "static": {"color": COLOURS[1], "marker": "X", "linestyle": ""},
}


@FIGURES.register("tsne")
def tsne(request: Request) -> list[Path]:
    """t-SNE of event and static features, by class and by modality, and alignment in numbers.

    The features are the taps, averaged over time-steps as the logits are, of both modalities in one
    embedding per run. ``tsne-numbers.csv`` is :func:`alignment` of the features.
    """
    taps = {run: paired_taps(run, request, FOLDS) for run in request.runs}
    points = request.table(lambda run: _embedded(run, taps[run], request.seed))
    numbers = request.table(lambda run: pd.DataFrame([alignment(taps[run], request.seed)]))
    about = (
        f"{request.counted} and as many static images of their classes. Of the features, not of "
        "the picture: how often the modality is told (50 % is chance), and the recordings whose "
        "nearest image is of their class."
    )
    tables = {"tsne": points, "tsne-numbers": numbers}
    return request.publish("tsne", lambda: _draw(request, points, numbers), tables, about)


def _embedded(run: Trainer, taps: PairedTaps, seed: int) -> pd.DataFrame:
    x, y = embed(torch.cat([taps.event.mean(1), taps.static.mean(1)]).numpy(), seed).T
    classes = taps.label.repeat(2).numpy()
    columns = {
        "modality": np.repeat(list(LOOKS), len(taps.label)),
        "index": np.concatenate([taps.recordings, taps.images]),
        "class": classes,
        "class_name": [run.data.classes[c] for c in classes],
    }
    return pd.DataFrame({**columns, "x": x, "y": y})


def embed(features: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE (van der Maaten & Hinton, 2008) of ``[n, D]`` in the plane: ``[n, 2]``."""
    # scikit-learn crashes on the principal components of features that are all equal (no spikes)
    init = "pca" if np.ptp(features, axis=0).any() else "random"
    perplexity = min(30, (len(features) - 1) / 3)
    return TSNE(perplexity=perplexity, init=init, random_state=seed).fit_transform(features)


def alignment(taps: PairedTaps, seed: int) -> dict[str, float]:
    """What "aligned" means, in numbers, of the taps averaged over time-steps.

    - ``modality_accuracy``: percent of features whose modality a logistic regression tells, 5-fold;
      50 is chance. Copies of an image stay in one fold.
    - ``nearest_static``: percent of recordings whose nearest static image is of their class.
    """
    event, static = taps.event.mean(1).numpy(), taps.static.mean(1).numpy()
    features, label = np.concatenate([event, static]), taps.label.numpy()
    modality = np.repeat([0, 1], len(label))
    # no recording comes twice, so each is a group of its own beside those of the images
    groups = np.concatenate([-1 - np.arange(len(label)), taps.images])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    told = cross_val_score(classifier, features, modality, groups=groups, cv=folds)
    nearest = KNeighborsClassifier(1).fit(static, label)
    return {
        "pairs": len(label),
        "modality_accuracy": 100 * float(told.mean()),
        "nearest_static": 100 * float(nearest.score(event, label)),
    }


def _draw(request: Request, points: pd.DataFrame, numbers: pd.DataFrame) -> Figure:
    width = max(2.5 * len(numbers), 4.5)
    figure = request.canvas(width, 5.9)
    grid = figure.subplots(2, len(numbers), squeeze=False)
    names = points.sort_values("class")["class_name"].unique()
    palette = sns.color_palette("tab10" if len(names) <= NAMED else "turbo", len(names))
    colour = dict(zip(names, palette, strict=True))
    marks = {modality: look["marker"] for modality, look in LOOKS.items()}
    hues = {"class_name": colour, "modality": {m: look["color"] for m, look in LOOKS.items()}}
    for column, (_, row) in zip(grid.T, numbers.iterrows(), strict=True):
        of_run = points[points["run"] == row["run"]]
        look = {"x": "x", "y": "y", "style": "modality", "markers": marks, "s": 9, "linewidth": 0}
        for axes, (hue, its) in zip(column, hues.items(), strict=True):
            sns.scatterplot(of_run, ax=axes, hue=hue, palette=its, legend=False, **look)
            bare(axes)
            axes.set_ylabel(f"by {hue.removesuffix('_name')}" if axes in grid[:, 0] else "")
        told, nearest = f"{row['modality_accuracy']:.0f} %", f"{row['nearest_static']:.0f} %"
        column[0].set(title=row["run"], xlabel=f"nearest image of own class: {nearest}")
        column[1].set_xlabel(f"modality told: {told}")
    # squares, since the colours of modalities are among those of classes
    square = {"marker": "s", "linestyle": ""}
    of_class = {name: square | {"color": colour[name]} for name in names if len(names) <= NAMED}
    key(figure, LOOKS | of_class, width)
    return figure
