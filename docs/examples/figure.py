"""Figure ``calibration``: is a network right as often as it is sure? (Guo et al., ICML 2017)"""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from tmkt_braincog.figures.features import event_logits, publish, run_names
from tmkt_braincog.figures.figures import FIGURES, Request
from tmkt_braincog.plots import COLOURS, MARKERS


@FIGURES.register("calibration")
def calibration(request: Request) -> list[Path]:
    """How often the network is right, against how sure it is, on test recordings."""
    tables = [tenths(*event_logits(run, request)) for run in request.runs]
    points = pd.concat(tables, keys=run_names(request.runs), names=["run", "tenth"]).reset_index()
    return publish(request.folder, "calibration", lambda: draw(points), points=points)


def tenths(logits, labels) -> pd.DataFrame:
    """Mean confidence and accuracy, both in [0, 1], and number of the recordings in each tenth of confidence."""
    sure, said = logits.mean(dim=1).softmax(dim=-1).max(dim=-1)  # [R, T, N] -> [R]
    table = pd.DataFrame({"sure": sure, "right": (said == labels).float()})
    return table.groupby((table.sure * 10).astype(int).clip(upper=9)).agg(
        sure=("sure", "mean"), right=("right", "mean"), n=("right", "size")
    )


def draw(points: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(4, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--")
    for (name, p), colour, marker in zip(
        points.groupby("run", sort=False), COLOURS, MARKERS, strict=False
    ):
        error = (p.n * (p.sure - p.right).abs()).sum() / p.n.sum()
        axes.plot(
            p.sure,
            p.right,
            color=colour,
            marker=marker,
            label=f"{name} (mean distance {error:.3f})",
        )
    axes.set(xlabel="confidence", ylabel="accuracy")
    figure.legend(loc="outside lower center")
    return figure
