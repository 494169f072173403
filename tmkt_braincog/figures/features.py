"""What trained networks make of test recordings beside static images of their classes; t-SNE of both.

Every figure here looks at the same things: test recordings that the network never trained on, each with an image of its class
out of those that the run may train on (``Split.static``: under the clean protocol no twin of a test recording is among them, so
that the two show different objects of one class). The recordings and the images follow from :attr:`Request.seed` alone, so that
methods with the same split are compared on the same pairs.
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ..data import TSMDataset
from ..data.base import NO_TWIN
from ..data.pairs import Pair
from ..engine.train import Trainer
from ..errors import UserError
from ..files import replacing
from ..options import model_text
from ..plots import COLOURS, _figure, save
from .figures import FIGURES, Request

BATCH = 32
FOLDS = 5  # of the cross-validation, so also the fewest recordings
MODALITIES = ("event", "static")
COLUMNS = 3
NAMED_CLASSES = 10  # with more, colours cannot be told apart and get no legend


def held_out_pairs(run: Trainer, request: Request) -> TSMDataset:
    """At most ``request.samples`` test recordings in random order, each with a static image of its class.

    The images of a class are all different as long as it has enough; ``twins`` holds their indices. Frames are not augmented.

    Raises:
        UserError: a class without images.
    """
    rng = np.random.default_rng(request.seed)
    recordings = rng.permutation(run.split.test)[: request.samples]
    labels = run.data.labels.numpy()
    # by their own class: under he2024 the pools of some data sets hold images of others
    pools = run.data.pools(run.split.static)
    partners = np.full(len(labels), NO_TWIN)
    for c in np.unique(labels[recordings]):
        members = recordings[labels[recordings] == c]
        partners[members] = np.resize(rng.permutation(pools[c]), len(members))
    return TSMDataset(
        run.data.frames,
        run.data.labels,
        run.data.images,
        run.data.image_labels,
        recordings=recordings,
        pools=pools,
        size=run.options.event_size,
        seed=request.seed,
        pairing="twin",
        twins=partners,
    )


@torch.inference_mode()
def collect(
    run: Trainer, pairs: TSMDataset, look: Callable[[Pair], Sequence[Tensor]]
) -> tuple[Tensor, ...]:
    """``look(batch)``, tensors ``[B, ...]``, for all pairs in batches: tensors ``[R, ...]`` in host memory.

    Runs on the run's device and in its precision, with model and heads in evaluation mode; their mode is restored.
    """
    modules = [run.model, run.method]
    modes = [m.training for m in modules]
    for module in modules:
        module.eval()
    try:
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.amp):
            seen = [
                [
                    value.cpu()
                    for value in look(
                        pairs[range(start, min(start + BATCH, len(pairs)))].to(run.device)
                    )
                ]
                for start in range(0, len(pairs), BATCH)
            ]
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.train(mode)
    return tuple(torch.cat(values) for values in zip(*seen, strict=True))


def event_logits(run: Trainer, request: Request) -> tuple[Tensor, Tensor]:
    """Logits ``[R, T, N]`` of test recordings at every time-step, and their labels ``[R]``."""

    def look(batch: Pair) -> Sequence[Tensor]:
        return run.model(batch.events).event.logits.transpose(0, 1), batch.label

    return collect(run, held_out_pairs(run, request), look)


@dataclass(frozen=True)
class PairedTaps:
    """Domain features of test recordings and of their static partners.

    Attributes:
        event, static: ``[R, T, D]`` float32, row for row of the same class.
        label: ``[R]`` int64.
        recordings, images: ``[R]``, indices into the run's data.
    """

    event: Tensor
    static: Tensor
    label: Tensor
    recordings: np.ndarray
    images: np.ndarray


def paired_taps(run: Trainer, request: Request) -> PairedTaps:
    """Taps V[t] of both streams, the static one showing the unmixed image at every time-step."""
    pairs = held_out_pairs(run, request)

    def look(batch: Pair) -> Sequence[Tensor]:
        still = batch.static.unsqueeze(1).expand_as(batch.events)
        out = run.model(batch.events, still)
        return out.event.tap.transpose(0, 1), out.static.tap.transpose(0, 1), batch.label

    return PairedTaps(*collect(run, pairs, look), pairs.recordings, pairs.twins[pairs.recordings])


def run_names(runs: Sequence[Trainer]) -> list[str]:
    """The shortest names that tell the runs apart: method, method and seed, or folder."""
    choices = (
        [run.name for run in runs],
        [f"{run.name}, seed {run.seed}" for run in runs],
        [run.folder.parent.parent.name for run in runs],
        [f"{run.folder.parent.parent.name}, seed {run.seed}" for run in runs],
        [str(run.folder) for run in runs],
    )
    return next((names for names in choices if len(set(names)) == len(names)), choices[-1])


def folded(name: str) -> str:
    """A long name on several lines, as the title of a panel."""
    return textwrap.fill(name, 34)


def setting(run: Trainer) -> str:
    """Data set, model and T, for titles; the spaces at the sign keep it on one line."""
    emulated = ", emulated events" if run.data.emulated else ""
    return (
        f"{run.data.target}, {model_text(run.options)}, T\u00a0=\u00a0{run.options.step}{emulated}"
    )


def counted(run: Trainer, request: Request) -> str:
    """How many of the test recordings are looked at, in words."""
    total = len(run.split.test)
    part = f"{request.samples} of " if request.samples < total else ""
    return f"{part}{total} test recordings"


def panels(
    n: int, width: float, height: float, title: str, sharey: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure with ``n`` panels of width x height inches, at most :data:`COLUMNS` to a row."""
    columns = min(n, COLUMNS)
    rows = -(-n // columns)
    figure = _figure(columns * width, rows * height, title)
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
    for spare in axes[n:]:
        spare.set_axis_off()
    return figure, axes[:n]


def publish(
    folder: Path, name: str, draw: Callable[[], Figure], **tables: pd.DataFrame
) -> list[Path]:
    """Write the picture as PNG and PDF and every table as ``<name>-<table>.csv`` (``points``: ``<name>.csv``)."""
    written = [folder / f"{name}.png", folder / f"{name}.pdf"]
    for path in written:
        save(draw, path)
    for table, rows in tables.items():
        path = folder / (f"{name}.csv" if table == "points" else f"{name}-{table}.csv")
        with replacing(path) as temporary:
            rows.to_csv(temporary, index=False, float_format="%.6g")
        written.append(path)
    return written


@FIGURES.register("tsne")
def tsne(request: Request) -> list[Path]:
    """t-SNE of event and static features, by class and by modality, and how far they are aligned in numbers.

    The features are the taps, averaged over time-steps as the logits are; both modalities are in one embedding, one per run.
    ``tsne-numbers.csv`` is computed from the features, not from the picture; see :func:`alignment`.

    Raises:
        UserError: fewer than 5 test recordings.
    """
    names = run_names(request.runs)
    points, numbers = [], []
    for name, run in zip(names, request.runs, strict=True):
        taps = paired_taps(run, request)
        if len(taps.label) < FOLDS:
            raise UserError(
                f"t-SNE of {len(taps.label)} test recordings shows nothing: give --samples of at least {FOLDS}, better 300."
            )
        features = torch.cat([taps.event.mean(1), taps.static.mean(1)]).numpy()
        classes = taps.label.repeat(2).numpy()
        modality = np.repeat(MODALITIES, len(taps.label))
        x, y = embed(features, request.seed).T
        index = np.concatenate([taps.recordings, taps.images])
        points.append(
            pd.DataFrame(
                {
                    "run": name,
                    "modality": modality,
                    "index": index,
                    "class": classes,
                    "x": x,
                    "y": y,
                }
            )
        )
        numbers.append({"run": name, "pairs": len(taps.label), **alignment(taps, request.seed)})
    table = pd.concat(points)
    table.insert(4, "class_name", [request.runs[0].data.classes[c] for c in table["class"]])
    title = f"Features of {counted(request.runs[0], request)} and as many static images; {setting(request.runs[0])}"
    numbers = pd.DataFrame(numbers)
    return publish(
        request.folder, "tsne", partial(_draw, table, numbers, title), points=table, numbers=numbers
    )


def embed(features: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE (van der Maaten & Hinton, 2008) of ``[n, D]`` in the plane: ``[n, 2]``."""
    # scikit-learn crashes on the principal components of features that are all equal, as those of a silent network are
    init = "pca" if np.ptp(features, axis=0).any() else "random"
    return TSNE(
        perplexity=min(30, (len(features) - 1) / 3), init=init, random_state=seed
    ).fit_transform(features)


def alignment(taps: PairedTaps, seed: int) -> dict[str, float]:
    """What "aligned" means, in numbers, of the taps averaged over time-steps.

    - ``silhouette_class``, ``silhouette_modality``: in [-1, 1], Euclidean, over both modalities. Aligned features have the
      first high and the second at 0 or below.
    - ``modality_accuracy``: percent of features whose modality a logistic regression tells, 5-fold; 50 is chance. Copies of an
      image stay in one fold.
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
        "silhouette_class": float(silhouette_score(features, np.tile(label, 2))),
        "silhouette_modality": float(silhouette_score(features, modality)),
        "modality_accuracy": 100 * float(told.mean()),
        "nearest_static": 100 * float(nearest.score(event, label)),
    }


def _draw(points: pd.DataFrame, numbers: pd.DataFrame, title: str) -> Figure:
    names = list(numbers["run"])
    figure = _figure(max(2.5 * len(names), 4.5), 5.9, title)
    grid = figure.subplots(2, len(names), squeeze=False)
    classes = sorted(points["class"].unique())
    for (by_class, by_modality), (_, row) in zip(grid.T, numbers.iterrows(), strict=True):
        of_run = points[points["run"] == row["run"]]
        for modality, marker, size, colour in zip(
            MODALITIES, "ox", (7, 9), COLOURS[:2], strict=True
        ):
            one = of_run[of_run["modality"] == modality]
            look = {"s": size, "marker": marker, "linewidths": 0 if marker == "o" else 0.6}
            by_class.scatter(
                one["x"], one["y"], color=_class_colours(one["class"], classes), **look
            )
            by_modality.scatter(one["x"], one["y"], color=colour, alpha=0.8, **look)
        by_class.set_title(folded(row["run"]))
        by_class.set_xlabel(f"silhouette by class {row['silhouette_class']:.2f}")
        by_modality.set_xlabel(
            f"silhouette by modality {row['silhouette_modality']:.2f}\n"
            f"modality told: {row['modality_accuracy']:.0f} %\n"
            f"nearest image of own class: {row['nearest_static']:.0f} %"
        )
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color("0.8")
    grid[0, 0].set_ylabel("by class")
    grid[1, 0].set_ylabel("by modality")
    figure.legend(
        handles=_key(points, classes),
        loc="outside lower center",
        ncols=6,
        columnspacing=1.2,
        handletextpad=0.3,
    )
    return figure


def _class_colours(of: Sequence[int], classes: Sequence[int]) -> np.ndarray:
    place = np.searchsorted(classes, of)
    if len(classes) <= NAMED_CLASSES:
        return matplotlib.colormaps["tab10"](place)
    return matplotlib.colormaps["turbo"](place / len(classes))


def _key(points: pd.DataFrame, classes: Sequence[int]) -> list[Line2D]:
    key = [
        Line2D([], [], linestyle="", markersize=4, color=colour, marker=marker, label=what)
        for what, marker, colour in zip(
            ("test recording", "static image"), "ox", COLOURS[:2], strict=True
        )
    ]
    if (
        len(classes) <= NAMED_CLASSES
    ):  # squares, since the colours of modalities are among those of classes
        named = points.drop_duplicates("class").set_index("class")["class_name"]
        colours = _class_colours(classes, classes)
        key += [
            Line2D([], [], linestyle="", markersize=5, color=colour, marker="s", label=named[c])
            for c, colour in zip(classes, colours, strict=True)
        ]
    return key
