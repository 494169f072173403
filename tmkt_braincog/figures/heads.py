"""What the heads say: of test recordings the event head, MAG and MRP of mixed sequences; and t*.

Mixed sequences are made by the run's own strategy from test recordings and static images of their
class. Schedules that move with training are taken at points spread evenly over it.
"""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.metrics import confusion_matrix
from timm.utils import accuracy
from torch import Tensor

from ..data import Pair
from ..engine.train import Trainer
from ..mixing import Mixed, Progress, TimeStepMixup, geometric_pmf, truncated_pmf
from ..plots import ACCURACY, COLOURS, GREY, key, lines, looks
from .base import COLUMNS, FIGURES, Request, bare
from .features import BATCH, collect, event_logits, held_out_pairs

NUMBERED = 20  # most classes with numbers in the cells and names at the ticks
MOST_DRAWS = 100_000  # of t*, per run
WANTED = {
    "mag": "no MAG head: give a run of tmkt made without --no-mag",
    "mrp": "no MRP head: give a run of tmkt made without --no-mrp",
    "mixing": "no mixed stream: give a run of tmkt or baseline",
}


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
        return pd.DataFrame(columns | {"count": counts[run][at], "share": shares(counts[run])[at]})

    table, matrices = request.table(cells), list(counts.values())
    about = f"{request.counted}; above each matrix the accuracy."
    draw = partial(_draw_confusion, request, matrices, classes)
    return request.publish("confusion", draw, table, about)


def counts_of(run: Trainer, request: Request) -> np.ndarray:
    """``[N, N]`` int64: recordings of class i that the mean logits take for class j."""
    logits, labels = event_logits(run, request)
    return confusion_matrix(labels, logits.mean(1).argmax(1), labels=range(logits.shape[-1]))


def shares(counts: np.ndarray) -> np.ndarray:
    """Every row over its sum; NaN where a class has no recording."""
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(axis=1, keepdims=True)


def _draw_confusion(
    request: Request, counts: Sequence[np.ndarray], classes: Sequence[str]
) -> Figure:
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


def having(request: Request, part: str) -> Request:
    """Of the runs those whose method has this part: ``mag``, ``mrp`` or ``mixing``."""
    none = f"These runs have {WANTED[part]} (seen: {{}})."
    return request.only(lambda run: getattr(run.method, part, None) is not None, none)


@FIGURES.register("mag")
def mag(request: Request) -> list[Path]:
    """Accuracy of the MAG head at every time-step of held-out mixed sequences."""
    request = having(request, "mag")
    table = request.table(lambda run: mag_of(run, request))
    about = f"{request.counted}. Dashed: always the modality that is the more frequent then."
    return request.publish("mag", lambda: _draw_mag(request, table), table, about)


def mag_of(run: Trainer, request: Request) -> pd.DataFrame:
    """Columns t from 1, sequences, and in percent accuracy and majority."""
    mag_head = cast(Any, run.method).mag

    def look(mixed: Mixed, spikes: Tensor, batch: Pair) -> Sequence[Tensor]:
        return mag_head(spikes).argmax(-1).transpose(0, 1), mixed.y_s

    said, true = through_training(run, request, look)
    share = true.double().mean(0)
    columns = {
        "t": range(1, true.shape[1] + 1),
        "sequences": len(true),
        "accuracy": 100 * (said == true).double().mean(0).numpy(),
        "majority": 100 * share.maximum(1 - share).numpy(),
    }
    return pd.DataFrame(columns)


def _draw_mag(request: Request, table: pd.DataFrame) -> Figure:
    figure, (axes,) = request.panels(1, 5.0, 3.4, "time-step t", "modality told (%)")
    found = lines(axes, table, "t", "accuracy")
    for name, one in table.groupby("run"):
        axes.plot(one["t"], one["majority"], color=found[str(name)]["color"], linestyle="--")
    dashed = Line2D([], [], color=GREY, linestyle="--", label="always the more frequent modality")
    key(figure, found, more=[dashed])
    return figure


@FIGURES.register("mrp")
def mrp(request: Request) -> list[Path]:
    """Mixup ratio that the MRP head perceives in held-out mixed sequences, against the true one.

    ``mrp-error.csv`` has the mean absolute error, and that of always saying the median ratio.
    """
    request = having(request, "mrp")
    table = request.table(lambda run: mrp_of(run, request))
    error = table.groupby("run", sort=False)[["true", "predicted"]].apply(errors).reset_index()
    draw, tables = lambda: _draw_mrp(request, table, error), {"mrp": table, "mrp-error": error}
    about = f"{request.counted}; MAE: mean absolute error, and that of always saying the median."
    return request.publish("mrp", draw, tables, about)


def mrp_of(run: Trainer, request: Request) -> pd.DataFrame:
    """Columns recording (file name), true (t* - 1) / T, predicted; one row per sequence."""
    method: Any = run.method

    def look(mixed: Mixed, spikes: Tensor, batch: Pair) -> Sequence[Tensor]:
        return batch.index, mixed.y_m, method.mrp(spikes).mean(0)

    index, true, predicted = through_training(run, request, look)
    names = [run.data.names[i] for i in index]
    columns = {"recording": names, "true": true.numpy(), "predicted": predicted.numpy()}
    return pd.DataFrame(columns)


def errors(table: pd.DataFrame) -> pd.Series:
    """Number of sequences, mean absolute error, and that of the best constant, the median ratio."""
    true, predicted = table["true"], table["predicted"]
    mae, of_median = (predicted - true).abs().mean(), (true.median() - true).abs().mean()
    return pd.Series({"sequences": len(table), "mae": mae, "mae_median": of_median})


def _draw_mrp(request: Request, table: pd.DataFrame, error: pd.DataFrame) -> Figure:
    x, y, found = "true ratio (t* - 1) / T", "perceived ratio", looks(request.names)
    figure, panel = request.panels(len(error), max(3.0, 3.9 / len(error)), 3.4, x, y)
    style = {"x": "true", "y": "predicted", "native_scale": True, "fill": False, "fliersize": 2}
    for axes, (_, row) in zip(panel, error.iterrows(), strict=True):
        axes.axline((0, 0), slope=1, color="0.6", linewidth=0.8, zorder=1)
        of_run = table[table["run"] == row["run"]]
        sns.boxplot(of_run, ax=axes, color=found[row["run"]]["color"], width=0.5, **style)
        axes.set_title(f"{row['run']}\nMAE {row['mae']:.3f} (median: {row['mae_median']:.3f})")
    return figure


@FIGURES.register("t-star")
def t_star(request: Request) -> list[Path]:
    """Where the events take over: t* as the run draws it over its training, against its law.

    t* = T+1: no event frame at all. The law is drawn for TSM; that of the others moves.
    """
    request = having(request, "mixing")
    table = request.table(t_star_of)
    about = "First event frame t* as drawn in training; above each panel the share of event frames."
    return request.publish("t-star", lambda: _draw_t_star(request, table), table, about)


def t_star_of(run: Trainer) -> pd.DataFrame:
    """Columns t_star in 1..T+1, count, share, law (its probability; NaN where there is no law)."""
    T, method = run.options.step, cast(Any, run.method)
    mixing = method.mixing
    drawn = [T + 1 - mixing.event_frames(*where) for where in training_draws(run)]
    count = torch.bincount(torch.cat(drawn), minlength=T + 2)[1:].numpy()
    law = np.full(T + 1, np.nan)
    if isinstance(mixing, TimeStepMixup):
        truncated = mixing.law == "truncated"
        law = np.append(truncated_pmf(mixing.p, T), 0) if truncated else geometric_pmf(mixing.p, T)
    columns = {"t_star": range(1, T + 2), "count": count, "share": count / count.sum(), "law": law}
    return pd.DataFrame(columns)


def training_draws(run: Trainer) -> Iterator[tuple[Tensor, Progress]]:
    """Uniform numbers ``[B, T]`` and progress of the training batches, thinned by epochs."""
    o = run.options
    every = min(o.epochs, -(-o.epochs * (o.epoch_size or len(run.pairs)) // MOST_DRAWS))
    for epoch in range(every // 2, o.epochs, every):
        for n, batch in enumerate(run.batches(epoch)):
            keys = [(run.seed, epoch, i) for i in batch]  # as of TSMDataset
            draws = np.stack([np.random.default_rng(key).random(o.step) for key in keys])
            yield torch.from_numpy(draws), Progress(epoch, o.epochs, n, run.steps)


def _draw_t_star(request: Request, table: pd.DataFrame) -> Figure:
    n, last = len(request.names), int(table["t_star"].max())
    figure, panel = request.panels(n, max(3.0, 5.0 / n), 2.9, "t*", "share of samples")
    for axes, (name, one) in zip(panel, table.groupby("run", sort=False), strict=True):
        share = (one["share"] * (last - one["t_star"])).sum() / (last - 1)
        axes.bar(one["t_star"], one["share"], width=0.7, color=COLOURS[4], label="drawn")
        axes.plot(one["t_star"], one["law"], "k_", markersize=9, label="law of TSM")
        axes.set_title(f"{name}\nevent frames {100 * share:.1f} %")
        ticks = range(1, last - 1, 2) if last > 9 else range(1, last)  # room for the word
        axes.set_xticks([*ticks, last], [*map(str, ticks), "none"])
    figure.legend(*panel[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def through_training(
    run: Trainer, request: Request, look: Callable[[Mixed, Tensor, Pair], Sequence[Tensor]]
) -> tuple[Tensor, ...]:
    """:func:`~.features.collect` of ``look(mixed, spikes, batch)`` on mixed test pairs.

    ``spikes`` is F_t of the mixed stream, ``[T, B, F]``. The progress goes evenly through training.
    """
    pairs, method = held_out_pairs(run, request), cast(Any, run.method)
    n, total = -(-len(pairs) // BATCH), run.options.epochs * run.steps
    middles = iter([(2 * i + 1) * total // (2 * n) for i in range(n)])

    def mixed_look(batch: Pair) -> Sequence[Tensor]:
        epoch, step = divmod(next(middles), run.steps)
        mixed = method.mixing(batch, Progress(epoch, run.options.epochs, step, run.steps))
        return look(mixed, run.model(batch.events, mixed.frames).static.spikes, batch)

    return collect(run, pairs, mixed_look)
