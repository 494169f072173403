"""The loss around trained weights (Figure 4 of TMKT), in filter-normalised random directions (Li et al., NeurIPS 2018)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from torch import Tensor, nn
from tqdm import tqdm

from .. import plots
from ..data.frames import resize_frames
from ..engine.evaluate import Metrics, evaluate
from ..engine.train import Trainer
from ..files import replacing
from .features import run_names, setting
from .figures import FIGURES, Request
from .gradcam import common_test

GRID = 21  # points along each direction
EXTENT = 1.0  # the grid reaches from -EXTENT to EXTENT in both
RECORDINGS = 200  # most recordings: each costs GRID x GRID evaluations per run
BATCH = 64
RADIUS = 0.5  # at which the rise of the loss is measured, and within which the curvature is
DIRECTIONS = 16  # over which the rise is averaged
LOG_FROM = 20.0  # the least ratio of largest to smallest loss that is drawn on a log scale
COLOURS = "viridis"
LEVELS = 12

# One tensor for every parameter that is moved, by its name.
Direction = dict[str, Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class Landscape:
    """The surroundings of one run's weights.

    Attributes:
        loss, top1: ``[GRID, GRID]`` float64, at (alpha, beta) along the first and the second direction; top1 in percent.
        rises: ``[DIRECTIONS]``, loss at RADIUS in other random directions, less the loss of the weights.
        centre: of the weights themselves.
    """

    loss: np.ndarray
    top1: np.ndarray
    rises: np.ndarray
    centre: Metrics


@FIGURES.register("landscape")
def draw(request: Request) -> list[Path]:
    """Loss around the trained weights in two random directions, surface and contours, one scale for all runs.

    theta + alpha d1 + beta d2 with alpha, beta from -1 to 1, where d is Gaussian and then scaled filter by filter, d <- d /
    ||d|| * ||theta||: a filter is what makes one output channel of a convolution, or one output of a linear layer.
    Biases, BatchNorm's weights and the neurons' constants (everything of fewer than two dimensions) stay. All runs
    take the same Gaussian numbers. The loss is the cross-entropy of the mean logits over time of the event stream and
    head, on up to 200 test recordings, in evaluation mode: BatchNorm uses the running statistics of the trained
    weights, which are not measured again for the moved ones.

    Writes ``landscape`` (PNG, PDF), ``landscape.csv`` (every point) and ``landscape_summary.csv``: the loss of the weights, its
    rise at distance 0.5, mean and standard deviation over 16 more random directions (the same for all runs), and the
    curvature in the plane shown: the trace of the Hessian of a quadratic fitted to the points within 0.5.

    Raises:
        UserError: the runs share no test recording.
    """
    test = common_test(request.runs)
    recordings = np.random.default_rng(request.seed).permutation(test)[
        : min(RECORDINGS, request.samples)
    ]
    with tqdm(
        total=len(request.runs) * (GRID**2 + DIRECTIONS + 1),
        desc="landscape",
        dynamic_ncols=True,
        mininterval=0.5,
    ) as bar:
        found = [look_around(run, np.sort(recordings), request.seed, bar) for run in request.runs]
    labels, folder = run_names(request.runs), request.folder
    tables = {
        "landscape": pd.concat(
            [_points(name, land) for name, land in zip(labels, found, strict=True)]
        ),
        "landscape_summary": pd.DataFrame(
            [
                {"run": name, "seed": run.seed, "recordings": len(recordings), **summary(land)}
                for name, run, land in zip(labels, request.runs, found, strict=True)
            ]
        ),
    }
    for name, table in tables.items():
        with replacing(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    pictures = [folder / "landscape.png", folder / "landscape.pdf"]
    title = f"{setting(request.runs[0])}, {len(recordings)} test recordings"
    for path in pictures:
        plots.save(lambda: _figure(labels, found, title), path)
    return [*(folder / f"{name}.csv" for name in tables), *pictures]


def axis() -> np.ndarray:
    """The values of alpha, and of beta."""
    return np.linspace(-EXTENT, EXTENT, GRID)


def look_around(run: Trainer, recordings: np.ndarray, seed: int, bar: tqdm) -> Landscape:
    """Evaluate the run's model on the grid and in the directions of the rise, which follow from the seed."""
    model, data = run.model, run.data
    frames = resize_frames(data.frames[recordings], run.options.event_size).to(run.device)
    labels, everyone = data.labels[recordings].to(run.device), np.arange(len(recordings))

    def measure(moved: nn.Module) -> Metrics:
        bar.update()
        return evaluate(moved, frames, labels, everyone, run.device, BATCH, run.amp)

    generator = torch.Generator().manual_seed(seed)
    first, second = random_direction(model, generator), random_direction(model, generator)
    plane = ([(a, first), (b, second)] for a in axis() for b in axis())
    others = ([(RADIUS, random_direction(model, generator))] for _ in range(DIRECTIONS))
    centre, *met = along(model, chain([[]], plane, others), measure)
    grid = np.array([(m.loss, m.top1) for m in met[: GRID**2]]).reshape(GRID, GRID, 2)
    rises = np.array([m.loss - centre.loss for m in met[GRID**2 :]])
    return Landscape(grid[..., 0], grid[..., 1], rises, centre)


def random_direction(model: nn.Module, generator: torch.Generator) -> Direction:
    """A Gaussian direction, each of its filters with the norm of the model's own filter.

    For every parameter of two or more dimensions; a filter is ``weight[i]``.
    """
    direction = {}
    for name, weight in model.named_parameters():
        if weight.ndim >= 2:
            noise = torch.randn(weight.shape, generator=generator).to(weight)
            axes = tuple(range(1, weight.ndim))
            norms = [
                torch.linalg.vector_norm(w.detach(), dim=axes, keepdim=True)
                for w in (weight, noise)
            ]
            direction[name] = noise * (norms[0] / norms[1])
    return direction


def along(
    model: nn.Module,
    moves: Iterable[Sequence[tuple[float, Direction]]],
    measure: Callable[[nn.Module], T],
) -> Iterator[T]:
    """``measure`` at the model's weights plus the sum of ``c d`` over the (c, d) of every move, on a copy of the model."""
    if hasattr(model, "reset"):
        model.reset()  # a membrane that is part of a graph cannot be copied
    moved = deepcopy(model)
    weights = [
        (n, new, own)
        for (n, new), own in zip(moved.named_parameters(), model.parameters(), strict=True)
    ]
    for move in moves:
        with torch.inference_mode():
            for name, new, own in weights:
                new.copy_(
                    own + sum(c * direction[name] for c, direction in move if name in direction)
                )
            measured = measure(moved)
        yield measured


def summary(land: Landscape) -> dict[str, float]:
    """The numbers behind the word flat: loss and top-1 of the weights, rise of the loss, curvature (see :func:`draw`)."""
    return {
        "loss": land.centre.loss,
        "top1": land.centre.top1,
        "rise": land.rises.mean(),
        "rise_std": land.rises.std(ddof=1),
        "curvature": curvature(land.loss),
    }


def curvature(loss: np.ndarray) -> float:
    """Trace of the Hessian of the quadratic in (alpha, beta) that fits the grid's points within RADIUS of the centre best.

    A fit, because the loss of a spiking network has steps: differences of neighbours would measure these.
    """
    alpha, beta = np.meshgrid(axis(), axis(), indexing="ij")
    near = np.maximum(abs(alpha), abs(beta)) <= RADIUS + 1e-9
    a, b = alpha[near], beta[near]
    terms = np.stack([a**2 / 2, b**2 / 2, a * b, a, b, np.ones_like(a)], axis=1)
    coefficients, *_ = np.linalg.lstsq(terms, loss[near])
    return float(coefficients[0] + coefficients[1])


def _points(name: str, land: Landscape) -> pd.DataFrame:
    alpha, beta = np.meshgrid(axis(), axis(), indexing="ij")
    columns = {"alpha": alpha, "beta": beta, "loss": land.loss, "top1": land.top1}
    return pd.DataFrame({"run": name, **{k: v.ravel() for k, v in columns.items()}})


def _figure(labels: Sequence[str], found: Sequence[Landscape], title: str) -> Figure:
    """A column per run: the surface, its contours below, the trained weights as a cross."""
    figure = plots._figure(1.0 + 2.5 * len(found), 5.2, title)
    norm = _norm(found)
    panels = []
    for i, (label, land) in enumerate(zip(labels, found, strict=True)):
        surface = figure.add_subplot(2, len(found), i + 1, projection="3d")
        contour = figure.add_subplot(2, len(found), len(found) + i + 1)
        _surface(surface, land.loss, norm)
        _contours(contour, land.loss, norm, first=i == 0)
        numbers = summary(land)
        surface.set_title(plots._folded(label))
        contour.set_title(
            f"rise {numbers['rise']:.2f} ± {numbers['rise_std']:.2f}, curvature {numbers['curvature']:.1f}"
        )
        panels += [surface, contour]
    bar = figure.colorbar(
        ScalarMappable(norm, COLOURS), ax=panels, location="right", shrink=0.6, aspect=30
    )
    bar.set_label("cross-entropy" + (" (log scale)" if isinstance(norm, LogNorm) else ""))
    return figure


def _norm(found: Sequence[Landscape]) -> Normalize:
    """One colour scale for all runs, logarithmic where the losses span much."""
    low, high = min(land.loss.min() for land in found), max(land.loss.max() for land in found)
    return (LogNorm if low > 0 and high / low >= LOG_FROM else Normalize)(low, high)


def _surface(axes, loss: np.ndarray, norm: Normalize) -> None:
    # mplot3d has no log axis that works: the height is the logarithm, and its ticks say the loss
    is_log = isinstance(norm, LogNorm)
    height = np.log10(loss) if is_log else loss
    alpha, beta = np.meshgrid(axis(), axis(), indexing="ij")
    faces = ScalarMappable(norm, COLOURS).to_rgba(loss)
    axes.plot_surface(
        alpha, beta, height, facecolors=faces, rstride=1, cstride=1, linewidth=0, shade=False
    )
    axes.set_zlim(*(np.log10([norm.vmin, norm.vmax]) if is_log else (norm.vmin, norm.vmax)))
    axes.zaxis.set_major_locator(MaxNLocator(4))
    if is_log:
        axes.zaxis.set_major_formatter(FuncFormatter(lambda z, _: f"{10**z:.2g}"))
    axes.set(xlabel="α", ylabel="β", xticks=[-EXTENT, 0, EXTENT], yticks=[-EXTENT, 0, EXTENT])
    axes.tick_params(labelsize=7, pad=-3)
    axes.xaxis.labelpad = axes.yaxis.labelpad = -6


def _contours(axes, loss: np.ndarray, norm: Normalize, first: bool) -> None:
    locator = LogLocator(subs=(1, 2, 5)) if isinstance(norm, LogNorm) else MaxNLocator(LEVELS)
    levels = locator.tick_values(norm.vmin, norm.vmax)
    axes.pcolormesh(
        axis(), axis(), loss.T, norm=norm, cmap=COLOURS, shading="gouraud", rasterized=True
    )
    ink = ["white" if norm(level) < 0.6 else "black" for level in levels]
    lines = axes.contour(axis(), axis(), loss.T, levels, colors=ink, linewidths=0.6)
    for label in axes.clabel(lines, fmt="%.3g", fontsize=6):
        label.set_visible(
            max(map(abs, label.get_position())) < 0.93 * EXTENT
        )  # else cut off by the edge
    axes.plot(0, 0, "+", color="white", markersize=7)
    axes.set(xlabel="α", ylabel="β" if first else "", aspect="equal", xticks=[-EXTENT, 0, EXTENT])
    axes.set_yticks([-EXTENT, 0, EXTENT])
    axes.grid(False)
