"""Figure ``calibration``: is a network right as often as it is sure? (Guo et al., ICML 2017)"""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from tmkt_braincog.figures.base import FIGURES, Request
from tmkt_braincog.figures.features import event_logits
from tmkt_braincog.plots import key, lines


@FIGURES.register("calibration")
def calibration(request: Request) -> list[Path]:
    """How often the network is right, against how sure it is, on test recordings."""
    points = request.table(lambda run: tenths(*event_logits(run, request)))
    return request.publish("calibration", lambda: draw(request, points), points)


def tenths(logits, labels) -> pd.DataFrame:
    """Mean confidence and accuracy, both in [0, 1], and number of the recordings in each tenth of
    confidence."""
    sure, said = logits.mean(dim=1).softmax(dim=-1).max(dim=-1)  # [R, T, N] -> [R]
    table = pd.DataFrame({"sure": sure, "right": (said == labels).float()})
    return table.groupby((table.sure * 10).astype(int).clip(upper=9)).agg(
        sure=("sure", "mean"), right=("right", "mean"), n=("right", "size")
    )


def draw(request: Request, points: pd.DataFrame) -> Figure:
    figure = request.canvas(4, 3.6)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--")
    key(figure, lines(axes, points, "sure", "right"), width=4)
    axes.set(xlabel="confidence", ylabel="accuracy")
    return figure
