"""What happens along the time-steps: alignment of the streams, learned coefficients, accuracy."""

from pathlib import Path

import pandas as pd
import seaborn as sns
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
DEBIASED = {"linestyle": "--", "markerfacecolor": "white"}


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
    found = request.only(lambda run: len(coefficients(run)) > 0)
    without = ", ".join(name for name in request.names if name not in found.names)
    if not found.runs:
        raise UserError(
            f"No run logged coefficients sigma_1 ... sigma_T (seen: {without}). Give a run of tmkt "
            "or baseline with --regularization and with the alignment loss."
        )
    table, none = found.table(coefficients), f" (none: {without})" if without else ""
    about = f"Weight of the alignment at each time-step{none}."
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
    for axes, name in zip(panel, request.names, strict=True):
        one, last = table[table["run"] == name], axes is panel[-1]
        marker = "." if one["epoch"].nunique() < 5 else ""
        sns.lineplot(one, ax=axes, marker=marker, legend="brief" if last else False, **style)
        axes.set_title(name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.ticklabel_format(axis="y", useOffset=False)
    sns.move_legend(panel[-1], "center left", bbox_to_anchor=(1, 0.5), title="time-step t")
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
