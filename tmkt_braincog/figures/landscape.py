"""The loss around trained weights (Figure 4 of TMKT), in filter-normalised random directions (Li et
al., NeurIPS 2018)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from torch import Tensor, nn
from tqdm import tqdm

from ..data.frames import resize_frames
from ..engine.evaluate import Metrics, evaluate
from ..engine.train import Trainer
from ..models.transfer import TransferModel
from ..plots import key, looks
from .base import COLUMNS, FIGURES, Request

GRID = 21  # points along each direction, from -1 to 1
RECORDINGS = 200  # most recordings: each costs GRID x GRID evaluations per run
BATCH = 64
RADIUS = 0.5  # at which the rise of the loss is measured, and within which the curvature is
DIRECTIONS = 16  # over which the rise is averaged
LOG_FROM = 20.0  # the least ratio of largest to smallest loss that is drawn on a log scale

# One tensor for every parameter that is moved, by its name.
Direction = dict[str, Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class Landscape:
    """``loss``, ``top1`` (percent) ``[GRID, GRID]`` at (alpha, beta); ``rises`` ``[DIRECTIONS]``:
    the loss at RADIUS
    in other directions, less that of the weights; ``centre``: of the weights themselves."""

    loss: np.ndarray
    top1: np.ndarray
    rises: np.ndarray
    centre: Metrics

    def summary(self) -> dict[str, float]:
        """The numbers behind the word flat: loss and top-1 of the weights, rise of the loss,
        :func:`curvature`."""
        rise = {"rise": self.rises.mean(), "rise_std": self.rises.std(ddof=1)}
        at = {"loss": self.centre.loss, "top1": self.centre.top1}
        return {**at, **rise, "curvature": curvature(self.loss)}


@FIGURES.register("landscape")
def draw(request: Request) -> list[Path]:
    """Loss around the trained weights in two random directions, contours and a section, one scale
    for all runs.

    theta + alpha d1 + beta d2 with alpha, beta from -1 to 1, where d is Gaussian and then scaled
    filter
    by filter, d <- d / ||d|| * ||theta||. Everything of fewer than two dimensions (biases,
    BatchNorm's
    weights, the neurons' constants) stays. All runs take the same Gaussian numbers. The loss is the
    cross-entropy of the mean logits of the event stream on up to 200 test recordings, in evaluation
    mode: BatchNorm's running statistics are not measured again for moved weights.

    ``landscape_summary.csv``: loss of the weights; its rise at distance 0.5, mean and std over 16
    more
    directions; curvature in the plane shown: the trace of the Hessian of a quadratic fitted within
    0.5.

    Raises:
        UserError: the runs share no test recording.
    """
    chosen = np.random.default_rng(request.seed).permutation(request.common_test())
    recordings = np.sort(chosen[: min(RECORDINGS, request.samples)])
    total = len(request.runs) * (GRID**2 + DIRECTIONS + 1)
    with tqdm(total=total, desc="landscape", dynamic_ncols=True, mininterval=0.5) as bar:
        found = {run: look_around(run, recordings, request.seed, bar) for run in request.runs}
    tables = {
        "landscape": request.table(lambda run: _points(found[run])),
        "landscape_summary": request.table(
            lambda run: pd.DataFrame(
                [{"seed": run.seed, "recordings": len(recordings), **found[run].summary()}]
            )
        ),
    }
    about = (
        f"Cross-entropy on {len(recordings)} test recordings; rise at 0.5 ± std over directions."
    )
    lands = list(found.values())
    return request.publish("landscape", lambda: _figure(request, lands), tables, about, digits=None)


def axis() -> np.ndarray:
    """The values of alpha, and of beta."""
    return np.linspace(-1.0, 1.0, GRID)


def look_around(run: Trainer, recordings: np.ndarray, seed: int, bar: tqdm) -> Landscape:
    """Evaluate the run's model on the grid and in the directions of the rise, which follow from the
    seed."""
    model, data = run.model, run.data
    frames = resize_frames(data.frames[recordings], run.options.event_size).to(run.device)
    labels, everyone = data.labels[recordings].to(run.device), np.arange(len(recordings))

    def measure(moved: TransferModel) -> Metrics:
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
    """A Gaussian direction, each of its filters ``weight[i]`` with the norm of the model's own
    filter."""
    direction = {}
    for name, weight in model.named_parameters():
        if weight.ndim >= 2:
            noise = torch.randn(weight.shape, generator=generator).to(weight)
            dims = tuple(range(1, weight.ndim))
            own, drawn = (
                torch.linalg.vector_norm(w.detach(), dim=dims, keepdim=True)
                for w in (weight, noise)
            )
            direction[name] = noise * (own / drawn)
    return direction


def along(
    model: Any, moves: Iterable[Sequence[tuple[float, Direction]]], measure: Callable[[Any], T]
) -> Iterator[T]:
    """``measure`` at the model's weights plus the sum of ``c d`` over the (c, d) of every move, on
    a copy of the model."""
    if hasattr(model, "reset"):
        model.reset()  # a membrane that is part of a graph cannot be copied
    moved = deepcopy(model)
    own = dict(model.named_parameters())
    for move in moves:
        with torch.inference_mode():
            for name, new in moved.named_parameters():
                new.copy_(own[name] + sum(c * d[name] for c, d in move if name in d))
            measured = measure(moved)
        yield measured


def curvature(loss: np.ndarray) -> float:
    """Trace of the Hessian of the quadratic in (alpha, beta) that fits the points within RADIUS of
    the centre best.

    A fit, because the loss of a spiking network has steps: differences of neighbours would measure
    these.
    """
    alpha, beta = np.meshgrid(axis(), axis(), indexing="ij")
    near = np.maximum(abs(alpha), abs(beta)) <= RADIUS + 1e-9
    a, b = alpha[near], beta[near]
    terms = np.stack([a**2 / 2, b**2 / 2, a * b, a, b, np.ones_like(a)], axis=1)
    coefficients, *_ = np.linalg.lstsq(terms, loss[near])
    return float(coefficients[0] + coefficients[1])


def _points(land: Landscape) -> pd.DataFrame:
    alpha, beta = np.meshgrid(axis(), axis(), indexing="ij")
    columns = {"alpha": alpha, "beta": beta, "loss": land.loss, "top1": land.top1}
    return pd.DataFrame({name: values.ravel() for name, values in columns.items()})


def _figure(request: Request, lands: Sequence[Landscape]) -> Figure:
    """A panel of contours per run, the weights as a cross, and the sections along alpha in the
    last."""
    figure, panel = request.panels(len(lands) + 1, 2.6, 2.9, sharey=False)
    norm, own = _norm(lands), looks(request.names)
    for i, (axes, name, land) in enumerate(zip(panel, request.names, lands, strict=False)):
        _contours(axes, land.loss, norm)
        found = land.summary()
        rise = f"rise {found['rise']:.2f} ± {found['rise_std']:.2f}"
        axes.set(title=f"{name}\n{rise}, curvature {found['curvature']:.1f}", xlabel="α")
        axes.set_ylabel("" if i % COLUMNS else "β")
        panel[-1].plot(axis(), land.loss[:, GRID // 2], markersize=3, **own[name])
    log = isinstance(norm, LogNorm)
    panel[-1].set(title="section, β = 0", xlabel="α", xticks=[-1, 0, 1])
    panel[-1].set_yscale("log" if log else "linear")
    bar = figure.colorbar(ScalarMappable(norm), ax=panel, shrink=0.7, aspect=30)
    bar.set_label("cross-entropy" + (" (log scale)" if log else ""))
    key(figure, own, width=2.6 * min(COLUMNS, len(panel)))
    return figure


def _norm(lands: Sequence[Landscape]) -> Normalize:
    """One colour scale for all runs, logarithmic where the losses span much."""
    low, high = min(land.loss.min() for land in lands), max(land.loss.max() for land in lands)
    return (LogNorm if low > 0 and high / low >= LOG_FROM else Normalize)(low, high)


def _contours(axes, loss: np.ndarray, norm: Normalize) -> None:
    locator = LogLocator(subs=(1, 2, 5)) if isinstance(norm, LogNorm) else MaxNLocator(12)
    levels = locator.tick_values(norm.vmin or 0.0, norm.vmax or 0.0)
    axes.pcolormesh(axis(), axis(), loss.T, norm=norm, shading="gouraud", rasterized=True)
    ink = ["white" if norm(level) < 0.6 else "black" for level in levels]
    drawn = axes.contour(axis(), axis(), loss.T, levels, colors=ink, linewidths=0.6)
    for label in axes.clabel(drawn, fmt="%.3g", fontsize=6):
        label.set_visible(max(map(abs, label.get_position())) < 0.93)  # else cut off by the edge
    axes.plot(0, 0, "+", color="white", markersize=7)
    axes.set(aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    axes.grid(False)
