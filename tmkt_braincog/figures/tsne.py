"""t-SNE of event and static features, and how far the two modalities are aligned in numbers."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..engine.train import Trainer
from ..errors import UserError
from ..plots import COLOURS
from .base import FIGURES, Request, bare
from .features import PairedTaps, paired_taps

FOLDS = 5  # of the cross-validation, so also the fewest recordings
NAMED_CLASSES = 10  # with more, colours cannot be told apart and get no legend
# Modality: its name in the legend, marker, size and colour.
SHOWN = {
    "event": ("test recording", "o", 7, COLOURS[0]),
    "static": ("static image", "x", 9, COLOURS[1]),
}


@FIGURES.register("tsne")
def tsne(request: Request) -> list[Path]:
    """t-SNE of event and static features, by class and by modality, and how far they are aligned in
    numbers.

    The features are the taps, averaged over time-steps as the logits are; both modalities are in
    one
    embedding, one per run. ``tsne-numbers.csv`` is computed from the features, see
    :func:`alignment`.

    Raises:
        UserError: fewer than 5 test recordings.
    """
    taps = {run: paired_taps(run, request) for run in request.runs}
    for found in taps.values():
        if len(found.label) < FOLDS:
            raise UserError(
                f"t-SNE of {len(found.label)} test recordings shows nothing: give --samples of at "
                f"least {FOLDS}, better 300."
            )
    points = request.table(lambda run: _embedded(run, taps[run], request.seed))
    numbers = request.table(lambda run: pd.DataFrame([alignment(taps[run], request.seed)]))
    return request.publish(
        "tsne",
        lambda: _draw(request, points, numbers),
        {"tsne": points, "tsne-numbers": numbers},
        f"{request.counted} and as many static images of their classes; numbers from the features, "
        "not from the picture: silhouettes, how often the modality is told (50 % is chance), and "
        "the recordings whose nearest image is of their class.",
    )


def _embedded(run: Trainer, taps: PairedTaps, seed: int) -> pd.DataFrame:
    classes = taps.label.repeat(2).numpy()
    x, y = embed(torch.cat([taps.event.mean(1), taps.static.mean(1)]).numpy(), seed).T
    columns = {
        "modality": np.repeat(list(SHOWN), len(taps.label)),
        "index": np.concatenate([taps.recordings, taps.images]),
        "class": classes,
        "class_name": [run.data.classes[c] for c in classes],
    }
    return pd.DataFrame({**columns, "x": x, "y": y})


def embed(features: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE (van der Maaten & Hinton, 2008) of ``[n, D]`` in the plane: ``[n, 2]``."""
    # scikit-learn crashes on the principal components of features that are all equal (a silent
    # network)
    init = "pca" if np.ptp(features, axis=0).any() else "random"
    perplexity = min(30, (len(features) - 1) / 3)
    return TSNE(perplexity=perplexity, init=init, random_state=seed).fit_transform(features)


def alignment(taps: PairedTaps, seed: int) -> dict[str, float]:
    """What "aligned" means, in numbers, of the taps averaged over time-steps.

    - ``silhouette_class``, ``silhouette_modality``: in [-1, 1], Euclidean, over both modalities.
      Aligned features have the first high and the second at 0 or below.
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
        "silhouette_class": float(silhouette_score(features, np.tile(label, 2))),
        "silhouette_modality": float(silhouette_score(features, modality)),
        "modality_accuracy": 100 * float(told.mean()),
        "nearest_static": 100 * float(nearest.score(event, label)),
    }


def _draw(request: Request, points: pd.DataFrame, numbers: pd.DataFrame) -> Figure:
    figure = request.canvas(max(2.5 * len(numbers), 4.5), 5.9)
    grid = figure.subplots(2, len(numbers), squeeze=False)
    classes = points.drop_duplicates("class").set_index("class")["class_name"].sort_index()
    named = len(classes) <= NAMED_CLASSES
    shades = matplotlib.colormaps["tab10" if named else "turbo"]
    colour = {c: shades(i if named else i / len(classes)) for i, c in enumerate(classes.index)}
    for (by_class, by_modality), (_, row) in zip(grid.T, numbers.iterrows(), strict=True):
        of_run = points[points["run"] == row["run"]]
        for modality, (_, marker, size, own) in SHOWN.items():
            one = of_run[of_run["modality"] == modality]
            look = {"s": size, "marker": marker, "linewidths": 0 if marker == "o" else 0.6}
            by_class.scatter(one["x"], one["y"], color=[colour[c] for c in one["class"]], **look)
            by_modality.scatter(one["x"], one["y"], color=own, alpha=0.8, **look)
        by_class.set_title(row["run"], wrap=True)
        by_class.set_xlabel(f"silhouette by class {row['silhouette_class']:.2f}")
        by_modality.set_xlabel(
            f"silhouette by modality {row['silhouette_modality']:.2f}\n"
            f"modality told: {row['modality_accuracy']:.0f} %\n"
            f"nearest image of own class: {row['nearest_static']:.0f} %"
        )
    for axes in grid.flat:
        bare(axes)
    grid[0, 0].set_ylabel("by class")
    grid[1, 0].set_ylabel("by modality")
    dots: list[tuple] = [(what, own, marker) for what, marker, _, own in SHOWN.values()]
    # squares, since the colours of modalities are among those of classes
    dots += [(classes[c], colour[c], "s") for c in classes.index if named]
    key = [Line2D([], [], ls="", markersize=4, color=c, marker=m, label=n) for n, c, m in dots]
    figure.legend(handles=key, loc="outside lower center", ncols=6, columnspacing=1.2)
    return figure
