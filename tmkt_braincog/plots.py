"""Figures for a paper: methods compared over seeds, curves over epochs, accuracy over shots.

The figures are drawn on a Figure of their own and never through pyplot, so importing this module
neither selects a backend nor needs a display. The suffix of the path gives the format (png, pdf,
svg). Accuracies are top-1 in percent (0 to 100) and spreads are sample standard deviations.
"""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator
from pandas.api.types import is_numeric_dtype

from .errors import UserError
from .files import replacing

DPI = 200
ACCURACY = "top-1 accuracy (%)"

# Okabe and Ito's colours, without the yellow that vanishes on white paper. Markers differ as well,
# for print in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")

STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "figure.titlesize": 10,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "0.92",
    "legend.frameon": False,
    "pdf.fonttype": 42,  # publishers refuse Type 3 fonts
    "svg.fonttype": "none",
}


def plot_comparison(df: pd.DataFrame, path: str | Path, title: str = "") -> None:
    """Every seed, and mean with std, of each method: best epoch to the left, last to the right.

    Args:
        df: a checked table of :mod:`.table` (columns method, seed, top1_best, top1_last).
        path: the picture to write; its folder is made if absent.
        title: printed above the panels.

    Raises:
        UserError: a column is missing or not numeric, there is no row, a seed occurs twice in a
            method, or the suffix of `path` is unknown.
    """
    _require(df, ("method", "seed", "top1_best", "top1_last"), "the comparison plot")
    methods = list(df["method"].unique())
    save(lambda: _comparison(df, methods, title), path)


def plot_curves(
    runs: dict[str, list[pd.DataFrame]],
    path: str | Path,
    x: str = "epoch",
    y: str = "top1",
    xlabel: str | None = None,
    ylabel: str | None = None,
    title: str = "",
) -> None:
    """Mean over seeds of `y` against `x` with a shaded std, one line per method.

    Of each method only those `x` are drawn that all its seeds have reached: past the end of the
    shortest run the mean would jump merely because fewer seeds enter it.

    Args:
        runs: method -> one log per seed, each with columns `x` and `y`.
        path: the picture to write; its folder is made if absent.
        xlabel, ylabel: axis labels; by default the column names (top1: top-1 accuracy in percent).

    Raises:
        UserError: no runs, a missing or non-numeric column, an `x` logged twice in one run, no
            common `x`, or an unknown suffix of `path`.
    """
    if not runs:
        raise UserError(
            "No runs to draw curves from. Expected at least one method with one run's log."
        )
    curves = {method: _curve(method, logs, x, y) for method, logs in runs.items()}
    labels = {m: f"{m} ({_count(len(logs), 'seed')})" for m, logs in runs.items()}
    ylabel = ylabel or (ACCURACY if y == "top1" else y)
    save(lambda: _curves(curves, labels, (xlabel or x, ylabel), title), path)


def plot_shots(df: pd.DataFrame, path: str | Path, title: str = "") -> None:
    """Mean accuracy against the number of shots (log axis), one line per method, bars = std.

    Args:
        df: columns method, seed, shots (training samples per class, > 0), top1 (percent); one row
            per method, seed and shots.
        path: the picture to write; its folder is made if absent.
        title: printed above the axes.

    Raises:
        UserError: a column is missing or not numeric, there is no row, shots are not positive, a row is
            double, or the suffix of `path` is unknown.
    """
    _require(
        df, ("method", "seed", "shots", "top1"), "the shots plot", key=("method", "seed", "shots")
    )
    if not (df["shots"] > 0).all():
        seen = ", ".join(map(str, df["shots"].unique()))
        raise UserError(
            f"Shots must be positive numbers for a log axis, seen: {seen}. Drop other rows."
        )
    save(lambda: _shots(df, list(df["method"].unique()), title), path)


def plot_rows(
    df: pd.DataFrame,
    summary: pd.DataFrame,
    references: Mapping[str, str],
    path: str | Path,
    title: str = "",
) -> None:
    """The rows of a table below each other: every seed with mean and std, and the paired difference to another row.

    References are grey; a line parts rows with different ones.

    Args:
        df: columns method (the row's name), seed, top1_last (percent).
        summary: of it, as from :func:`.table.summarise`, each row with the difference to its reference.
        references: for every row the one that its difference is taken to.
        path: the picture to write; its folder is made if absent.
        title: printed above the panels.

    Raises:
        UserError: a column is missing or not numeric, there is no row, a seed occurs twice in a row, or the suffix of
            `path` is unknown.
    """
    _require(df, ("method", "seed", "top1_last"), "the plot of rows")
    save(lambda: _rows(df, summary.set_index("method"), references, title), path)


def save(draw: Callable[[], Figure], path: str | Path) -> None:
    """Draws and saves under our own style, over defaults that hide a user's matplotlibrc."""
    fmt = Path(path).suffix.lower().lstrip(".")
    if fmt not in ("png", "pdf", "svg"):
        raise UserError(
            f"Cannot write a figure to {str(path)!r}: expected a name in .png, .pdf or .svg."
        )
    with matplotlib.rc_context({**_defaults(), **STYLE}), replacing(path) as temporary:
        draw().savefig(temporary, format=fmt, dpi=DPI)


def _defaults() -> dict:
    """matplotlib's own settings, less the backend, which is the caller's business."""
    return {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")}


def _figure(width: float, height: float, title: str) -> Figure:
    """An empty figure of width x height inches with its title wrapped to the width."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(textwrap.fill(title, int(width * 13)))
    return figure


def _look(index: int) -> dict:
    """Colour and marker of the method at this position."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def _comparison(df: pd.DataFrame, methods: Sequence[str], title: str) -> Figure:
    # a tick label is about an inch wide; panels of many methods go one above the other to fit a page
    rows, columns = (1, 2) if len(methods) <= 3 else (2, 1)
    figure = _figure(max(6.0, 0.8 + 1.15 * columns * len(methods)), 1.2 + 2.3 * rows, title)
    panels = figure.subplots(rows, columns, sharey=True)
    for axes, column in zip(panels, ("top1_best", "top1_last"), strict=True):
        wide = df.pivot(index="seed", columns="method", values=column)[methods]
        _comparison_panel(axes, wide)
        axes.set_title("best epoch" if column == "top1_best" else "last epoch")
    for axes in panels[:rows]:
        axes.set_ylabel(ACCURACY)
    figure.legend(handles=_comparison_key(), loc="outside lower center", ncols=3)
    return figure


def _comparison_panel(axes: Axes, wide: pd.DataFrame) -> None:
    """Seeds left of each tick, mean and std right of it, so that neither hides the other."""
    for _, seed in wide.iterrows():
        held = [i for i, value in enumerate(seed) if pd.notna(value)]
        axes.plot([i - 0.12 for i in held], seed.iloc[held], color="0.8", linewidth=0.8, zorder=1)
    means, stds = wide.mean(), wide.std(ddof=1)
    for i, method in enumerate(wide):
        look = _look(i)
        values = wide[method].dropna()
        axes.scatter(
            [i - 0.12] * len(values), values, s=18, alpha=0.7, linewidths=0, zorder=2, **look
        )
        bar = None if pd.isna(stds[method]) else stds[method]
        axes.errorbar(i + 0.14, means[method], yerr=bar, markersize=6, capsize=4, zorder=3, **look)
    ticks = [f"{_folded(m)}\n{_mean_std(means[m], stds[m])}" for m in wide]
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_xlim(-0.5, len(ticks) - 0.5)
    axes.margins(y=0.08)
    axes.ticklabel_format(axis="y", useOffset=False)


def _rows(
    df: pd.DataFrame, summary: pd.DataFrame, references: Mapping[str, str], title: str
) -> Figure:
    names = list(summary.index)
    figure = _figure(7.0, 1.3 + 0.34 * len(names), title)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.15, 1))
    for axes in (left, right):
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
    for y, name in enumerate(names):
        row, is_reference = summary.loc[name], name in references.values()
        look = {"color": "0.35" if is_reference else COLOURS[0], "marker": "o"}
        values = df.loc[df["method"] == name, "top1_last"]
        left.scatter(values, [y + 0.16] * len(values), s=12, alpha=0.55, linewidths=0, **look)
        bar = None if pd.isna(row["last_std"]) else row["last_std"]
        left.errorbar(row["last_mean"], y - 0.12, xerr=bar, markersize=5, capsize=3, **look)
        if pd.notna(row["last_low"]):
            ends = [[row["last_diff"] - row["last_low"]], [row["last_high"] - row["last_diff"]]]
            right.errorbar(row["last_diff"], y, xerr=ends, markersize=5, capsize=3, **look)
        elif pd.notna(row["last_diff"]):
            right.plot(row["last_diff"], y, markersize=5, **look)
        if y and references[name] != references[names[y - 1]]:
            for axes in (left, right):
                axes.axhline(y - 0.5, color="0.8", linewidth=0.8)
    right.axvline(0, color="0.35", linewidth=0.9)
    left.set_yticks(range(len(names)), [textwrap.fill(name, 30) for name in names])
    left.set_ylim(len(names) - 0.5, -0.5)
    left.set_xlabel(f"{ACCURACY}, last epoch\nsmall: seeds; large: mean ± std")
    reference = "the grey row" if len(set(references.values())) > 1 else references[names[0]]
    right.set_xlabel(f"difference to {reference} (points)\npaired over seeds, 95 % interval")
    return figure


def _folded(name: str) -> str:
    """A long method name on several lines, so that neighbouring tick labels stay apart."""
    return textwrap.fill(name, 14)


def _comparison_key() -> list[Line2D]:
    """Legend in grey, since the colours are named below the axes."""
    grey = "0.35"
    return [
        Line2D(
            [], [], color=grey, alpha=0.7, marker="o", linestyle="", markersize=4, label="one seed"
        ),
        Line2D([], [], color="0.8", linewidth=0.8, label="same seed"),
        Line2D(
            [],
            [],
            color=grey,
            marker="o",
            markersize=6,
            linestyle="",
            label="mean ± std over seeds",
        ),
    ]


def _curves(
    curves: dict[str, pd.DataFrame], labels: dict[str, str], axis_labels: tuple, title: str
) -> Figure:
    figure = _figure(5.0, 3.4, title)
    axes = figure.subplots()
    for i, (method, curve) in enumerate(curves.items()):
        look = _look(i)
        # a run of one or two logged epochs would be invisible as a bare line
        marker = look["marker"] if len(curve) <= 20 else ""
        color = look["color"]
        axes.plot(
            curve.index,
            curve["mean"],
            color=color,
            marker=marker,
            markersize=4,
            label=labels[method],
        )
        low, high = curve["mean"] - curve["std"], curve["mean"] + curve["std"]
        axes.fill_between(curve.index, low, high, color=color, alpha=0.18, linewidth=0)
    axes.set(xlabel=axis_labels[0], ylabel=axis_labels[1])
    whole = all((curve.index % 1 == 0).all() for curve in curves.values())
    axes.xaxis.set_major_locator(MaxNLocator(integer=whole, min_n_ticks=1))
    axes.ticklabel_format(axis="y", useOffset=False)
    # A column of the legend takes about 0.065 inch per letter and 0.6 for its line.
    columns = int(5.0 / (0.6 + 0.065 * max(map(len, labels.values()))))
    figure.legend(loc="outside lower center", ncols=max(1, min(3, columns, len(curves))))
    return figure


def _curve(method: str, logs: list[pd.DataFrame], x: str, y: str) -> pd.DataFrame:
    """Mean and std (NaN for one seed) of `y`, indexed by the `x` that all logs hold."""
    if not logs:
        raise UserError(
            f"Method {method!r} has no runs. Expected one log per seed; drop the method otherwise."
        )
    for log in logs:
        _require(log, (x, y), f"the curve of method {method!r}", key=(x,))
    wide = (
        pd.concat([log.set_index(x)[y] for log in logs], axis=1, join="inner").dropna().sort_index()
    )
    if wide.empty:
        raise UserError(
            f"The runs of method {method!r} share no {x}. Compare runs logged at the same {x}."
        )
    return pd.DataFrame({"mean": wide.mean(axis=1), "std": wide.std(axis=1, ddof=1)})


def _shots(df: pd.DataFrame, methods: Sequence[str], title: str) -> Figure:
    figure = _figure(5.0, 3.6, title)
    axes = figure.subplots()
    shots = sorted(df["shots"].unique())
    step = _offset(shots, len(methods))
    margin = 1.25 * step ** (len(methods) / 2)
    for i, method in enumerate(methods):
        groups = df[df["method"] == method].groupby("shots")["top1"]
        mean, std = groups.mean(), groups.std(ddof=1)  # std of one seed: NaN, no bar
        centred = i - (len(methods) - 1) / 2
        moved = mean.index * step**centred
        axes.errorbar(moved, mean, yerr=std, label=method, markersize=4, capsize=2, **_look(i))
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(shots, [f"{s:g}" for s in shots])
    axes.set_xlim(shots[0] / margin, shots[-1] * margin)
    axes.set(xlabel="shots (training samples per class)", ylabel=ACCURACY)
    figure.legend(loc="outside lower center", ncols=min(4, len(methods)))
    return figure


def _offset(shots: Sequence[float], methods: int) -> float:
    """Factor between the bars of neighbouring methods at one tick of the log axis.

    Just enough to part the bars, 1.3 % of the axis: more would make a steep line look lower than
    it is. Where ticks are dense, all bars of one tick share at most 0.6 of the gap to the next.
    """
    apart = (1.6 * shots[-1] / shots[0]) ** 0.013
    gaps = [right / left for left, right in pairwise(shots)]
    return min([apart, *(gap ** (0.6 / methods) for gap in gaps)])


def _require(
    df: pd.DataFrame, columns: Iterable[str], what: str, key: Iterable[str] = ("method", "seed")
) -> None:
    """Raises the UserError for a table that cannot be drawn."""
    columns, key = list(columns), list(key)
    missing = [c for c in columns if c not in df.columns]
    if missing:
        raise UserError(
            f"For {what}: column {', '.join(missing)} is missing. Seen: {', '.join(df.columns)}."
        )
    if df.empty:
        raise UserError(f"For {what}: the table has no rows. Finish at least one run first.")
    text = [c for c in columns if c not in ("method", "seed") and not is_numeric_dtype(df[c])]
    if text:
        raise UserError(f"For {what}: column {', '.join(text)} is not numeric. Correct the table.")
    double = df[df.duplicated(key)]
    if len(double):
        row = ", ".join(f"{k}={double.iloc[0][k]}" for k in key)
        raise UserError(f"For {what}: two rows with {row}. Expected one; remove the other.")


def _mean_std(mean: float, std: float) -> str:
    return f"{mean:.2f}" if pd.isna(std) else f"{mean:.2f} ± {std:.2f}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
