"""The picture of a data set: of some classes the static image beside the event frames of one recording."""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.textpath import TextPath

from .. import plots
from ..errors import UserError
from .base import NO_TWIN, TransferData

ON, OFF = plots.COLOURS[0], plots.COLOURS[1]
FORMATS = (".png", ".pdf", ".svg")
MOST_STEPS = (
    16  # of more frames as many are shown, evenly spread, the first and the last among them
)
PERCENTILE = 99  # of a row's counts above zero: the count that has the full colour

# Inches. A layout of our own: the cells are squares of one size whatever the names and the number of steps.
CELL, GAP, GROUP_GAP, MARGIN, HEADING = 0.62, 0.04, 0.10, 0.06, 0.20
KEY, KEY_WIDTH = 0.40, 3.1  # what the key below the rows takes
LINE, TITLE_CHARACTER, LABEL_GAP = 0.17, 0.07, 0.07
LABEL_CHARACTERS, LABEL_SIZE = 16, 8  # size in points


def check_path(path: Path, force: bool) -> None:
    """Refuse what :func:`save` could not or must not write.

    Raises:
        UserError: an unknown suffix, or a file that exists and ``force`` is not given.
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(
            f"Cannot write a picture to {str(path)!r}: expected a name in {', '.join(FORMATS)}."
        )
    if path.is_dir():
        raise UserError(
            f"{path} is a folder; the name of a picture was expected. Give --output FILE.png."
        )
    if path.exists() and not force:
        raise UserError(
            f"{path} exists. Give --force to replace it, or another name with --output."
        )


def save(data: TransferData, path: Path, n_classes: int = 5) -> None:
    """Write :func:`draw`'s figure; the suffix gives the format, missing folders are made."""
    plots.save(lambda: draw(data, n_classes), path)


def draw(data: TransferData, n_classes: int = 5) -> Figure:
    """One row per class: the static image, then the frames of the class's first recording.

    The image is the recording's twin where that is known, else the first of the class. ON events are blue, OFF
    events orange, both in one pixel dark; white is no event. All frames of a row have one scale, which ends at
    the 99th percentile of its counts above zero.

    Args:
        n_classes: of the classes with recordings, evenly spread, as many; all where there are fewer.
    """
    chosen = spread(np.unique(data.labels.numpy()), n_classes)
    steps = spread(np.arange(data.frames.shape[1]), MOST_STEPS)
    names = [textwrap.fill(data.classes[c].replace("_", " "), LABEL_CHARACTERS) for c in chosen]
    left = MARGIN + max(_width(line) for name in names for line in name.split("\n")) + LABEL_GAP
    figure, top = _figure(_title(data, len(steps)), left, len(chosen), len(steps))
    for row, (c, name) in enumerate(zip(chosen, names, strict=True)):
        cells = _row(figure, left, top + row * (CELL + GAP), len(steps))
        _fill(cells, data, int(np.argmax(data.labels.numpy() == c)), steps)
        label = {"ha": "right", "va": "center", "size": LABEL_SIZE, "parse_math": False}
        cells[0].text(-LABEL_GAP / CELL, 0.5, name, transform=cells[0].transAxes, **label)
        if row == 0:
            for axes, heading in zip(
                cells, ("static", *(f"t = {t + 1}" for t in steps)), strict=True
            ):
                axes.set_title(heading, size=8, pad=3)
    _key(figure, left)
    return figure


def spread(members: np.ndarray, n: int) -> np.ndarray:
    """Up to ``n`` of the members, evenly spread; of several the first and the last are among them."""
    at = np.linspace(0, len(members) - 1, min(n, len(members)))
    return members[np.round(at).astype(int)]


def colours(frames: np.ndarray) -> np.ndarray:
    """``[T, 2, H, W]`` counts as ``[T, H, W, 3]`` float32 RGB in 0..1, white where nothing happened."""
    held = frames[frames > 0]
    full = np.percentile(held, PERCENTILE) if held.size else 1
    strength = np.clip(frames.astype(np.float32) / full, 0, 1)[..., None]
    rgb = np.ones((*strength.shape[:1], *strength.shape[2:4], 3), np.float32)
    for channel, colour in enumerate((OFF, ON)):
        # Inks on paper: each takes its part of the light away.
        rgb *= 1 - strength[:, channel] * (1 - np.array(to_rgb(colour), np.float32))
    return rgb


def _title(data: TransferData, n_shown: int) -> str:
    n_steps = data.frames.shape[1]
    parts = [data.target, f"T = {n_steps}"]
    if data.emulated:
        parts.append("events emulated")
    if n_shown < n_steps:
        parts.append(f"{n_shown} of {n_steps} frames")
    return ", ".join(parts)


def _figure(title: str, left: float, n_rows: int, n_steps: int) -> tuple[Figure, float]:
    """An empty figure with its title, and where the first row begins, in inches from the top."""
    width = left + max((CELL + GAP) * (n_steps + 1) + GROUP_GAP, KEY_WIDTH) + MARGIN
    lines = textwrap.wrap(title, int((width - 2 * MARGIN) / TITLE_CHARACTER))
    top = MARGIN + LINE * len(lines) + HEADING
    height = top + (CELL + GAP) * n_rows + KEY
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    y = 1 - MARGIN / height
    figure.text(0.5, y, "\n".join(lines), ha="center", va="top", size=10, parse_math=False)
    return figure, top


def _width(text: str) -> float:
    """Of a label, in inches."""
    return TextPath((0, 0), text or " ", size=LABEL_SIZE, usetex=False).get_extents().x1 / 72


def _row(figure: Figure, left: float, top: float, n_steps: int) -> list[Axes]:
    """The static image's axes, then those of the frames."""
    frames = [left + GROUP_GAP + (CELL + GAP) * (k + 1) for k in range(n_steps)]
    return [_cell(figure, x, top) for x in (left, *frames)]


def _cell(figure: Figure, left: float, top: float) -> Axes:
    """Axes of one cell; left and top edge in inches from the figure's upper left corner."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, 1 - (top + CELL) / height, CELL / width, CELL / height))
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set(visible=True, color="0.75", linewidth=0.5)
    return axes


def _fill(cells: list[Axes], data: TransferData, recording: int, steps: np.ndarray) -> None:
    _show_static(cells[0], data, recording)
    rgb = colours(data.frames[recording].numpy())
    for axes, t in zip(cells[1:], steps, strict=True):
        axes.imshow(rgb[t], interpolation="nearest", aspect="equal")


def _show_static(axes: Axes, data: TransferData, recording: int) -> None:
    """The recording's twin or the first image of its class; nothing where there is neither."""
    image = int(data.twins[recording])
    if image == NO_TWIN:
        of_class = np.flatnonzero(data.image_labels.numpy() == int(data.labels[recording]))
        if not len(of_class):
            centred = {"ha": "center", "va": "center", "size": 7, "color": "0.5"}
            axes.text(0.5, 0.5, "none", transform=axes.transAxes, **centred)
            return
        image = int(of_class[0])
    axes.imshow(data.images[image].numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def _key(figure: Figure, left: float) -> None:
    width, height = figure.get_size_inches()
    note = "Dark: ON and OFF. Stronger: more events; one scale per row."
    figure.text(left / width, 0.05 / height, note, va="bottom", size=7, color="0.35")
    figure.legend(
        handles=[Patch(color=ON, label="ON events"), Patch(color=OFF, label="OFF events")],
        loc="lower left",
        bbox_to_anchor=(left / width, 0.18 / height),
        borderaxespad=0,
        borderpad=0.1,
        ncols=2,
        handlelength=1,
        handleheight=1,
        handletextpad=0.5,
        columnspacing=1.2,
        fontsize=8,
    )
