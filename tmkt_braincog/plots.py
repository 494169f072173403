"""Pictures in one style: methods compared over seeds, curves, rows of a table.

The suffix of a path gives the format (png, pdf, svg). Accuracies are top-1 in percent, spreads
sample standard deviations over seeds. A method has one colour and marker everywhere.
"""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from .errors import UserError
from .files import PICTURES, check_output, replacing

DPI = 200
ACCURACY = "top-1 accuracy (%)"
GREY = "0.35"
SIZES = "small: seeds; large: mean ± std"
SHOTS = "shots (training samples per class)"
FEW = 20  # points of a line, up to which each has its marker

# Okabe and Ito's colours, without the yellow that vanishes on white paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
METHODS = ("event-only", "baseline", "tmkt", "ckd", "seal", "finetune")  # in their colours' order
# Encodings of the static stream, after a comma in a name: share of white in the colour, and marker.
ENCODINGS = {"repeat": (0.6, "o"), "i2e": (0.3, "s"), "saccade": (0.0, "^")}

STYLE: dict[Any, Any] = {
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **dict.fromkeys(("font.size", "axes.titlesize"), 9),
    **{"figure.titlesize": 10, "legend.fontsize": 8},
    **{"axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": "0.92"},
    **{"pdf.fonttype": 42, "svg.fonttype": "none"},  # publishers refuse Type 3 fonts
}

Name = str | Path
Look = dict[str, Any]  # color and marker, as matplotlib's keywords


def looks(names: Iterable[str], other: Look | None = None) -> dict[str, Look]:
    """Colour and marker of each name; those of a method are fixed.

    A joined one (``tmkt+seal``) has both colours mixed and darkened, and the marker of its part;
    with an encoding (``tmkt, saccade``) the colour is the lighter the less it is like events.
    Other names get ``other``, or in their order what the methods leave free.
    """
    found: dict[str, Look] = {}
    for name in dict.fromkeys(names):
        method, _, encoding = name.lower().partition(", ")
        first, *parts = (method if encoding in ENCODINGS else name.lower()).split("+")
        if first in METHODS and set(parts) <= set(METHODS):
            found[name] = _look(METHODS.index(first))
            for part in map(METHODS.index, parts):
                both = np.add(to_rgb(found[name]["color"]), to_rgb(COLOURS[part]))
                dark = to_hex(tuple(0.35 * both))  # type: ignore[arg-type]
                found[name] = {"color": dark, "marker": MARKERS[part]}
            if encoding in ENCODINGS:
                white, marker = ENCODINGS[encoding]
                own = np.array(to_rgb(found[name]["color"]))
                light: Any = tuple(white + (1 - white) * own)
                found[name] = {"color": to_hex(light), "marker": marker}
    free = (look for look in map(_look, count()) if look not in found.values())
    return {name: found.get(name) or other or next(free) for name in dict.fromkeys(names)}


def _look(i: int) -> Look:
    n = len(COLOURS)
    return {"color": COLOURS[i % n], "marker": MARKERS[(i + i // n) % n]}


def save(draw: Callable[[], Figure], path: Name) -> None:
    """Draw and save under our own style, which hides a user's matplotlibrc."""
    check_output(Path(path), PICTURES, force=True)
    # the backend is the caller's business
    ours = {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")}
    with matplotlib.rc_context(ours | STYLE), replacing(path) as temporary:
        draw().savefig(temporary, format=Path(path).suffix[1:].lower(), dpi=DPI)


def canvas(width: float, height: float, title: str = "", emulated: bool = False) -> Figure:
    """An empty figure, in inches, with its title wrapped to the width."""
    figure = Figure(figsize=(width, height), layout="constrained")
    whole = ", ".join(filter(None, [title, "emulated\N{NO-BREAK SPACE}events" * emulated]))
    if whole:
        figure.suptitle(textwrap.fill(whole, int(width * 13)))
    return figure


def key(
    figure: Figure, looks: Mapping[str, Look], width: float = 5.0, more: Sequence[Artist] = ()
) -> None:
    """A legend below everything, as many columns as fit: a label per look, then ``more``."""
    shown: Any = {textwrap.fill(name, 44): {"markersize": 4, **looks[name]} for name in looks}
    handles = [*(Line2D([], [], label=name, **look) for name, look in shown.items()), *more]
    longest = max(len(str(h.get_label()).split("\n")[0]) for h in handles)
    columns = max(1, int(width / (0.6 + 0.065 * longest)))  # inches: a line and its letters
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def lines(axes: Axes, df: pd.DataFrame, x: str, y: str, by: str = "run") -> dict[str, Look]:
    """Mean ``y`` against ``x`` with its std shaded, a line for each ``by``; gives their looks."""
    found, few = looks(df[by]), df.groupby(by)[x].nunique().max() <= FEW
    its: Any = {k: {name: look[k] for name, look in found.items()} for k in ("color", "marker")}
    style = {"dashes": False, "markersize": 5, "markeredgewidth": 0, "legend": False}
    style |= {"palette": its["color"], "markers": few and its["marker"]}
    band = {"errorbar": "sd", "err_kws": {"alpha": 0.18, "linewidth": 0}}
    sns.lineplot(df, x=x, y=y, hue=by, style=by, ax=axes, **style, **band)
    axes.xaxis.set_major_locator(MaxNLocator(integer=bool((df[x] % 1 == 0).all()), min_n_ticks=1))
    axes.ticklabel_format(axis="y", useOffset=False)
    return found


def plot_comparison(df: pd.DataFrame, path: Name, title: str = "", emulated: bool = False) -> None:
    """Every seed, and mean ± std: columns method, seed, top1_best (left), top1_last (right)."""
    found = looks(df["method"])

    def draw() -> Figure:
        figure, panels = _rows(list(found), 0.45, title, emulated)
        for axes, when in zip(panels, ("best", "last"), strict=True):
            for y, (name, look) in enumerate(found.items()):
                values = df.loc[df["method"] == name, f"top1_{when}"]
                spread = f" ± {values.std():.2f}" if len(values) > 1 else ""
                text, middle = f"{values.mean():.2f}{spread}", {"ha": "center", "va": "center"}
                axes.text(values.mean(), y + 0.28, text, size=7, **middle)
                _seeds(axes, y, values, look)
            axes.set(title=f"{when} epoch", xlabel=f"{ACCURACY}\n{SIZES}")
            axes.margins(x=0.12)
        return figure

    save(draw, path)


def _rows(names: Sequence[str], height: float, title: str, emulated: bool) -> tuple[Figure, Any]:
    """Two panels with a row per name, from above."""
    figure = canvas(7.0, 1.25 + height * len(names), title, emulated)
    panels = figure.subplots(1, 2, sharey=True)
    for axes in panels:
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
        axes.ticklabel_format(axis="x", useOffset=False)
    panels[0].set_yticks(range(len(names)), [textwrap.fill(name, 30) for name in names])
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    return figure, panels


def _seeds(axes: Axes, y: float, values: pd.Series, look: Look) -> None:
    """Every seed above the line of the row, mean and std on it."""
    dots = {name: look[name] for name in ("color", "marker")}
    axes.scatter(values, [y - 0.2] * len(values), s=11, alpha=0.6, linewidths=0, **dots)
    bar = None if len(values) < 2 else values.std()
    axes.errorbar(values.mean(), y, xerr=bar, markersize=5, capsize=3, zorder=3, **look)


def plot_rows(
    df: pd.DataFrame,
    summary: pd.DataFrame,
    references: Mapping[str, str],
    path: Name,
    title: str = "",
    emulated: bool = False,
) -> None:
    """A table's rows: every seed with mean ± std, and the paired difference to a hollow reference.

    ``df``: columns method (the row's name), seed, top1_last; ``summary``: what
    :func:`.comparison.summarise` makes of it; ``references``: for every row the one that its
    difference is taken to.
    """
    names, by_name = list(summary["method"]), summary.set_index("method")

    def draw() -> Figure:
        figure, (left, right) = _rows(names, 0.34, title, emulated)
        for y, name in enumerate(names):
            row, look = by_name.loc[name], looks([name], {"color": GREY, "marker": "o"})[name]
            look = look | ({"markerfacecolor": "white"} if name in references.values() else {})
            _seeds(left, y, df.loc[df["method"] == name, "top1_last"], look)
            at, low, high = row[["last_diff", "last_low", "last_high"]].astype(float)
            at = 0.0 if name == references[name] else at
            bar = None if pd.isna(low) else [[at - low], [high - at]]
            right.errorbar(at, y, xerr=bar, markersize=5, capsize=3, **look)
            if y and references[name] != references[names[y - 1]]:
                left.axhline(y - 0.5, color="0.8", linewidth=0.8)
                right.axhline(y - 0.5, color="0.8", linewidth=0.8)
        right.axvline(0, color=GREY, linewidth=0.9, zorder=1)
        left.set_xlabel(f"{ACCURACY}, last epoch\n{SIZES}")
        to = "the hollow row" if len(set(references.values())) > 1 else references[names[0]]
        words = textwrap.fill(f"difference to {to} (points)", 44)
        right.set_xlabel(f"{words}\npaired, 95 % interval")
        return figure

    save(draw, path)


def plot_curves(
    df: pd.DataFrame,
    path: Name,
    x: str = "epoch",
    y: str = "top1",
    ylabel: str = ACCURACY,
    title: str = "",
    emulated: bool = False,
    logx: bool = False,
) -> None:
    """Mean of `y` with std over seeds against `x`, a line per method, where all its seeds have it.

    Methods with several encodings (``tmkt, saccade``) have a panel for each, in which those without
    one stand too, and accuracies by the logarithm of the error.

    ``df``: columns method, seed, `x` and `y`; ``logx``: a logarithmic axis, its ticks at the `x` of
    the data.
    """
    seeds = df.groupby("method")["seed"].nunique().to_dict()
    table = df.dropna(subset=[x, y])
    table = table[table.groupby(["method", x])[y].transform("size") == table["method"].map(seeds)]
    names = list(df["method"].unique())
    for method in names:
        if method not in table["method"].values:
            what = f"The runs of method {method!r} share no {x}"
            raise UserError(f"{what}: compare what is logged alike.")
    panels = _by_encoding(names)

    def draw() -> Figure:
        figure = canvas(5.0 if len(panels) == 1 else 7.0, 3.4, title, emulated)
        every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        found, ticks, n = dict[str, Look](), sorted(table[x].unique()), dict[str, int]()
        for axes, (encoding, shorts) in zip(every, panels.items(), strict=True):
            shown = table[table["method"].isin(shorts)].replace({"method": shorts})
            found |= lines(axes, shown, x, y, "method")
            n |= {short: seeds[name] for name, short in shorts.items()}
            if logx:
                axes.set_xscale("log")
                axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
                axes.xaxis.set_minor_locator(NullLocator())
            if encoding:
                axes.set_title(encoding)
                axes.set_yscale("function", functions=(_of_error, _from_error))
                axes.set_yticks([0, 50, 80, 90, 95, 98, 99])
            axes.set(xlabel=x, ylabel=ylabel)
            axes.label_outer()
        said = {name: f"{name} ({s} seed{'s' * (s > 1)})" for name, s in n.items()}
        key(figure, {said[name]: look for name, look in found.items()})
        return figure

    save(draw, path)


def _by_encoding(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """By encoding the names that belong there, and what they are called there; one group, without a
    name, where there are fewer than two or names that do not fit."""
    parted = {name: name.partition(", ")[::2] for name in names}  # what comes first, the encoding
    ends = dict.fromkeys(end for _, end in parted.values() if end)
    found = {
        one: {name: first for name, (first, end) in parted.items() if end in ("", one)}
        for one in ends
    }
    fit = len(ends) > 1 and set(ends) <= set(ENCODINGS)
    apart = all(len(set(of.values())) == len(of) for of in found.values())
    return found if fit and apart else {"": {name: name for name in parted}}


def _of_error(top1: np.ndarray) -> np.ndarray:
    return -np.log10(np.maximum(100 - top1, 0.1))


def _from_error(value: np.ndarray) -> np.ndarray:
    return 100 - 10.0**-value
