"""The picture of a data set: of some classes the static image beside the frames of a recording."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from . import plots
from .data import NO_TWIN, TransferData

ON, OFF = plots.COLOURS[0], plots.COLOURS[1]
MOST_STEPS = 16  # of more frames as many are shown, evenly spread
PERCENTILE = 99  # of a row's counts above zero: the count that has the full colour
SCALE = "Dark: both. Stronger: more events; one scale per row."


class Shown(NamedTuple):
    """A row: the class, its image if there is one, and frames ``[T, 2, H, W]`` of a recording."""

    name: str
    image: np.ndarray | None
    frames: np.ndarray


def save(data: TransferData, path: Path, n_classes: int = 5) -> None:
    plots.save(lambda: draw(data, n_classes), path)


def draw(data: TransferData, n_classes: int = 5) -> Figure:
    """One row per class: the static image, then the frames of the class's first recording.

    The image is the recording's twin where that is known, else the first of the class.

    Args:
        n_classes: of the classes with recordings, evenly spread, as many; all if there are fewer.
    """
    labels, rows = data.labels.numpy(), []
    for c in spread(np.unique(labels), n_classes):
        recording = int(np.argmax(labels == c))
        twin, of_class = data.twins[recording], np.flatnonzero(data.image_labels.numpy() == c)
        shown = of_class[:1] if twin == NO_TWIN else [twin]
        image = data.images[shown[0]].numpy() if len(shown) else None
        rows.append(Shown(data.classes[c], image, data.frames[recording].numpy()))
    return draw_rows(rows, data.target, data.emulated)


def draw_rows(rows: Sequence[Shown], title: str, emulated: bool) -> Figure:
    """All frames of a row have one scale, which ends at the 99th percentile of its counts > 0."""
    n_steps = len(rows[0].frames)
    steps = spread(np.arange(n_steps), MOST_STEPS)
    some = f", {len(steps)} of {n_steps} frames" if len(steps) < n_steps else ""
    width, height = 1.4 + 0.68 * max(len(steps) + 1, 4), 1.0 + 0.7 * len(rows)
    figure = plots.canvas(width, height, f"{title}, T = {n_steps}{some}", emulated)
    cells = figure.subplots(len(rows), 1 + len(steps), squeeze=False)
    for axes in cells.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        axes.spines[:].set(visible=True, color="0.75", linewidth=0.5)
    for axes, heading in zip(cells[0], ["static", *(f"t = {t + 1}" for t in steps)], strict=True):
        axes.set_title(heading, size=8, pad=3)
    for row, (static, *frames) in zip(rows, cells, strict=True):
        name = textwrap.fill(row.name.replace("_", " "), 16)
        static.set_ylabel(name, rotation=0, ha="right", va="center", size=8, parse_math=False)
        if row.image is None:
            where = {"transform": static.transAxes, "ha": "center", "va": "center", "size": 7}
            static.text(0.5, 0.5, "none", **where)
        else:
            static.imshow(row.image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        for axes, rgb in zip(frames, colours(row.frames)[steps], strict=True):
            axes.imshow(rgb, interpolation="nearest")
    inks = [Patch(color=ON, label="ON events"), Patch(color=OFF, label="OFF events")]
    figure.legend(handles=inks, title=SCALE, title_fontsize=7, loc="outside lower center", ncols=2)
    return figure


def spread(members: np.ndarray, n: int) -> np.ndarray:
    """Up to ``n`` of the members, evenly spread; of several the first and the last are there."""
    at = np.linspace(0, len(members) - 1, min(n, len(members)))
    return members[np.round(at).astype(int)]


def colours(frames: np.ndarray) -> np.ndarray:
    """``[T, 2, H, W]`` counts as ``[T, H, W, 3]`` float32 RGB in 0..1, white where nothing is.

    ON is blue, OFF orange, both in one pixel dark: as inks, each takes its part of the light away.
    """
    held = frames[frames > 0]
    full = np.percentile(held, PERCENTILE) if held.size else 1
    strength = np.clip(frames.astype(np.float32) / full, 0, 1)[..., None]
    off, on = (1 - np.array(to_rgb(colour), np.float32) for colour in (OFF, ON))
    return (1 - strength[:, 0] * off) * (1 - strength[:, 1] * on)
