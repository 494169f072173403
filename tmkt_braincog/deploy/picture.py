"""The picture of ``tmkt predict``: a recording's frames, and the probabilities over time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .. import plots
from ..inspect_picture import colours, spread
from .network import Network
from .predict import Answer

MOST_FRAMES = 8
MOST_CLASSES = 3  # those with a curve: the likeliest at the end


def save(answers: Sequence[Answer], network: Network, path: Path) -> None:
    """Draw the answers, a row each."""
    plots.save(lambda: draw(answers, network), path)


def draw(answers: Sequence[Answer], network: Network) -> Figure:
    T = len(answers[0].over_time)
    steps = spread(np.arange(T), MOST_FRAMES)
    width, height = 0.75 * len(steps) + 4.0, 0.6 + 1.15 * len(answers)
    title = f"{network.options.model}, {', '.join(network.options.method)}: ON blue, OFF orange"
    figure = plots.canvas(width, height, title, network.about["emulated"])
    seen = dict.fromkeys(c for answer in answers for c in answer.likeliest(MOST_CLASSES))
    colour = {c: plots.COLOURS[i % len(plots.COLOURS)] for i, c in enumerate(seen)}
    ratios = [1.0] * len(steps) + [3.6]
    cells = figure.subplots(len(answers), len(steps) + 1, squeeze=False, width_ratios=ratios)
    for answer, (*frames, curve) in zip(answers, cells, strict=True):
        for axes, t, rgb in zip(frames, steps, colours(answer.frames)[steps], strict=True):
            axes.imshow(rgb, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
            axes.set_title(f"t = {t + 1}", size=7, pad=2)
        name = "/".join(Path(answer.file).parts[-2:])
        frames[0].set_ylabel(
            name[-18:], rotation=0, ha="right", va="center", size=7, parse_math=False
        )
        _curves(curve, answer, network.classes, colour)
    cells[-1][-1].set_xlabel("time-steps seen", size=8)
    return figure


def _curves(axes, answer: Answer, classes: Sequence[str], colour: dict[int, str]) -> None:
    t = np.arange(1, len(answer.over_time) + 1)
    for c in answer.likeliest(MOST_CLASSES):
        label = f"{classes[c].replace('_', ' ')} {answer.over_time[-1][c]:.2f}"
        axes.plot(t, answer.over_time[:, c], color=colour[c], marker="o", ms=2.5, label=label)
    axes.set(ylim=(-0.03, 1.03), xlim=(0.7, len(t) + 0.3), yticks=[0, 0.5, 1])
    axes.set_ylabel("probability", size=7)
    axes.tick_params(labelsize=7)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, frameon=False)
