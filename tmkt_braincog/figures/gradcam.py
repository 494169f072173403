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
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..data import NO_TWIN
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


class Inputs(NamedTuple):
    """Test recordings ``[B]``, one per class; by kind ``[B, T, 2, H, W]``: counts, or an image."""

    recordings: np.ndarray
    labels: Tensor
    streams: dict[str, Tensor]


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
    mean over time of one map per time-step (Chattopadhyay et al., WACV 2018). The static image is
    the recording's twin, or where there is none a training image of its class; it goes through the
    static head, which ``event-only`` has never trained: there through the event head. Convolutions
    without padding leave a margin without a map.

    ``gradcam_steps`` shows the first recording step by step; ``gradcam.csv`` has the predictions
    and their confidence.
    """
    inputs = choose(request)
    kinds = {run: {kind: explain(run, inputs, kind) for kind in KINDS} for run in request.runs}
    table, seen = request.table(lambda run: numbers(run, inputs, kinds[run])), list(kinds.values())
    labels, T = inputs.labels.tolist(), request.runs[0].options.step
    names, steps = [request.runs[0].data.classes[c] for c in labels], range(1, T + 1)
    summed = {kind: scaled(x.sum((1, 2)), (1, 2)) for kind, x in inputs.streams.items()}
    frames = {kind: scaled(x[0].sum(1), (0, 1, 2)) for kind, x in inputs.streams.items()}

    def mean(one: Explained) -> Tensor:
        return scaled(one.maps.mean(1), (1, 2))

    def first(one: Explained) -> Tensor:
        return scaled(one.maps[0], (0, 1, 2))

    pictures = {
        "gradcam": lambda: _figure(request, names, summed, seen, mean, labels),
        "gradcam_steps": lambda: _figure(request, [f"t = {t}" for t in steps], frames, seen, first),
    }
    about = (
        "Maps of the true class over its input; below each the predicted class, red if wrong. The "
        "image goes through the static head, with event-only through the event head."
    )
    return request.publish("gradcam", pictures, table, about)


def choose(request: Request) -> Inputs:
    """One test recording for each of up to five classes, and its static image."""
    run, rng = request.runs[0], np.random.default_rng(request.seed)
    test, labels = request.common_test(), run.data.labels.numpy()
    classes = rng.permutation(np.unique(labels[test]))[: min(CLASSES, request.samples)]
    chosen = np.array([rng.choice(test[labels[test] == c]) for c in np.sort(classes)])
    images, pools = run.data.twins[chosen].copy(), run.data.pools(run.split.static)
    for i in np.flatnonzero(images == NO_TWIN):
        images[i] = rng.choice(pools[labels[chosen[i]]])
    batch = pairs_of(run, chosen, images)[range(len(chosen))]
    static = batch.static_frames()
    return Inputs(chosen, batch.label.cpu(), {"event": batch.events, "static": static})


def explain(run: Trainer, inputs: Inputs, kind: str) -> Explained:
    head = "event" if isinstance(run.method, EventOnly) else kind
    return class_maps(run.model, inputs.streams[kind].to(run.device), inputs.labels, head)


def class_maps(model: TransferModel, x: Tensor, classes: Tensor, head: str) -> Explained:
    """Grad-CAM++ of the mean logit over time, one map per time-step, on a copy of the model.

    Every time-step of the target layer counts as a layer of its own, so that the gradient at a step
    holds what the step does to all later ones, and its channels' weights are its own (Eq. 19).

    Args:
        x: ``[B, T, 2, H, W]``, on the model's device.
        classes: ``[B]`` int64, whose logits are explained.
        head: ``event`` or ``static``.
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
    model.reset()
    x = next(model.parameters()).new_zeros(1, 2, model.event_size, model.event_size)
    for block in model.stem_of("event"):
        x = block(x)
    model.features(x)
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


def numbers(run: Trainer, inputs: Inputs, kinds: dict[str, Explained]) -> pd.DataFrame:
    """What the run takes the inputs for, one row per kind and recording."""
    names, tables = np.array(run.data.classes), []
    for kind, seen in kinds.items():
        confidence, predicted = seen.logits.softmax(1).max(1)
        columns = {"seed": run.seed, "recording": [run.data.names[i] for i in inputs.recordings]}
        columns |= {"input": kind, "head": seen.head, "class": names[inputs.labels]}
        columns |= {"predicted": names[predicted], "confidence": confidence}
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables)


def scaled(maps: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Over their largest value along these dimensions; zeros stay."""
    largest = maps.amax(dims, keepdim=True)
    return maps / torch.where(largest > 0, largest, 1)


def _figure(
    request: Request,
    names: Sequence[str],
    pictures: dict[str, Tensor],
    seen: Sequence[dict[str, Explained]],
    maps: Callable[[Explained], Tensor],
    labels: Sequence[int] = (),
) -> Figure:
    """A row per name; events and maps to the left, the static image and maps to the right.

    ``pictures`` by kind, and ``maps``: ``[rows, H, W]`` in 0..1; ``labels``: to say predictions.
    """
    n, classes = 1 + len(seen), request.runs[0].data.classes
    figure = request.canvas(0.9 + 1.7 * n, 0.6 + (1.07 if labels else 0.85) * len(names))
    panels = figure.subplots(len(names), 2 * n, squeeze=False)
    for kind, block in zip(KINDS, np.split(panels, 2, axis=1), strict=True):
        shown = pictures[kind].cpu().numpy()
        white = np.percentile(shown[shown > 0], PERCENTILE) if shown.any() else 1
        grey = np.repeat(np.clip(shown / white, 0, 1)[..., None], 3, axis=-1)
        _column(block[:, 0], KINDS[kind], grey)
        for column, name, one in zip(block.T[1:], request.names, seen, strict=True):
            opacity = OPACITY * one[kind].covered.numpy()[..., None]
            heat = HEAT(maps(one[kind]).numpy())[..., :3]
            _column(column, name, (1 - opacity) * grey + opacity * heat)
            for axes, logits, label in zip(column, one[kind].logits, labels, strict=False):
                _say(axes, logits, label, classes)
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


def _say(axes: Axes, logits: Tensor, label: int, classes: Sequence[str]) -> None:
    """Predicted class and confidence, in red where wrong."""
    sure, predicted = logits.softmax(0).max(0)
    name = classes[int(predicted)].replace("_", " ")
    text = textwrap.fill(f"{name}, {100 * sure:.0f}\N{NO-BREAK SPACE}%", 14)
    colour = COLOURS[2] if predicted == label else COLOURS[1]
    axes.set_xlabel(text, color=colour, size=6.5, labelpad=2, parse_math=False)
