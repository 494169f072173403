"""Pictures in one style: methods compared over seeds, curves, accuracy over shots, rows of a table.

The suffix of a path gives the format (png, pdf, svg). Accuracies are top-1 in percent, spreads
sample standard deviations over seeds. A method has one colour and marker everywhere.
"""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator
from pandas.api.types import is_numeric_dtype

from .errors import UserError
from .files import replacing

DPI = 200
ACCURACY = "top-1 accuracy (%)"
GREY = "0.35"
RUN = ("method", "seed")
SIZES = "small: seeds; large: mean ± std"
OFFSET: dict[str, Any] = {"textcoords": "offset points"}
FEW = 20  # points of a line, up to which each has its marker

# Okabe and Ito's colours, without the yellow that vanishes on white paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
METHODS = ("event-only", "baseline", "tmkt", "ckd", "seal")  # in the order of their colours

STYLE: dict[Any, Any] = {
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **dict.fromkeys(("font.size", "axes.titlesize"), 9),
    **{"figure.titlesize": 10, "legend.fontsize": 8},
    **{"axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": "0.92"},
    **{"pdf.fonttype": 42, "svg.fonttype": "none"},  # publishers refuse Type 3 fonts
}

Name = str | Path
Look = dict[str, Any]  # color and marker, as matplotlib's keywords


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Colour and marker of each name; those of a method are fixed.

    A joined one (``tmkt+seal``) has both colours mixed and darkened
    and the marker of its part. Other names get in their order what the methods leave free.
    """
    found: dict[str, Look] = {}
    for name in dict.fromkeys(names):
        first, *parts = name.lower().split("+")
        if first in METHODS and set(parts) <= set(METHODS):
            found[name] = _look(METHODS.index(first))
            for part in map(METHODS.index, parts):
                both = zip(to_rgb(found[name]["color"]), to_rgb(COLOURS[part]), strict=True)
                red, green, blue = (0.35 * (a + b) for a, b in both)
                dark = to_hex((red, green, blue))
                found[name] = {"color": dark, "marker": MARKERS[part]}
    free = (look for look in map(_look, count()) if look not in found.values())
    return {name: found[name] if name in found else next(free) for name in dict.fromkeys(names)}


def _look(i: int) -> Look:
    n = len(COLOURS)
    return {"color": COLOURS[i % n], "marker": MARKERS[(i + i // n) % n]}


def save(draw: Callable[[], Figure], path: Name) -> None:
    """Draw and save under our own style, which hides a user's matplotlibrc."""
    fmt = Path(path).suffix.lower().lstrip(".")
    if fmt not in ("png", "pdf", "svg"):
        what = f"Cannot write a figure to {str(path)!r}"
        raise UserError(f"{what}: expected a name in .png, .pdf or .svg.")
    # the backend is the caller's business
    ours = {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")}
    with matplotlib.rc_context(ours | STYLE), replacing(path) as temporary:
        draw().savefig(temporary, format=fmt, dpi=DPI)


def canvas(width: float, height: float, title: str = "", emulated: bool = False) -> Figure:
    """An empty figure, in inches, with its title wrapped to the width."""
    figure = Figure(figsize=(width, height), layout="constrained")
    whole = ", ".join(filter(None, [title, "emulated\N{NO-BREAK SPACE}events" if emulated else ""]))
    if whole:
        figure.suptitle(textwrap.fill(whole, int(width * 13)))
    return figure


def key(
    figure: Figure, looks: Mapping[str, Look], width: float = 5.0, more: Sequence[Artist] = ()
) -> None:
    """A legend below everything, as many columns as fit: a label per look, then ``more``."""
    names = [textwrap.fill(name, 44) for name in looks]
    found = zip(names, looks.values(), strict=True)
    handles = [Line2D([], [], markersize=4, label=name, **look) for name, look in found]
    longest = max(len(str(h.get_label()).split("\n")[0]) for h in [*handles, *more])
    columns = int(width / (0.6 + 0.065 * longest))  # inches: a line and its letters
    columns = max(1, min(3, columns, len(handles) + len(more)))
    figure.legend(handles=[*handles, *more], loc="outside lower center", ncols=columns)


def lines(axes: Axes, df: pd.DataFrame, x: str, y: str, by: str = "run") -> dict[str, Look]:
    """Mean ``y`` against ``x`` with its std shaded, a line for each ``by``; gives their looks."""
    found, few = looks(df[by]), df.groupby(by)[x].nunique().max() <= FEW
    palette = {name: look["color"] for name, look in found.items()}
    markers = {name: look["marker"] for name, look in found.items()} if few else False
    style = {"dashes": False, "markersize": 5, "markeredgewidth": 0, "legend": False}
    band = {"errorbar": "sd", "err_kws": {"alpha": 0.18, "linewidth": 0}}
    colours = {"hue": by, "style": by, "palette": palette, "markers": markers}
    sns.lineplot(df, x=x, y=y, ax=axes, **colours, **style, **band)
    axes.xaxis.set_major_locator(MaxNLocator(integer=bool((df[x] % 1 == 0).all()), min_n_ticks=1))
    axes.ticklabel_format(axis="y", useOffset=False)
    return found


def plot_comparison(df: pd.DataFrame, path: Name, title: str = "", emulated: bool = False) -> None:
    """Every seed, and mean ± std, of each method: best epoch to the left, last to the right.

    Args:
        df: columns method, seed, top1_best, top1_last.

    Raises:
        UserError: of all plots: a column is missing or not numeric, there is no row, a seed occurs
            twice in a method, or the suffix of `path` is unknown.
    """
    _require(df, (*RUN, "top1_best", "top1_last"), "the comparison plot")
    found = looks(df["method"])

    def draw() -> Figure:
        figure = canvas(7.0, 1.2 + 0.45 * len(found), title, emulated)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, when in zip(panels, ("best", "last"), strict=True):
            for y, (name, look) in enumerate(found.items()):
                values = df.loc[df["method"] == name, f"top1_{when}"]
                _seeds(axes, y, values, look)
                spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
                text, at = f"{values.mean():.2f}{spread}", (values.mean(), y)
                axes.annotate(text, at, (0, -12), size=7, ha="center", va="center", **OFFSET)
            axes.set(title=f"{when} epoch", xlabel=f"{ACCURACY}\n{SIZES}")
            axes.margins(x=0.12)
        _rows_below(panels, list(found))
        return figure

    save(draw, path)


def _seeds(axes: Axes, y: float, values: pd.Series, look: Look) -> None:
    """Every seed above the line of the row, mean and std on it."""
    dots = {name: look[name] for name in ("color", "marker")}
    axes.scatter(values, [y - 0.2] * len(values), s=11, alpha=0.6, linewidths=0, **dots)
    bar = None if len(values) < 2 else values.std(ddof=1)
    axes.errorbar(values.mean(), y, xerr=bar, markersize=5, capsize=3, zorder=3, **look)


def _rows_below(panels: Sequence[Axes], names: Sequence[str]) -> None:
    for axes in panels:
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
        axes.ticklabel_format(axis="x", useOffset=False)
    panels[0].set_yticks(range(len(names)), [textwrap.fill(name, 30) for name in names])
    panels[0].set_ylim(len(names) - 0.4, -0.6)


def plot_rows(
    df: pd.DataFrame,
    summary: pd.DataFrame,
    references: Mapping[str, str],
    path: Name,
    title: str = "",
    emulated: bool = False,
) -> None:
    """A table's rows: every seed with mean ± std, and the paired difference to a hollow reference.

    Args:
        df: columns method (the row's name), seed, top1_last.
        summary: from :func:`.stats.summarise`, each row with the difference to its reference.
        references: for every row the one that its difference is taken to.
    """
    _require(df, (*RUN, "top1_last"), "the plot of rows")
    names, by_name = list(summary["method"]), summary.set_index("method")

    def draw() -> Figure:
        figure = canvas(7.0, 1.3 + 0.34 * len(names), title, emulated)
        left, right = panels = figure.subplots(1, 2, sharey=True, width_ratios=(1.15, 1))
        for y, name in enumerate(names):
            row = by_name.loc[name]
            is_method = name.lower() in METHODS
            look = looks([name])[name] if is_method else {"color": GREY, "marker": "o"}
            if name in references.values():
                look = look | {"markerfacecolor": "white"}
            _seeds(left, y, df.loc[df["method"] == name, "top1_last"], look)
            at = 0.0 if name == references[name] else row["last_diff"]
            low, high = row["last_low"], row["last_high"]
            bar = None if pd.isna(low) else [[at - low], [high - at]]
            right.errorbar(at, y, xerr=bar, markersize=5, capsize=3, **look)
            if y and references[name] != references[names[y - 1]]:
                for axes in panels:
                    axes.axhline(y - 0.5, color="0.8", linewidth=0.8)
        right.axvline(0, color=GREY, linewidth=0.9, zorder=1)
        _rows_below(panels, names)
        left.set_xlabel(f"{ACCURACY}, last epoch\n{SIZES}")
        to = "the hollow row" if len(set(references.values())) > 1 else references[names[0]]
        words = textwrap.fill(f"difference to {to} (points)", 44)
        right.set_xlabel(f"{words}\npaired over seeds, 95 % interval")
        return figure

    save(draw, path)


def plot_curves(
    runs: Mapping[str, Sequence[pd.DataFrame]],
    path: Name,
    x: str = "epoch",
    y: str = "top1",
    xlabel: str | None = None,
    ylabel: str | None = None,
    title: str = "",
    emulated: bool = False,
    logx: bool = False,
) -> None:
    """Mean of `y` with std over seeds against `x`, a line per method, up to its shortest run's end.

    Args:
        runs: method -> one log per seed, each with columns `x` and `y`.
        xlabel, ylabel: by default the column names (top1: top-1 accuracy in percent).
        logx: a logarithmic axis, its ticks at the `x` of the data.
    """
    if not runs:
        raise UserError("No runs to draw curves from: give at least one method with one log.")
    table = pd.concat([common(method, logs, x, y) for method, logs in runs.items()])

    def draw() -> Figure:
        axes = (figure := canvas(5.0, 3.4, title, emulated)).subplots()
        found = lines(axes, table, x, y, "method")
        if logx:
            ticks = sorted(table[x].unique())
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel=xlabel or x, ylabel=ylabel or (ACCURACY if y == "top1" else y))
        seeds = {name: f"{len(logs)} seed{'s' * (len(logs) > 1)}" for name, logs in runs.items()}
        key(figure, {f"{name} ({seeds[name]})": look for name, look in found.items()})
        return figure

    save(draw, path)


def common(method: str, logs: Sequence[pd.DataFrame], x: str, y: str) -> pd.DataFrame:
    """Columns `x`, `y`, method: the rows of all logs at the `x` that each of them has reached."""
    if not logs:
        raise UserError(f"Method {method!r} has no runs: expected one log per seed, or drop it.")
    for log in logs:
        _require(log, (x, y), f"the curve of method {method!r}", key=(x,))
    table = pd.concat([log[[x, y]].dropna() for log in logs])
    table = table[table.groupby(x)[y].transform("size") == len(logs)]
    if table.empty:
        what = f"The runs of method {method!r} share no {x}."
        raise UserError(f"{what} Compare runs logged at the same {x}.")
    return table.assign(method=method)


def plot_shots(df: pd.DataFrame, path: Name, title: str = "", emulated: bool = False) -> None:
    """Accuracy against the number of shots, as :func:`plot_curves` on a logarithmic axis.

    Args:
        df: columns method, seed, shots (training samples per class, > 0), top1.
    """
    _require(df, (*RUN, "shots", "top1"), "the shots plot", key=(*RUN, "shots"))
    if not (df["shots"] > 0).all():
        seen = ", ".join(map(str, df["shots"].unique()))
        raise UserError(f"Shots must be positive numbers for a log axis, seen: {seen}.")
    methods = df.groupby("method", sort=False)
    runs = {str(method): [log for _, log in part.groupby("seed")] for method, part in methods}
    xlabel = "shots (training samples per class)"
    plot_curves(runs, path, "shots", xlabel=xlabel, title=title, emulated=emulated, logx=True)


def _require(df: pd.DataFrame, columns: Sequence[str], what: str, key: Sequence[str] = RUN) -> None:
    """Raises the UserError for a table that cannot be drawn."""
    missing, seen = [c for c in columns if c not in df], ", ".join(df.columns)
    if missing:
        raise UserError(f"For {what}: column {', '.join(missing)} is missing. Seen: {seen}.")
    if df.empty:
        raise UserError(f"For {what}: the table has no rows. Finish at least one run first.")
    text = [c for c in columns if c not in RUN and not is_numeric_dtype(df[c])]
    if text:
        raise UserError(f"For {what}: column {', '.join(text)} is not numeric. Correct the table.")
    double = df[df.duplicated(list(key))]
    if len(double):
        row = ", ".join(f"{k}={double.iloc[0][k]}" for k in key)
        raise UserError(f"For {what}: two rows with {row}. Expected one; remove the other.")
