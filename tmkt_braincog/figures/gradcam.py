"""Where on its input a spiking network finds its class (Figure 3 of TMKT), through time."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from braincog.base.node.node import BaseNode
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..data import NO_TWIN, Pair
from ..engine.train import Trainer
from ..errors import UserError
from ..methods.event_only import EventOnly
from ..models import TransferModel
from ..plots import COLOURS
from .base import FIGURES, Request, bare, copied
from .features import pairs_of

CLASSES = 5  # most classes shown, one recording of each
# Hues, so that brightness is left for the picture, without turbo's dark ends.
HEAT = ListedColormap(colormaps["turbo"](np.linspace(0.08, 0.9, 256)), name="heat")
OPACITY = 0.7  # of a map over its picture
PERCENTILE = 99  # of the events per pixel: drawn as white; the fullest would darken the rest
KINDS = {"event": "events", "static": "image"}
TINY = torch.finfo(torch.float32).tiny


class Explained(NamedTuple):
    """Maps ``[B, T, H, W]`` >= 0, not scaled; mean logits ``[B, N]``; ``[H, W]`` bool, the pixels
    that the maps say something about; the head that decided. On the CPU."""

    maps: Tensor
    logits: Tensor
    covered: Tensor
    head: str


@FIGURES.register("gradcam")
def draw(request: Request) -> list[Path]:
    """Grad-CAM++ on events and on static images, the runs beside each other.

    Of up to five classes one test recording each, and for every run the map of the true class, the
    mean over time of one map per time-step (Chattopadhyay et al., WACV 2018); ``gradcam_steps``
    shows the first recording step by step. The static image is the recording's twin, or where there
    is none a training image of its class; it goes through the static head, which ``event-only`` has
    never trained: there through the event head.
    """
    batch, run = choose(request), request.runs[0]
    seen = {run: explain(run, batch) for run in request.runs}
    table = request.table(lambda run: numbers(run, batch, seen[run]))
    names = [run.data.classes[label] for label in batch.label]
    steps = [f"t = {t}" for t in range(1, run.options.step + 1)]
    every = list(seen.values())
    pictures = {
        "gradcam": lambda: _figure(request, names, by_recording, batch, every),
        "gradcam_steps": lambda: _figure(request, steps, of_the_first, batch, every),
    }
    about = (
        "Maps of the true class over its input; below each the predicted class, red if wrong. The "
        "image goes through the static head, with event-only through the event head."
    )
    return request.publish("gradcam", pictures, table, about)


def choose(request: Request) -> Pair:
    """One test recording for each of up to five classes, with its static image; on the CPU."""
    run, rng = request.runs[0], np.random.default_rng(0)
    test, labels = request.common_test(), run.data.labels.numpy()
    classes = rng.permutation(np.unique(labels[test]))[: min(CLASSES, request.samples)]
    chosen = np.array([rng.choice(test[labels[test] == c]) for c in np.sort(classes)])
    images, pools = run.data.twins[chosen].copy(), run.data.pools(run.split.static)
    for i in np.flatnonzero(images == NO_TWIN):
        images[i] = rng.choice(pools[labels[chosen[i]]])
    return pairs_of(run, chosen, images)[range(len(chosen))].to(torch.device("cpu"))


def streams(batch: Pair) -> dict[str, Tensor]:
    """By kind ``[B, T, 2, H, W]``."""
    return {"event": batch.events, "static": batch.static_frames()}


def explain(run: Trainer, batch: Pair) -> dict[str, Explained]:
    """:func:`class_maps` of both kinds, by the head for it."""
    found = {}
    for kind, x in streams(batch).items():
        head = "event" if isinstance(run.method, EventOnly) else kind
        found[kind] = class_maps(run.model, x.to(run.device), batch.label, head)
    return found


def class_maps(model: TransferModel, x: Tensor, classes: Tensor, head: str) -> Explained:
    """Grad-CAM++ of the mean logit over time, one map per time-step, on a copy of the model.

    Every time-step of the target layer counts as a layer of its own, so that the gradient at a step
    holds what the step does to all later ones, and its channels' weights are its own (Eq. 19).
    ``x``: ``[B, T, 2, H, W]``, on the model's device; ``classes``: ``[B]`` int64, those explained.
    """
    model = copied(model).eval()
    layer, margin = find_target(model)
    held: list[Tensor] = []
    layer.register_forward_hook(lambda _, __, output: held.append(output))
    logits = model.run_stream(x, head).logits.mean(0)
    of_class = logits.gather(1, classes.to(x.device)[:, None]).sum()
    g = torch.stack(torch.autograd.grad(of_class, held), 1)  # [B, T, C, h, w]
    a = torch.stack(held, 1).detach()
    # alpha relu(g), alpha = g^2 / (2 g^2 + sum(a) g^3); 0 / 0 only where relu(g) is 0
    positive = g.clamp(min=0) / (2 + a.sum((-2, -1), keepdim=True) * g)
    weights = positive.nan_to_num().sum((-2, -1), keepdim=True)
    maps = (weights * a).sum(2).clamp(min=0).cpu()
    covered = enlarged(torch.ones(1, 1, 1, 1), x.shape[-1], margin)[0, 0] > 0
    return Explained(enlarged(maps, x.shape[-1], margin), logits.detach().cpu(), covered, head)


def enlarged(maps: Tensor, size: int, margin: float) -> Tensor:
    """``[B, T, h, w]`` -> ``[B, T, size, size]``, bilinear, 0 in the margin on each side."""
    inner, left = round(size - 2 * margin), round(margin)
    inside = F.interpolate(maps, size=(inner, inner), mode="bilinear")
    return F.pad(inside, (left, size - inner - left) * 2)


@torch.no_grad()
def find_target(model: TransferModel) -> tuple[nn.Module, float]:
    """The layer that is explained, and the pixels of the input on each side outside its map.

    The last neuron behind the last convolution with a map of more than one pixel (a UserError
    without any); where none follows it, the last module with a map.
    """
    behind: list[nn.Module] = []
    margin = 0.0

    def note(module: nn.Module, inputs: tuple, output: object) -> None:
        nonlocal margin
        if not isinstance(output, Tensor) or output.ndim != 4 or output[0, 0].numel() == 1:
            return
        if isinstance(module, nn.Conv2d):
            behind.clear()
            lost = module.dilation[0] * (module.kernel_size[0] - 1) / 2
            padding = {"same": (lost,), "valid": (0,)}.get(str(module.padding), module.padding)
            lost -= float(padding[0])
            margin += lost * (model.event_size - 2 * margin) / inputs[0].shape[-1]
        behind.append(module)

    handles = [module.register_forward_hook(note) for module in model.modules()]
    x = next(model.parameters()).new_zeros(1, 1, 2, model.event_size, model.event_size)
    model.run_stream(x, "event")
    model.reset()
    for handle in handles:
        handle.remove()
    if not any(isinstance(module, nn.Conv2d) for module in behind):
        raise UserError(
            f"{type(model).__name__} with --event-size {model.event_size} has no convolution with "
            "a map of more than one pixel, so there is nothing to show on its input. Use a "
            "convolutional model or a larger size."
        )
    neurons = [module for module in behind if isinstance(module, BaseNode)]
    return (neurons or behind)[-1], margin


def numbers(run: Trainer, batch: Pair, kinds: dict[str, Explained]) -> pd.DataFrame:
    """What the run takes the inputs for, one row per kind and recording."""
    names, tables = np.array(run.data.classes), []
    for kind, seen in kinds.items():
        confidence, predicted = seen.logits.softmax(1).max(1)
        columns = {"seed": run.seed, "recording": [run.data.names[i] for i in batch.index]}
        columns |= {"input": kind, "head": seen.head, "class": names[batch.label]}
        columns |= {"predicted": names[predicted], "confidence": confidence}
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables)


def by_recording(maps: Tensor) -> Tensor:
    """``[B, T, H, W]`` >= 0: the mean over time of each, over its largest value; zeros stay."""
    mean = maps.mean(1)
    return mean / mean.amax((1, 2), keepdim=True).clamp(min=TINY)


def of_the_first(maps: Tensor) -> Tensor:
    """``[B, T, H, W]`` >= 0: the time-steps of the first, over their largest value."""
    return maps[0] / maps[0].max().clamp(min=TINY)


def _figure(
    request: Request,
    names: Sequence[str],
    rows: Callable[[Tensor], Tensor],
    batch: Pair,
    seen: Sequence[dict[str, Explained]],
) -> Figure:
    """A row per name; events and maps to the left, the static image and maps to the right.

    ``rows``: what they show of ``[B, T, H, W]``; each recording's with the run's predictions.
    """
    n, classes, said = 1 + len(seen), request.runs[0].data.classes, rows is by_recording
    figure = request.canvas(0.9 + 1.7 * n, 0.6 + (1.07 if said else 0.85) * len(names))
    panels = figure.subplots(len(names), 2 * n, squeeze=False)
    for kind, block in zip(KINDS, np.split(panels, 2, axis=1), strict=True):
        shown = rows(streams(batch)[kind].sum(2)).numpy()
        white = np.percentile(shown[shown > 0], PERCENTILE) if shown.any() else 1
        grey = np.repeat(np.clip(shown / white, 0, 1)[..., None], 3, axis=-1)
        _column(block[:, 0], KINDS[kind], grey)
        for column, name, of_run in zip(block.T[1:], request.names, seen, strict=True):
            one = of_run[kind]
            opacity = OPACITY * one.covered.numpy()[..., None]
            heat = HEAT(rows(one.maps).numpy())[..., :3]
            _column(column, name, (1 - opacity) * grey + opacity * heat)
            if said:
                _say(column, one.logits.softmax(1), batch.label, classes)
    for name, axes in zip(names, panels[:, 0], strict=True):
        text = textwrap.fill(name.replace("_", " "), 14)
        axes.set_ylabel(text, rotation=0, ha="right", va="center", parse_math=False)
    bar = figure.colorbar(ScalarMappable(cmap=HEAT), ax=panels, shrink=0.7, aspect=35, pad=0.01)
    bar.set_label("Grad-CAM++, share of the largest value", size=8)
    return figure


def _column(column: np.ndarray, heading: str, images: np.ndarray) -> None:
    for axes, image in zip(column, images, strict=True):
        axes.imshow(image, interpolation="nearest")
        bare(axes)
    column[0].set_title(textwrap.fill(heading, 14), size=8)


def _say(column: np.ndarray, sure: Tensor, labels: Tensor, classes: Sequence[str]) -> None:
    """Predicted class and confidence, in red where wrong."""
    for axes, of_class, label in zip(column, sure, labels, strict=True):
        name = classes[int(of_class.argmax())].replace("_", " ")
        text = textwrap.fill(f"{name}, {100 * of_class.max():.0f}\N{NO-BREAK SPACE}%", 14)
        colour = COLOURS[2] if of_class.argmax() == label else COLOURS[1]
        axes.set_xlabel(text, color=colour, size=6.5, labelpad=2, parse_math=False)
