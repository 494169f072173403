"""Curves of a group of runs over epochs: accuracy, losses, and the learned coefficients."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..errors import UserError
from ..plots import COLOURS, _look, canvas, common, save
from .groups import Group

# Columns of log.csv that are no losses.
NOT_LOSSES = ("epoch", "lr", "train_s")
LABELS = {
    "test_top1": "top-1 on test recordings (%)",
    "val_top1": "top-1 on validation recordings (%)",
    "loss": "loss (weighted sum)",
    "sigma": "sigma(theta_t), mean over t",
    "sigma_t": "sigma(theta_t), latest epoch",
}
SIZE = (5.0, 3.4)  # inches
FOLD = 18  # letters of a label in a line of the legend
FEW = 20  # points, up to which each is marked

Logs = dict[str, list[pd.DataFrame]]


def draw_curves(group: Group, folder: Path, prefix: str) -> Iterator[tuple[Path, str]]:
    """Draw what the logs hold; the pictures' paths and captions. A label has the same colour in all of them.

    Args:
        folder: where they go.
        prefix: of the file names.
    """
    every = list(group.runs)
    for start in range(0, len(every), len(COLOURS)):
        labels = every[start : start + len(COLOURS)]
        part = f" (part {start // len(COLOURS) + 1})" if len(every) > len(COLOURS) else ""
        logs = {label: [_with_sigma(run.log) for run in group.runs[label]] for label in labels}
        last = {label: [_sigma_by_step(log) for log in some] for label, some in logs.items()}
        for name, x, its in [
            *((name, "epoch", logs) for name in _columns(logs)),
            ("sigma_t", "time-step t", last),
        ]:
            path = folder / f"{prefix}{name}{part[2:-1].replace('part ', '-')}.png"
            if _plot(its, path, x, name):
                yield path, LABELS.get(name, name) + part


def _columns(logs: Logs) -> list[str]:
    """What is drawn over epochs: accuracy, losses, sigma."""
    names = dict.fromkeys(name for some in logs.values() for log in some for name in log.columns)
    losses = [
        n for n in names if not n.startswith(("test_", "val_", "sigma")) and n not in NOT_LOSSES
    ]
    return [n for n in ("test_top1", "val_top1", *losses, "sigma") if n in names]


def _plot(logs: Logs, path: Path, x: str, y: str) -> bool:
    """Whether there was anything to draw. Runs that have not logged `y` are left out."""
    curves = {}
    for i, (label, some) in enumerate(logs.items()):
        holding = [log for log in some if y in log and log[y].notna().any()]
        try:
            curves[i, f"{label} ({len(holding)})"] = common(label, holding, x, y).groupby(x)[y].agg(["mean", "std"])
        except UserError:  # none, or they have no epoch in common yet
            continue
    if curves:
        save(lambda: _draw(curves, x, LABELS.get(y, y)), path)
    return bool(curves)


def _draw(curves: dict[tuple[int, str], pd.DataFrame], x: str, y: str) -> Figure:
    """Mean and shaded std; keys are the place among the colours and the label."""
    figure = canvas(*SIZE)
    axes = figure.subplots()
    for (i, label), curve in curves.items():
        look = _look(i) | ({} if len(curve) <= FEW else {"marker": ""})
        axes.plot(
            curve.index, curve["mean"], markersize=4, label=textwrap.fill(label, FOLD), **look
        )
        low, high = curve["mean"] - curve["std"], curve["mean"] + curve["std"]
        axes.fill_between(curve.index, low, high, color=look["color"], alpha=0.18, linewidth=0)
    axes.set(xlabel=x, ylabel=y)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.ticklabel_format(axis="y", useOffset=False)
    figure.legend(loc="outside lower center", ncols=min(3, len(curves)))
    return figure


def _sigmas(log: pd.DataFrame) -> pd.DataFrame:
    return log[[c for c in log.columns if c.startswith("sigma_")]]


def _with_sigma(log: pd.DataFrame) -> pd.DataFrame:
    sigmas = _sigmas(log)
    return log if sigmas.empty else log.assign(sigma=sigmas.mean(axis=1))


def _sigma_by_step(log: pd.DataFrame) -> pd.DataFrame:
    sigmas = _sigmas(log)
    steps = [int(c.removeprefix("sigma_")) for c in sigmas.columns]
    return pd.DataFrame(
        {"time-step t": steps, "sigma_t": [] if sigmas.empty else sigmas.iloc[-1].to_numpy()}
    )
