"""What the modality-aware heads of TMKT know of held-out mixed sequences, and which mixtures they were trained on.

Mixed sequences are made as in training, by the run's own strategy, from test recordings and static images of their class. Schedules
that move with training (sliding, dynamic) are taken at points spread evenly over it, so that the mixtures are those of training.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ..data import TSMDataset
from ..data.pairs import Pair
from ..data.sampling import epoch_batches
from ..engine.train import Trainer
from ..errors import UserError
from ..mixing import Mixed, Progress, TimeStepMixup, geometric_pmf, truncated_pmf
from ..plots import COLOURS, _figure, _look
from .features import (
    BATCH,
    COLUMNS,
    collect,
    counted,
    folded,
    held_out_pairs,
    panels,
    publish,
    run_names,
    setting,
)
from .figures import FIGURES, Request

MOST_DRAWS = 100_000  # of t*, per run
Look = Callable[[Mixed, Tensor, Pair], Sequence[Tensor]]


@FIGURES.register("mag")
def mag(request: Request) -> list[Path]:
    """Accuracy of the MAG head at every time-step of held-out mixed sequences.

    Dashed: always saying the modality that is more frequent at that time-step.

    Raises:
        UserError: no run has the head.
    """
    names, runs = having(request, "mag")
    table = pd.concat(
        [mag_of(run, request).assign(run=name) for name, run in zip(names, runs, strict=True)]
    )
    table = table[["run", "t", "sequences", "accuracy", "majority"]]
    title = f"MAG head on mixed sequences, {counted(runs[0], request)}; {setting(runs[0])}"
    return publish(request.folder, "mag", partial(_draw_mag, table, names, title), points=table)


def mag_of(run: Trainer, request: Request) -> pd.DataFrame:
    """Columns t from 1, sequences, and in percent accuracy and majority."""

    def look(mixed: Mixed, spikes: Tensor, batch: Pair) -> Sequence[Tensor]:
        return run.method.mag(spikes).argmax(-1).transpose(0, 1), mixed.y_s

    said, true = through_training(run, request, look)
    share = true.double().mean(0)
    return pd.DataFrame(
        {
            "t": range(1, true.shape[1] + 1),
            "sequences": len(true),
            "accuracy": 100 * (said == true).double().mean(0).numpy(),
            "majority": 100 * share.maximum(1 - share).numpy(),
        }
    )


@FIGURES.register("mrp")
def mrp(request: Request) -> list[Path]:
    """Mixup ratio that the MRP head perceives in held-out mixed sequences, against the true one.

    ``mrp-error.csv`` has the mean absolute error, and that of always saying the median ratio.

    Raises:
        UserError: no run has the head.
    """
    names, runs = having(request, "mrp")
    table = pd.concat(
        [mrp_of(run, request).assign(run=name) for name, run in zip(names, runs, strict=True)]
    )
    table = table[["run", "recording", "true", "predicted"]]
    error = pd.DataFrame([{"run": name, **errors(table[table["run"] == name])} for name in names])
    title = f"MRP head on mixed sequences, {counted(runs[0], request)}; {setting(runs[0])}"
    return publish(
        request.folder, "mrp", partial(_draw_mrp, table, error, title), points=table, error=error
    )


def mrp_of(run: Trainer, request: Request) -> pd.DataFrame:
    """Columns recording (file name), true (t* - 1) / T, predicted; one row per sequence."""

    def look(mixed: Mixed, spikes: Tensor, batch: Pair) -> Sequence[Tensor]:
        return batch.index, mixed.y_m, run.method.mrp(spikes).mean(0)

    index, true, predicted = through_training(run, request, look)
    return pd.DataFrame(
        {
            "recording": [run.data.names[i] for i in index],
            "true": true.numpy(),
            "predicted": predicted.numpy(),
        }
    )


def errors(table: pd.DataFrame) -> dict[str, float]:
    """Number of sequences, mean absolute error, and the error of the best constant, the median ratio."""
    true = table["true"]
    return {
        "sequences": len(table),
        "mae": (table["predicted"] - true).abs().mean(),
        "mae_median": (true.median() - true).abs().mean(),
    }


@FIGURES.register("t-star")
def t_star(request: Request) -> list[Path]:
    """Where the events take over: t* as the run draws it over its training, against the law it should follow.

    t* = T+1: no event frame at all. The law is drawn for TSM; the other strategies have none that does not move.

    Raises:
        UserError: no run mixes.
    """
    names, runs = having(request, "mixing")
    table = pd.concat(
        [t_star_of(run).assign(run=name) for name, run in zip(names, runs, strict=True)]
    )
    table = table[["run", "t_star", "count", "share", "law"]]
    title = f"First event frame t*, as drawn in training; {setting(runs[0])}"
    return publish(
        request.folder, "t-star", partial(_draw_t_star, table, names, title), points=table
    )


def t_star_of(run: Trainer) -> pd.DataFrame:
    """Columns t_star in 1..T+1, count, share, law (its probability; NaN where there is no law)."""
    T, mixing = run.options.step, run.method.mixing
    drawn = torch.cat(
        [T + 1 - mixing.event_frames(draws, progress) for draws, progress in training_draws(run)]
    )
    count = torch.bincount(drawn, minlength=T + 2)[1:].numpy()
    law = np.full(T + 1, np.nan)
    if isinstance(mixing, TimeStepMixup):
        truncated = mixing.law == "truncated"
        law = np.append(truncated_pmf(mixing.p, T), 0) if truncated else geometric_pmf(mixing.p, T)
    return pd.DataFrame(
        {"t_star": range(1, T + 2), "count": count, "share": count / count.sum(), "law": law}
    )


def training_draws(run: Trainer) -> Iterator[tuple[Tensor, Progress]]:
    """Uniform numbers ``[B, T]`` and :class:`Progress` of the run's own training batches, at most 100,000 samples or one epoch.

    Long trainings are thinned by epochs. Draws follow from seed, epoch and index alone, so that frames of one pixel do.
    """
    o, data = run.options, run.data
    pairs = TSMDataset(
        torch.zeros(len(data.labels), o.step, 2, 1, 1),
        data.labels,
        torch.zeros(len(data.image_labels), 1, 1),
        data.image_labels,
        recordings=run.split.train,
        pools=run.split.pools,
        seed=run.seed,
    )
    labels = data.labels[run.split.train].numpy()
    every = min(o.epochs, -(-o.epochs * (o.epoch_size or len(labels)) // MOST_DRAWS))
    for epoch in range(every // 2, o.epochs, every):
        pairs.set_epoch(epoch)
        batches = epoch_batches(labels, o.batch_size, o.epoch_size, o.sampling, run.seed, epoch)
        for i, batch in enumerate(batches):
            yield pairs[batch].draws, Progress(epoch, o.epochs, i, len(batches))


def having(request: Request, part: str) -> tuple[list[str], list[Trainer]]:
    """Names and runs whose method has this part (``mag``, ``mrp``, ``mixing``).

    Raises:
        UserError: none has.
    """
    names = run_names(request.runs)
    found = [i for i, run in enumerate(request.runs) if getattr(run.method, part, None) is not None]
    if not found:
        wanted = {
            "mag": "no MAG head: give a run of tmkt made without --no-mag",
            "mrp": "no MRP head: give a run of tmkt made without --no-mrp",
            "mixing": "no mixed stream: give a run of tmkt or baseline",
        }
        raise UserError(f"These runs have {wanted[part]} (seen: {', '.join(names)}).")
    return [names[i] for i in found], [request.runs[i] for i in found]


def through_training(run: Trainer, request: Request, look: Look) -> tuple[Tensor, ...]:
    """:func:`~.features.collect` of ``look(mixed, spikes, batch)`` on mixed test pairs.

    ``spikes`` is F_t of the mixed stream, ``[T, B, F]``. The progress goes evenly from start to end of training.
    """
    pairs = held_out_pairs(run, request)
    n, total = -(-len(pairs) // BATCH), run.options.epochs * run.steps
    middles = iter([(2 * i + 1) * total // (2 * n) for i in range(n)])

    def mixed_look(batch: Pair) -> Sequence[Tensor]:
        epoch, step = divmod(next(middles), run.steps)
        mixed = run.method.mixing(batch, Progress(epoch, run.options.epochs, step, run.steps))
        return look(mixed, run.model(batch.events, mixed.frames).static.spikes, batch)

    return collect(run, pairs, mixed_look)


def _draw_mag(table: pd.DataFrame, names: list[str], title: str) -> Figure:
    figure = _figure(5.0, 3.4, title)
    axes = figure.subplots()
    for i, name in enumerate(names):
        one, look = table[table["run"] == name], _look(i)
        axes.plot(one["t"], one["accuracy"], markersize=4, label=name, **look)
        axes.plot(one["t"], one["majority"], color=look["color"], linestyle="--")
    axes.plot([], [], color="0.35", linestyle="--", label="always the more frequent modality")
    axes.set(
        xlabel="time-step t",
        ylabel="accuracy (%)",
        ylim=(min(45, table["accuracy"].min() - 2), 102),
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _draw_mrp(table: pd.DataFrame, error: pd.DataFrame, title: str) -> Figure:
    figure, panel = panels(len(error), 3.9 if len(error) == 1 else 3.0, 3.4, title)
    for axes, (_, row) in zip(panel, error.iterrows(), strict=True):
        of_run = table[table["run"] == row["run"]]
        ratios = sorted(of_run["true"].unique())
        axes.axline((0, 0), slope=1, color="0.6", linewidth=0.8, zorder=1)
        axes.boxplot(
            [of_run.loc[of_run["true"] == r, "predicted"] for r in ratios],
            positions=ratios,
            widths=0.04,
            manage_ticks=False,
            patch_artist=True,
            boxprops={"facecolor": "white", "edgecolor": COLOURS[0]},
            whiskerprops={"color": COLOURS[0]},
            capprops={"color": COLOURS[0]},
            medianprops={"color": COLOURS[1]},
            flierprops={"marker": ".", "markersize": 3, "markeredgecolor": "0.4"},
        )
        axes.set_title(
            f"{folded(row['run'])}: MAE {row['mae']:.3f}\n(always the median: {row['mae_median']:.3f})"
        )
        axes.set(xlabel="true ratio (t* - 1) / T", xlim=(-0.06, 1.06))
    for axes in panel[::COLUMNS]:
        axes.set_ylabel("perceived ratio")
    return figure


def _draw_t_star(table: pd.DataFrame, names: list[str], title: str) -> Figure:
    figure, panel = panels(len(names), max(3.0, 5.0 / len(names)), 2.9, title)
    last = table["t_star"].max()
    for axes, name in zip(panel, names, strict=True):
        one = table[table["run"] == name]
        event_share = (one["share"] * (last - one["t_star"])).sum() / (last - 1)
        axes.bar(one["t_star"], one["share"], width=0.7, color=COLOURS[4], label="drawn")
        if one["law"].notna().all():
            marks = {"linestyle": "", "marker": "_", "markersize": 9, "color": "black"}
            axes.plot(one["t_star"], one["law"], label="law of TSM", **marks)
        axes.set_title(f"{folded(name)}: event frames {100 * event_share:.1f} %")
        axes.set(xlabel="t*", xlim=(0.3, last + 0.7))
        ticks = range(1, last - 1, 2) if last > 9 else range(1, last)  # room for the word
        axes.set_xticks([*ticks, last], [*map(str, ticks), "none"])
    for axes in panel[::COLUMNS]:
        axes.set_ylabel("share of samples")
    entries = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in panel]
    named = {label: handle for of_panel in entries for handle, label in of_panel}
    labels = sorted(named)
    figure.legend([named[label] for label in labels], labels, loc="outside lower center", ncols=2)
    return figure
