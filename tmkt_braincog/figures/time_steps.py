"""What happens along the time-steps: alignment of the streams, learned coefficients, accuracy."""

from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from timm.utils import accuracy

from ..engine.train import Trainer
from ..errors import UserError
from ..losses import linear_cka
from ..plots import ACCURACY, key, lines, looks
from .base import COLUMNS, FIGURES, Request, untrained
from .features import event_logits, paired_taps

LEAST = 4  # pairs that debiased CKA is defined for


@FIGURES.register("cka")
def cka(request: Request) -> list[Path]:
    """CKA of event and static features at every time-step, before and after training.

    Linear CKA of the taps (TMKT Eq. 11) over all pairs at once, where training compares the samples
    of
    a batch: the plain estimate is the higher the fewer samples there are, so the debiased one is
    shown
    too. Two images of a class differ, so 1 is not what perfect alignment of the modalities would
    give.

    Raises:
        UserError: fewer than 4 test recordings.
    """
    table = request.table(lambda run: cka_of(run, request))
    about = f"Linear CKA, {request.counted}; dashed: debiased."
    return request.publish("cka", lambda: _draw_cka(request, table), table, about)


def cka_of(run: Trainer, request: Request) -> pd.DataFrame:
    """Columns training (before, after), t from 1, cka, cka_debiased."""
    rows = []
    for when, trainer in (("before", untrained(run)), ("after", run)):
        taps = paired_taps(trainer, request)
        if len(taps.label) < LEAST:
            raise UserError(
                f"CKA of {len(taps.label)} test recordings says nothing: give --samples of at "
                f"least {LEAST}, better 300."
            )
        # one time-step after another: with long features all of them at once would be gigabytes
        steps = zip(taps.event.unbind(1), taps.static.unbind(1), strict=True)
        for t, (event, static) in enumerate(steps, start=1):
            plain, debiased = (linear_cka(event, static, debiased=d).item() for d in (False, True))
            rows.append({"training": when, "t": t, "cka": plain, "cka_debiased": debiased})
    return pd.DataFrame(rows)


DEBIASED = {"linestyle": "--", "markerfacecolor": "white"}


def _draw_cka(request: Request, table: pd.DataFrame) -> Figure:
    figure, panel = request.panels(len(request.names), 2.5, 2.9)
    lowest = min(0, 1.05 * table["cka_debiased"].min())
    for axes, (name, look) in zip(panel, looks(request.names).items(), strict=True):
        for when, color in (("before", "0.5"), ("after", look["color"])):
            one = table[(table["run"] == name) & (table["training"] == when)]
            style = {"color": color, "marker": look["marker"], "markersize": 3.5}
            axes.plot(one["t"], one["cka"], **style)
            axes.plot(one["t"], one["cka_debiased"], **style | DEBIASED)
        axes.set(title=name, xlabel="time-step t", ylim=(lowest, 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in panel[::COLUMNS]:
        axes.set_ylabel("linear CKA")
    whens = {"before training": "0.5", "after, in the method's colour": "black"}
    shown = {when: {"color": color} for when, color in whens.items()}
    dashed = {"debiased": {"color": "black", "marker": "o"} | DEBIASED}
    key(figure, shown | dashed, width=2.5 * min(len(panel), COLUMNS))
    return figure


@FIGURES.register("theta")
def theta(request: Request) -> list[Path]:
    """Learned coefficients sigma(theta_t) over the epochs.

    Runs without them (event-only, ``--no-rda``, ...) are left out, and the caption says so.

    Raises:
        UserError: no run has any.
    """
    found = request.only(lambda run: len(coefficients(run)) > 0)
    without = ", ".join(name for name in request.names if name not in found.names)
    if not found.runs:
        raise UserError(
            f"No run logged coefficients sigma_1 ... sigma_T (seen: {without}). Give a run of tmkt "
            "or baseline with --regularization and with the alignment loss."
        )
    table = found.table(coefficients)
    about = "Weight of the alignment at each time-step" + (
        f" (none: {without})." if without else "."
    )
    return found.publish("theta", lambda: _draw_theta(found, table), table, about)


def coefficients(run: Trainer) -> pd.DataFrame:
    """Columns epoch, t from 1, sigma in (0, 1), from the log; no row where nothing was logged."""
    steps = range(1, run.options.step + 1)
    rows = [
        {"epoch": row["epoch"], "t": t, "sigma": row[f"sigma_{t}"]}
        for row in run.log.rows
        for t in steps
        if f"sigma_{t}" in row
    ]
    return pd.DataFrame(rows)


def _draw_theta(request: Request, table: pd.DataFrame) -> Figure:
    names, steps = request.names, int(table["t"].to_numpy().max())
    figure, panel = request.panels(len(names), max(2.7, 5.0 / len(names)), 2.9)
    # viridis less its yellow end, which vanishes on white paper
    shade = ListedColormap(sns.color_palette("viridis", as_cmap=True)(np.linspace(0, 0.9, steps)))
    for axes, name in zip(panel, names, strict=True):
        for i, (_, one) in enumerate(table[table["run"] == name].groupby("t")):
            marker = "." if len(one) < 5 else ""
            axes.plot(one["epoch"], one["sigma"], color=shade(i), linewidth=1.2, marker=marker)
        axes.set(title=name, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.ticklabel_format(axis="y", useOffset=False)
    for axes in panel[::COLUMNS]:
        axes.set_ylabel("$\\sigma(\\theta_t)$")
    scale = ScalarMappable(Normalize(0.5, steps + 0.5), shade)
    ticks = MaxNLocator(nbins=10, integer=True)
    figure.colorbar(scale, ax=panel, label="time-step t", pad=0.02, ticks=ticks).minorticks_off()
    return figure


@FIGURES.register("accuracy-over-time")
def accuracy_over_time(request: Request) -> list[Path]:
    """Top-1 accuracy of the logits accumulated up to each time-step."""
    table = request.table(lambda run: accuracy_of(run, request))

    def draw() -> Figure:
        figure = request.canvas(5.0, 3.4)
        axes = figure.subplots()
        key(figure, lines(axes, table, "t", "top1"))
        axes.set(xlabel="time-steps seen", ylabel=ACCURACY)
        return figure

    return request.publish("accuracy-over-time", draw, table, f"{request.counted}.")


def accuracy_of(run: Trainer, request: Request) -> pd.DataFrame:
    """Columns t from 1, top1 in percent of the mean of the logits of steps 1..t; at T it is the
    run's accuracy."""
    logits, labels = event_logits(run, request)
    steps = range(1, logits.shape[1] + 1)
    top1 = [accuracy(logits[:, :t].mean(1), labels)[0].item() for t in steps]
    return pd.DataFrame({"t": steps, "top1": top1})
