"""Draws method.svg and method.png: python docs/method_figure.py. Text of 10 pt, 5 inches wide."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

T, T_STAR = 6, 4
IMAGE, EVENTS, BOX = "#c2711c", "#1f6f8b", "#f3f1ec"
CELL = 0.36  # inches
LEFT, RIGHT = 0.16, 2.68  # where the strips of frames begin


def main() -> None:
    matplotlib.rcParams |= {"svg.hashsalt": "method", "font.family": "DejaVu Sans"}
    figure = Figure(figsize=(5, 6.1), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 5), ylim=(0, 6.1))
    axes.axis("off")
    streams(axes)
    network(axes)
    losses(axes)
    here = Path(__file__).resolve().parent
    figure.savefig(here / "method.svg", metadata={"Date": None})
    figure.savefig(here / "method.png", dpi=200, metadata={"Software": None})


def streams(axes) -> None:
    """Both inputs over the time-steps, and the mixed stream that TSM makes of them."""
    for x, what, name in ((LEFT, "image, repeated", "$X_a$"), (RIGHT, "recording", "$X_e$")):
        say(axes, x + 1.08, 5.92, f"{what}  {name}", size=11)
    strip(axes, LEFT, 5.38, [False] * T)
    strip(axes, RIGHT, 5.38, [True] * T)
    arrow(axes, (LEFT + 0.6, 5.33), (LEFT + 0.6, 4.62), IMAGE)
    arrow(axes, (RIGHT, 5.3), (LEFT + 1.9, 4.62), EVENTS)
    say(axes, LEFT + 1.08, 5.02, "TSM", weight="bold", size=12)
    strip(axes, LEFT, 4.22, [t >= T_STAR for t in range(1, T + 1)])
    edge = LEFT + (T_STAR - 1) * CELL
    axes.plot([edge, edge], [4.14, 4.66], color="black", linewidth=1.6)
    say(axes, edge, 4.02, "$t^*$", size=11)
    say(axes, LEFT + 1.65, 4.02, "mixed  $X_m$", size=11)
    for t in range(1, T + 1):
        say(axes, RIGHT + (t - 0.5) * CELL, 5.25, str(t), size=10, color="0.3")
    say(axes, RIGHT + 1.08, 5.02, "time-steps $t = 1 … T$", color="0.3")


def network(axes) -> None:
    """The backbone with both streams, whose membranes RDA compares."""
    arrow(axes, (LEFT + 1.08, 3.92), (LEFT + 1.08, 3.55), "black")
    arrow(axes, (RIGHT + 1.08, 4.9), (RIGHT + 1.08, 3.55), EVENTS)
    say(axes, RIGHT + 1.2, 4.22, "event stream", ha="left", color=EVENTS)
    box(
        axes,
        0.16,
        2.95,
        4.68,
        0.58,
        "spiking backbone, one set of weights\nstreams run one after the other",
    )
    box(axes, 1.62, 1.95, 1.76, 0.66, "RDA: CKA of\n$V_m[t]$ and $V_e[t]$", "black")
    arrow(axes, (1.95, 2.95), (1.95, 2.64), "black")
    arrow(axes, (3.05, 2.95), (3.05, 2.64), "black")


def losses(axes) -> None:
    """The linear heads of each stream."""
    for x, color in ((0.9, "black"), (4.1, EVENTS)):
        arrow(axes, (x, 2.95), (x, 1.68), color)
    box(axes, 0.16, 0.12, 2.3, 1.54, "", IMAGE)
    heads = ("class of the mixed stream", "MAG: image or event?", "MRP: share of images?")
    for k, text in enumerate(heads):
        say(axes, 1.31, 1.38 - 0.49 * k, text, weight="bold" if k else "normal")
    box(axes, 2.56, 1.1, 2.28, 0.56, "class of the events", EVENTS)
    say(axes, 3.7, 0.62, "only this head is\nused at test time", color=EVENTS)


def strip(axes, x: float, y: float, events: list[bool]) -> None:
    """One frame per time-step: a ring, or the events at its edges."""
    for t, is_event in enumerate(events):
        left, middle = x + t * CELL, (x + (t + 0.5) * CELL, y + CELL / 2)
        color = EVENTS if is_event else IMAGE
        axes.add_patch(Rectangle((left, y), CELL, CELL, facecolor="white", edgecolor=color))
        if not is_event:
            axes.plot(
                *middle,
                "o",
                markersize=13,
                markerfacecolor="none",
                markeredgecolor=color,
                markeredgewidth=4,
            )
            continue
        rng = np.random.default_rng(t)  # frame t of the mixed stream is that of the recording
        angle, radius = rng.uniform(0, 2 * np.pi, 14), rng.choice([0.07, 0.125], 14)
        axes.plot(
            middle[0] + radius * np.cos(angle),
            middle[1] + radius * np.sin(angle),
            "s",
            markersize=2,
            color=color,
        )


def box(
    axes, x: float, y: float, width: float, height: float, text: str, color: str = "0.3"
) -> None:
    shape = FancyBboxPatch(
        (x + 0.04, y + 0.04), width - 0.08, height - 0.08, boxstyle="round,pad=0.04"
    )
    shape.set(facecolor=BOX, edgecolor=color, linewidth=1.4)
    axes.add_patch(shape)
    say(axes, x + width / 2, y + height / 2, text)


def say(axes, x: float, y: float, text: str, size: float = 10, ha: str = "center", **how) -> None:
    axes.text(x, y, text, fontsize=size, ha=ha, va="center", linespacing=1.3, **how)


def arrow(axes, start: tuple, end: tuple, color: str) -> None:
    axes.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 1.4}
    )


if __name__ == "__main__":
    main()
