"""How far the streams are aligned: CKA and its coefficients by time-step, t-SNE, and in numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..engine.train import Trainer
from ..losses import linear_cka
from ..plots import COLOURS, key, looks
from .base import COLUMNS, FIGURES, Request, bare, untrained
from .features import PairedTaps, paired_taps

LEAST = 4  # pairs that debiased CKA is defined for
DEBIASED = {"linestyle": "--", "markerfacecolor": "white"}
FOLDS = 5  # of the cross-validation, so also the fewest recordings
NAMED = 10  # most classes whose colours can be told apart in a legend
LOOKS: dict[str, Any] = {
    "event": {"color": COLOURS[0], "marker": "o", "linestyle": ""},
    "static": {"color": COLOURS[1], "marker": "X", "linestyle": ""},
}


@FIGURES.register("cka")
def cka(request: Request) -> list[Path]:
    """CKA of event and static features at every time-step, before and after training.

    Linear CKA of the taps (TMKT Eq. 11) over all pairs at once, where training compares the samples
    of a batch: the plain estimate is the higher the fewer samples there are, so the debiased one is
    shown too. Two images of a class differ, so 1 is not what perfect alignment would give.
    """
    table = request.table(lambda run: cka_of(run, request))
    about = f"Linear CKA, {request.counted}; dashed: debiased."
    return request.publish("cka", lambda: _draw_cka(request, table), table, about)


def cka_of(run: Trainer, request: Request) -> pd.DataFrame:
    """Columns training (before, after), t from 1, cka, cka_debiased."""
    rows = []
    for when, trainer in (("before", untrained(run)), ("after", run)):
        taps = paired_taps(trainer, request, LEAST)
        # one time-step after another: with long features all of them at once would be gigabytes
        steps = zip(taps.event.unbind(1), taps.static.unbind(1), strict=True)
        for t, (event, static) in enumerate(steps, start=1):
            plain, debiased = (linear_cka(event, static, debiased=d).item() for d in (False, True))
            rows.append({"training": when, "t": t, "cka": plain, "cka_debiased": debiased})
    return pd.DataFrame(rows)


def _draw_cka(request: Request, table: pd.DataFrame) -> Figure:
    n = len(request.names)
    figure, panel = request.panels(n, 2.5, 2.9, "time-step t", "linear CKA")
    for axes, (name, look) in zip(panel, looks(request.names).items(), strict=True):
        for when, color in (("before", "0.5"), ("after", look["color"])):
            one = table[(table["run"] == name) & (table["training"] == when)]
            style = look | {"color": color, "markersize": 3.5}
            axes.plot(one["t"], one["cka"], **style)
            axes.plot(one["t"], one["cka_debiased"], **style | DEBIASED)
        axes.set(title=name, ylim=(min(0, 1.05 * table["cka_debiased"].min()), 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    shown = {"before training": {"color": "0.5"}, "after (coloured)": {"color": "black"}}
    shown["debiased"] = {"color": "black", "marker": "o"} | DEBIASED
    key(figure, shown, width=2.5 * min(n, COLUMNS))
    return figure


@FIGURES.register("theta")
def theta(request: Request) -> list[Path]:
    """Learned coefficients sigma(theta_t) over the epochs; runs without them are left out."""
    none = (
        "No run logged coefficients sigma_1 ... sigma_T (seen: {}). Give a run of tmkt or baseline "
        "with --regularization and with the alignment loss."
    )
    found = request.only(lambda run: len(coefficients(run)) > 0, none)
    without = ", ".join(name for name in request.names if name not in found.names)
    table, about = found.table(coefficients), "Weight of the alignment at each time-step"
    about += f" (none: {without})." if without else "."
    return found.publish("theta", lambda: _draw_theta(found, table), table, about)


def coefficients(run: Trainer) -> pd.DataFrame:
    """Columns epoch, t from 1, sigma in (0, 1), from the log; no row where nothing was logged."""
    steps = range(1, run.options.step + 1)
    wide = pd.DataFrame(run.log.rows, columns=["epoch", *(f"sigma_{t}" for t in steps)])
    log = wide.set_axis(["epoch", *steps], axis=1).melt("epoch", var_name="t", value_name="sigma")
    return log.dropna().sort_values(["epoch", "t"])


def _draw_theta(request: Request, table: pd.DataFrame) -> Figure:
    n = len(request.names)
    figure, panel = request.panels(n, max(2.7, 5.0 / n), 2.9, "epoch", r"$\sigma(\theta_t)$")
    style = {"x": "epoch", "y": "sigma", "hue": "t", "palette": "flare", "estimator": None}
    for axes, (name, one) in zip(panel, table.groupby("run", sort=False), strict=True):
        marker = "." if one["epoch"].nunique() < 5 else ""
        legend = "brief" if axes is panel[-1] else False
        sns.lineplot(one, ax=axes, marker=marker, legend=legend, **style)
        axes.set_title(str(name))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.ticklabel_format(axis="y", useOffset=False)
    sns.move_legend(panel[-1], "center left", bbox_to_anchor=(1, 0.5), title="time-step t")
    return figure


@FIGURES.register("tsne")
def tsne(request: Request) -> list[Path]:
    """t-SNE of event and static features, by class and by modality, and :func:`alignment`.

    The features are the taps, averaged over time-steps as the logits are, of both modalities in one
    embedding per run.
    """
    taps = {run: paired_taps(run, request, FOLDS) for run in request.runs}
    points = request.table(lambda run: _embedded(run, taps[run]))
    numbers = request.table(lambda run: pd.DataFrame([alignment(taps[run])]))
    about = (
        f"{request.counted} and as many static images of their classes. Of the features, not of "
        "the picture: how often the modality is told (50 % is chance), and the recordings whose "
        "nearest image is of their class."
    )
    tables = {"tsne": points, "tsne-numbers": numbers}
    return request.publish("tsne", lambda: _draw_tsne(request, points, numbers), tables, about)


def _embedded(run: Trainer, taps: PairedTaps) -> pd.DataFrame:
    x, y = embed(torch.cat([taps.event.mean(1), taps.static.mean(1)]).numpy()).T
    classes = taps.label.repeat(2).numpy()
    columns = {
        "modality": np.repeat(list(LOOKS), len(taps.label)),
        "index": np.concatenate([taps.recordings, taps.images]),
        "class": classes,
        "class_name": np.array(run.data.classes)[classes],
    }
    return pd.DataFrame({**columns, "x": x, "y": y})


def embed(features: np.ndarray) -> np.ndarray:
    """t-SNE (van der Maaten & Hinton, 2008) of ``[n, D]`` in the plane: ``[n, 2]``."""
    # scikit-learn crashes on the principal components of features that are all equal (no spikes)
    init = "pca" if np.ptp(features, axis=0).any() else "random"
    perplexity = min(30, (len(features) - 1) / 3)
    return TSNE(perplexity=perplexity, init=init, random_state=0).fit_transform(features)


def alignment(taps: PairedTaps) -> dict[str, float]:
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
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    told = cross_val_score(classifier, features, modality, groups=groups, cv=folds)
    nearest = KNeighborsClassifier(1).fit(static, label)
    return {
        "pairs": len(label),
        "modality_accuracy": 100 * float(told.mean()),
        "nearest_static": 100 * float(nearest.score(event, label)),
    }


def _draw_tsne(request: Request, points: pd.DataFrame, numbers: pd.DataFrame) -> Figure:
    width = max(2.5 * len(numbers), 4.5)
    figure = request.canvas(width, 5.9)
    grid = figure.subplots(2, len(numbers), squeeze=False)
    names = points.sort_values("class")["class_name"].unique()
    palette = sns.color_palette("tab10" if len(names) <= NAMED else "turbo", len(names))
    colour = dict(zip(names, palette, strict=True))
    for (top, below), (_, row) in zip(grid.T, numbers.iterrows(), strict=True):
        of_run = points[points["run"] == row["run"]]
        for modality, look in LOOKS.items():
            one = of_run[of_run["modality"] == modality]
            dots = {"marker": look["marker"], "s": 9, "linewidths": 0}
            top.scatter(one["x"], one["y"], c=one["class_name"].map(colour), **dots)
            below.scatter(one["x"], one["y"], color=look["color"], **dots)
        told, nearest = f"{row['modality_accuracy']:.0f} %", f"{row['nearest_static']:.0f} %"
        top.set(title=row["run"], xlabel=f"nearest image of own class: {nearest}")
        below.set_xlabel(f"modality told: {told}")
    for axes in grid.flat:
        bare(axes)
    grid[0, 0].set_ylabel("by class")
    grid[1, 0].set_ylabel("by modality")
    # squares, since the colours of modalities are among those of classes
    square = {"marker": "s", "linestyle": ""}
    of_class = {name: square | {"color": colour[name]} for name in names if len(names) <= NAMED}
    key(figure, LOOKS | of_class, width)
    return figure
