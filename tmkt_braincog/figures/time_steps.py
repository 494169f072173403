"""What happens along the time-steps: alignment of the streams, learned coefficients, accuracy."""

from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from timm.utils import accuracy

from ..engine.train import Trainer
from ..errors import UserError
from ..losses import linear_cka
from ..plots import ACCURACY, COLOURS, _figure, _look
from .features import (
    COLUMNS,
    counted,
    event_logits,
    folded,
    paired_taps,
    panels,
    publish,
    run_names,
    setting,
)
from .figures import FIGURES, Request

LEAST = 4  # pairs that debiased CKA is defined for


@FIGURES.register("cka")
def cka(request: Request) -> list[Path]:
    """CKA of event and static features at every time-step, before and after training.

    Linear CKA of the taps (TMKT Eq. 11) over all pairs at once, where training compares the samples of a batch: the plain
    estimate is the higher the fewer samples there are, so the debiased one is shown too. Two images of a class differ, so that
    1 is not what perfect alignment of the modalities would give.

    Raises:
        UserError: fewer than 4 test recordings.
    """
    names = run_names(request.runs)
    table = pd.concat(
        [
            cka_of(run, request).assign(run=name)
            for name, run in zip(names, request.runs, strict=True)
        ]
    )
    table = table[["run", "training", "t", "cka", "cka_debiased"]]
    first = request.runs[0]
    title = f"CKA of event and static features, {counted(first, request)}; {setting(first)}"
    return publish(request.folder, "cka", partial(_draw_cka, table, names, title), points=table)


def cka_of(run: Trainer, request: Request) -> pd.DataFrame:
    """Columns training (before, after), t from 1, cka, cka_debiased."""
    rows = []
    for when, trainer in (("before", untrained(run)), ("after", run)):
        taps = paired_taps(trainer, request)
        if len(taps.label) < LEAST:
            raise UserError(
                f"CKA of {len(taps.label)} test recordings says nothing: give --samples of at least {LEAST}, better 300."
            )
        # one time-step after another: with long features all of them at once would be gigabytes
        for t, (event, static) in enumerate(
            zip(taps.event.unbind(1), taps.static.unbind(1), strict=True), start=1
        ):
            plain, debiased = (linear_cka(event, static, debiased=d).item() for d in (False, True))
            rows.append({"training": when, "t": t, "cka": plain, "cka_debiased": debiased})
    return pd.DataFrame(rows)


def untrained(run: Trainer) -> Trainer:
    """The same run with the initial weights of its seed (``reopen(..., checkpoint=None)`` on data that are loaded)."""
    trainer = Trainer(run.options, run.data, run.split, run.folder, run.device)
    trainer.model.executor = run.model.executor
    return trainer


def _draw_cka(table: pd.DataFrame, names: list[str], title: str) -> Figure:
    figure, panel = panels(len(names), 2.5, 2.9, title)
    lowest = min(0, 1.05 * table["cka_debiased"].min())
    for axes, name in zip(panel, names, strict=True):
        for when, colour, marker in (("before", "0.5", "s"), ("after", COLOURS[0], "o")):
            one = table[(table["run"] == name) & (table["training"] == when)]
            look = {"color": colour, "marker": marker, "markersize": 3.5}
            axes.plot(one["t"], one["cka"], label=f"{when} training", **look)
            look |= {"linestyle": "--", "markerfacecolor": "white"}
            axes.plot(one["t"], one["cka_debiased"], label=f"{when}, debiased", **look)
        axes.set(title=folded(name), xlabel="time-step t", ylim=(lowest, 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in panel[::COLUMNS]:
        axes.set_ylabel("linear CKA")
    columns = 2 if len(names) < COLUMNS else 4
    figure.legend(*panel[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns)
    return figure


@FIGURES.register("theta")
def theta(request: Request) -> list[Path]:
    """Learned coefficients sigma(theta_t) over the epochs.

    Runs without them (event-only, ``--no-rda``, ...) are left out, and the title says so.

    Raises:
        UserError: no run has any.
    """
    tables, without = [], []
    for name, run in zip(run_names(request.runs), request.runs, strict=True):
        rows = coefficients(run)
        if len(rows):
            tables.append(rows.assign(run=name))
        else:
            without.append(name)
    if not tables:
        raise UserError(
            f"No run logged coefficients sigma_1 ... sigma_T (seen: {', '.join(without)}). Give a run of tmkt or baseline "
            "with --regularization and with the alignment loss."
        )
    table = pd.concat(tables)[["run", "epoch", "t", "sigma"]]
    note = f" (none: {', '.join(without)})" if without else ""
    title = f"Weight of the alignment, $\\sigma(\\theta_t)${note}; {setting(request.runs[0])}"
    return publish(request.folder, "theta", partial(_draw_theta, table, title), points=table)


def coefficients(run: Trainer) -> pd.DataFrame:
    """Columns epoch, t from 1, sigma in (0, 1), from the log; no row where nothing was logged."""
    return pd.DataFrame(
        [
            {"epoch": row["epoch"], "t": t, "sigma": row[f"sigma_{t}"]}
            for row in run.log.rows
            for t in range(1, run.options.step + 1)
            if f"sigma_{t}" in row
        ]
    )


def _draw_theta(table: pd.DataFrame, title: str) -> Figure:
    names, steps = list(table["run"].unique()), table["t"].max()
    figure, panel = panels(len(names), max(2.7, 5.0 / len(names)), 2.9, title)
    # viridis less its yellow end, which vanishes on white paper
    shade = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.9, steps)))
    scale = ScalarMappable(Normalize(0.5, steps + 0.5), shade)
    for axes, name in zip(panel, names, strict=True):
        for t, one in table[table["run"] == name].groupby("t"):
            marker = "." if len(one) < 5 else ""
            axes.plot(one["epoch"], one["sigma"], color=shade(t - 1), linewidth=1.2, marker=marker)
        axes.set(title=folded(name), xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.ticklabel_format(axis="y", useOffset=False)
    for axes in panel[::COLUMNS]:
        axes.set_ylabel("$\\sigma(\\theta_t)$")
    bar = figure.colorbar(scale, ax=panel, label="time-step t", pad=0.02)
    bar.locator = MaxNLocator(nbins=10, integer=True)
    bar.minorticks_off()
    bar.update_ticks()
    return figure


@FIGURES.register("accuracy-over-time")
def accuracy_over_time(request: Request) -> list[Path]:
    """Top-1 accuracy of the logits accumulated up to each time-step."""
    names = run_names(request.runs)
    table = pd.concat(
        [
            accuracy_of(run, request).assign(run=name)
            for name, run in zip(names, request.runs, strict=True)
        ]
    )[["run", "t", "top1"]]
    first = request.runs[0]
    title = f"{counted(first, request)}; {setting(first)}"
    return publish(
        request.folder,
        "accuracy-over-time",
        partial(_draw_accuracy, table, names, title),
        points=table,
    )


def accuracy_of(run: Trainer, request: Request) -> pd.DataFrame:
    """Columns t from 1, top1 in percent of the mean of the logits of steps 1..t; at T it is the run's accuracy."""
    logits, labels = event_logits(run, request)
    steps = range(1, logits.shape[1] + 1)
    return pd.DataFrame(
        [{"t": t, "top1": accuracy(logits[:, :t].mean(1), labels)[0].item()} for t in steps]
    )


def _draw_accuracy(table: pd.DataFrame, names: list[str], title: str) -> Figure:
    figure = _figure(5.0, 3.4, title)
    axes = figure.subplots()
    for i, name in enumerate(names):
        one = table[table["run"] == name]
        axes.plot(one["t"], one["top1"], markersize=4, label=name, **_look(i))
    axes.set(xlabel="time-steps seen", ylabel=ACCURACY)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(loc="outside lower center", ncols=min(3, len(names)))
    return figure
