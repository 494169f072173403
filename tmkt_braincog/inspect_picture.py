"""The picture of a data set: of some classes the static image beside the frames of a recording."""

import textwrap
from pathlib import Path

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


def save(data: TransferData, path: Path, n_classes: int = 5) -> None:
    plots.save(lambda: draw(data, n_classes), path)


def draw(data: TransferData, n_classes: int = 5) -> Figure:
    """One row per class: the static image, then the frames of the class's first recording.

    The image is the recording's twin where that is known, else the first of the class. All frames
    of a row have one scale, which ends at the 99th percentile of its counts above zero.

    Args:
        n_classes: of the classes with recordings, evenly spread, as many; all if there are fewer.
    """
    chosen = spread(np.unique(data.labels.numpy()), n_classes)
    n_steps = data.frames.shape[1]
    steps = spread(np.arange(n_steps), MOST_STEPS)
    some = f", {len(steps)} of {n_steps} frames" if len(steps) < n_steps else ""
    width, height = 1.4 + 0.68 * max(len(steps) + 1, 4), 1.0 + 0.7 * len(chosen)
    figure = plots.canvas(width, height, f"{data.target}, T = {n_steps}{some}", data.emulated)
    cells = figure.subplots(len(chosen), 1 + len(steps), squeeze=False)
    for axes in cells.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        axes.spines[:].set(visible=True, color="0.75", linewidth=0.5)
    for axes, heading in zip(cells[0], ["static", *(f"t = {t + 1}" for t in steps)], strict=True):
        axes.set_title(heading, size=8, pad=3)
    for c, (static, *frames) in zip(chosen, cells, strict=True):
        name = textwrap.fill(data.classes[c].replace("_", " "), 16)
        static.set_ylabel(name, rotation=0, ha="right", va="center", size=8, parse_math=False)
        recording = int(np.argmax(data.labels.numpy() == c))
        _show_static(static, data, recording)
        for axes, rgb in zip(frames, colours(data.frames[recording].numpy())[steps], strict=True):
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


def _show_static(axes, data: TransferData, recording: int) -> None:
    """The recording's twin or the first image of its class; nothing where there is neither."""
    of_class = np.flatnonzero(data.image_labels.numpy() == int(data.labels[recording]))
    twin = int(data.twins[recording])
    if twin == NO_TWIN and not len(of_class):
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", va="center", size=7)
        return
    image = data.images[of_class[0] if twin == NO_TWIN else twin]
    axes.imshow(image.numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
