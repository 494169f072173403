"""The loss around trained weights (Figure 4 of TMKT), as Li et al. (NeurIPS 2018) draw it."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from tqdm import tqdm

from ..data.frames import resize_frames
from ..engine.evaluate import evaluate
from ..engine.train import Trainer
from ..plots import key, looks
from .base import COLUMNS, FIGURES, Request, copied

GRID = 21  # points along each direction, from -1 to 1
RECORDINGS = 200  # most recordings: each costs GRID x GRID evaluations per run
BATCH = 64
RADIUS = 0.5  # at which the rise of the loss is measured
DIRECTIONS = 16  # over which the rise is averaged


@FIGURES.register("landscape")
def draw(request: Request) -> list[Path]:
    """Contours of the loss around the trained weights, and a section.

    theta + alpha d1 + beta d2 with alpha, beta from -1 to 1, d being Gaussian, the same for all
    runs, and then scaled filter by filter, d <- d / ||d|| * ||theta||. The loss is the
    cross-entropy of the mean logits of the event stream on up to 200 test recordings, in evaluation
    mode: BatchNorm's statistics are not measured again. ``landscape_summary.csv``: loss of the
    weights; its rise at distance 0.5, mean and std over 16 more directions.
    """
    chosen = np.random.default_rng(0).permutation(request.common_test())
    recordings = np.sort(chosen[: min(RECORDINGS, request.samples)])
    found = {run: look_around(run, recordings) for run in request.runs}
    points = request.table(lambda run: found[run][0])
    summary = request.table(lambda run: pd.DataFrame([{"seed": run.seed, **found[run][1]}]))
    tables = {"landscape": points, "landscape_summary": summary}
    n = len(recordings)
    about = f"Cross-entropy on {n} test recordings; rise at 0.5 ± std over directions."
    return request.publish("landscape", lambda: _figure(request, points, summary), tables, about)


def look_around(run: Trainer, recordings: np.ndarray) -> tuple[pd.DataFrame, dict[str, float]]:
    """alpha, beta, loss, top1 (percent) of every point; what the weights have, and the rise."""
    data, moved, own = run.data, copied(run.model), parameters_to_vector(run.model.parameters())
    frames = resize_frames(data.frames[recordings], run.options.event_size).to(run.device)
    labels, everyone = data.labels[recordings].to(run.device), np.arange(len(recordings))

    def measure(move: Tensor | float) -> tuple[float, float]:
        """Loss and top-1 at the weights plus ``move``."""
        vector_to_parameters(own.detach() + move, moved.parameters())
        found = evaluate(moved, frames, labels, everyone, run.device, BATCH, run.amp)
        return found.loss, found.top1

    generator = torch.Generator().manual_seed(0)
    first, second, *others = (random_direction(run.model, generator) for _ in range(2 + DIRECTIONS))
    axis = np.linspace(-1.0, 1.0, GRID)
    points = pd.DataFrame(product(axis, axis), columns=["alpha", "beta"])
    moves = tqdm(points.to_numpy(), f"landscape, {run.name}", dynamic_ncols=True, mininterval=0.5)
    points[["loss", "top1"]] = [measure(a * first + b * second) for a, b in moves]
    loss, top1 = measure(0)
    rises = pd.Series([measure(RADIUS * other)[0] - loss for other in others])
    summary = {"recordings": len(recordings), "loss": loss, "top1": top1}
    return points, summary | {"rise": rises.mean(), "rise_std": rises.std()}


def random_direction(model: nn.Module, generator: torch.Generator) -> Tensor:
    """``[P]`` for all parameters: Gaussian, each filter ``weight[i]`` with the norm of the model's
    own filter; 0 for those of fewer than two dimensions."""
    parts = []
    for weight in model.parameters():
        if weight.ndim < 2:
            parts.append(torch.zeros_like(weight))
            continue
        noise = torch.randn(weight.shape, generator=generator).to(weight)
        own, drawn = (w.detach().flatten(1).norm(dim=1) for w in (weight, noise))
        parts.append(noise * (own / drawn).view(-1, *[1] * (weight.ndim - 1)))
    return parameters_to_vector(parts).detach()


def _figure(request: Request, points: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """Contours per run, the weights as a cross, and in the last panel the sections along alpha."""
    figure, panel = request.panels(len(summary) + 1, 2.6, 2.9, "α", "β", sharey=False)
    norm: Any = LogNorm(points["loss"].min(), points["loss"].max())
    own = looks(request.names)
    for axes, (_, row) in zip(panel, summary.iterrows(), strict=False):
        of_run = points[points["run"] == row["run"]]
        loss = of_run.pivot(index="beta", columns="alpha", values="loss")
        _contours(axes, loss, norm)
        axes.set_title(f"{row['run']}\nrise {row['rise']:.2f} ± {row['rise_std']:.2f}")
        panel[-1].plot(loss.columns, loss.iloc[len(loss) // 2], markersize=3, **own[row["run"]])
    panel[-1].set(title="section, β = 0", ylabel="")
    bar = figure.colorbar(ScalarMappable(norm), ax=panel, shrink=0.7, aspect=30, format="%.3g")
    bar.set_ticks(list(np.geomspace(norm.vmin, norm.vmax, 6)))
    bar.minorticks_off()
    bar.set_label("cross-entropy")
    key(figure, own, width=2.6 * min(COLUMNS, len(panel)))
    return figure


def _contours(axes: Axes, loss: pd.DataFrame, norm: Any) -> None:
    levels, at = np.geomspace(norm.vmin, norm.vmax, 12), (loss.columns, loss.index)
    axes.pcolormesh(*at, loss, norm=norm, shading="gouraud", rasterized=True)
    ink = ["white" if norm(level) < 0.6 else "black" for level in levels]
    drawn = axes.contour(*at, loss, levels, colors=ink, linewidths=0.6)
    axes.clabel(drawn, fmt="%.3g", fontsize=6)
    axes.plot(0, 0, "+", color="white", markersize=7)
    axes.set(aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    axes.grid(False)
