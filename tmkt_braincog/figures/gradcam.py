"""Grad-CAM++ through time: where on its input a spiking network finds its class (Figure 3 of TMKT)."""

import textwrap
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce
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

from .. import plots
from ..data import NO_TWIN, TSMDataset
from ..engine.train import Trainer
from ..errors import UserError
from ..files import replacing
from ..methods.event_only import EventOnly
from ..models import TransferModel
from .features import run_names, setting
from .figures import FIGURES, Request

CLASSES = 5  # most classes shown, one recording of each
OBJECT = (
    0.1  # pixels of the object: those with more than this share of their picture's largest value
)
# Hues, so that brightness is left for the picture, without turbo's dark ends.
HEAT = ListedColormap(colormaps["turbo"](np.linspace(0.08, 0.9, 256)), name="heat")
OPACITY = 0.7  # of a map over its picture
PERCENTILE = 99  # of the events per pixel: what is drawn as white
# Grad-CAM++ does not depend on the unit of the activations, but the 1e-6 that the package adds to squared gradients does:
# as they come, those of a mean over many pixels and time-steps drown in it.
UNIT = 1e-4
KINDS = ("event", "static")
CELL = 0.85  # inches
CAPTION = 14  # characters that fit below a cell


@dataclass(frozen=True)
class Inputs:
    """A few test recordings with their static images. Letters: B recordings, T time-steps, H = W pixels.

    Attributes:
        recordings: ``[B]`` indices, one per class.
        labels: ``[B]`` int64.
        streams: ``event``: ``[B, T, 2, H, W]`` float32 counts; ``static``: ``[B, T, 2, H, W]`` float32 in [0, 1], one
            image repeated.
    """

    recordings: np.ndarray
    labels: Tensor
    streams: dict[str, Tensor]

    def pictures(self, kind: str) -> Tensor:
        """``[B, H, W]`` in 0..1, what is shown: events summed over time and polarity, or the static image."""
        summed = self.streams[kind].sum((1, 2))
        return summed / summed.amax((-2, -1), keepdim=True).clamp(min=1e-12)


@dataclass(frozen=True)
class Explained:
    """What one run makes of one kind of input.

    Attributes:
        head: which head decided, ``event`` or ``static``.
        steps: ``[B, T, H, W]`` float32 >= 0, the map of every time-step; the largest value of a recording is 1 (or all
            are 0, where nothing speaks for the class).
        mean: ``[B, H, W]``, their mean over time, again with 1 as its largest value.
        predicted: ``[B]`` int64, by the mean logits over time.
        confidence: ``[B]`` in 0..1, softmax of the mean logits at the predicted class.
        covered: ``[H, W]`` bool, pixels that the maps say something about, see :class:`Target`.
    """

    head: str
    steps: Tensor
    mean: Tensor
    predicted: Tensor
    confidence: Tensor
    covered: Tensor


@FIGURES.register("gradcam")
def draw(request: Request) -> list[Path]:
    """Grad-CAM++ on events and on static images, the runs beside each other.

    Of up to five classes, chosen by the request's seed, one test recording each: events summed over time and the
    static image, and for every run the map of the true class, which is the mean over time of one map per time-step
    (Chattopadhyay et al., WACV 2018, through the package ``grad-cam``). Events go through the event head. The static
    image, repeated over T, is the recording's twin, or where there is none a training image of its class, and goes through
    the static head; a run of ``event-only`` has never trained that one, so its static column uses the event head
    and says so. Networks run in evaluation mode and float32.

    A map lies over the part of the input that it belongs to. Convolutions without padding (``Transfer_SCNN``) leave a
    margin without a map; stretched over the whole input, as is usual, it would be out of place by up to that margin.

    Writes ``gradcam`` (PNG, PDF), ``gradcam_steps`` (the first recording, time-step by time-step) and ``gradcam.csv``: per
    run, recording and kind of input the prediction, its confidence, the share of the map's energy (its sum) that
    lies on the object, and that share for an even map. The object is where there are events, or where the image is
    bright: a rough measure for photographs, and the background for dark drawings on white paper (``N-OMNIGLOT``).

    Raises:
        UserError: the package is not installed, the runs share no test recording, or the model has no feature map.
    """
    inputs = choose(request)
    explained = [{kind: explain(run, inputs, kind) for kind in KINDS} for run in request.runs]
    table, folder = numbers(request.runs, inputs, explained), request.folder
    written = [folder / "gradcam.csv"]
    with replacing(written[0]) as temporary:
        table.to_csv(temporary, index=False)
    for name, figure in (("gradcam", _figure), ("gradcam_steps", _steps_figure)):
        for path in (folder / f"{name}.png", folder / f"{name}.pdf"):
            plots.save(lambda figure=figure: figure(request.runs, inputs, explained), path)
            written.append(path)
    return written


def choose(request: Request) -> Inputs:
    """One test recording for each of up to five classes, and its static image.

    Raises:
        UserError: the runs share no test recording.
    """
    run, rng = request.runs[0], np.random.default_rng(request.seed)
    test, labels = common_test(request.runs), run.data.labels.numpy()
    classes = rng.permutation(np.unique(labels[test]))[: min(CLASSES, request.samples)]
    chosen = np.array([rng.choice(test[labels[test] == c]) for c in np.sort(classes)])
    twins, pools = run.data.twins.copy(), run.data.pools(run.split.static)
    for recording in chosen[twins[chosen] == NO_TWIN]:
        twins[recording] = rng.choice(pools[labels[recording]])
    pairs = TSMDataset(
        run.data.frames,
        run.data.labels,
        run.data.images,
        run.data.image_labels,
        recordings=chosen,
        pools=[np.unique(twins[chosen])] * len(run.data.classes),
        size=run.options.event_size,
        pairing="twin",
        twins=twins,
    )
    batch = pairs[range(len(chosen))]
    static = batch.static[:, None].expand(-1, batch.events.shape[1], -1, -1, -1)
    return Inputs(chosen, batch.label.cpu(), {"event": batch.events, "static": static})


def explain(run: Trainer, inputs: Inputs, kind: str) -> Explained:
    """The maps of the true classes on the inputs of this kind."""
    head = "static" if kind == "static" and not isinstance(run.method, EventOnly) else "event"
    x = inputs.streams[kind].to(run.device)
    maps, logits, covered = class_maps(run.model, x, inputs.labels.tolist(), head)
    confidence, predicted = logits.softmax(1).max(1)
    steps, mean = _scaled(maps, (1, 2, 3)), _scaled(maps.mean(1), (1, 2))
    return Explained(head, steps, mean, predicted, confidence, covered)


class ClassMaps(NamedTuple):
    """Maps ``[B, T, H, W]`` >= 0, not scaled; mean logits ``[B, N]``; pixels with a map, ``[H, W]`` bool. On the CPU."""

    maps: Tensor
    logits: Tensor
    covered: Tensor


def class_maps(model: TransferModel, x: Tensor, classes: Sequence[int], head: str) -> ClassMaps:
    """Grad-CAM++ of the mean logit over time, one map per time-step. The model is not touched: a copy runs.

    Every time-step of the target layer counts as a layer of its own, so that the gradient at a step holds what the step
    does to all later ones, and the weights of its channels are those of that step (Eq. 19 of Grad-CAM++).

    Args:
        x: ``[B, T, 2, H, W]``, on the model's device.
        classes: B, whose logits are explained.
        head: ``event`` or ``static``.

    Raises:
        UserError: the package grad-cam is not installed, or the model has no feature map.
    """
    GradCAMPlusPlus, ClassifierOutputTarget = _package()
    unrolled = _Unrolled(model, head)
    # time as channels: the package takes the picture's size from a tensor of four dimensions
    folded = x.detach().flatten(1, 2).requires_grad_()
    targets = [ClassifierOutputTarget(c) for c in classes]
    cam = GradCAMPlusPlus(unrolled, list(unrolled.steps))
    try:
        cam(folded, targets)
        held = cam.activations_and_grads
        layers = zip(unrolled.steps, held.activations, held.gradients, strict=True)
        # its own maps are scaled step by step; these can be compared over time
        maps = [
            cam.get_cam_image(folded, step, targets, UNIT * a.numpy(), g.numpy() / UNIT)
            for step, a, g in layers
        ]
        maps = torch.from_numpy(np.stack(maps, 1)).clamp(min=0)
        enlarged, size = unrolled.target.enlarged, x.shape[-1]
        covered = enlarged(torch.ones(1, 1, 1, 1), size)[0, 0] > 0
        return ClassMaps(enlarged(maps, size), cam.outputs.detach().cpu(), covered)
    finally:
        cam.activations_and_grads.release()


def _package():
    try:
        from pytorch_grad_cam import GradCAMPlusPlus
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError as error:
        raise UserError(
            f"The package grad-cam cannot be imported ({error}), and the figure gradcam needs it. "
            "Install it with: pip install 'tmkt-braincog[figures]'"
        ) from error
    return GradCAMPlusPlus, ClassifierOutputTarget


class _Unrolled(nn.Module):
    """A copy of the model, ``[B, T 2, H, W]`` -> mean logits ``[B, N]``, whose target layer is one module per time-step."""

    def __init__(self, model: TransferModel, head: str):
        super().__init__()
        model.reset()  # a membrane that is part of a graph cannot be copied
        self.model = deepcopy(model).eval().requires_grad_(False)
        self.head = head
        self.steps = nn.ModuleList(nn.Identity() for _ in range(model.step))
        self.target = find_target(self.model)
        self.target.layer.register_forward_hook(lambda _, __, output: next(self.ahead)(output))

    def forward(self, x: Tensor) -> Tensor:
        self.ahead = iter(self.steps)
        return self.model.run_stream(x.unflatten(1, (-1, 2)), self.head).logits.mean(0)


@dataclass(frozen=True)
class Target:
    """The layer whose output is explained.

    Attributes:
        layer: a module of the model.
        margin: pixels of the input on each side that lie outside its map, because convolutions without padding cut
            them off.
    """

    layer: nn.Module
    margin: float

    def enlarged(self, maps: Tensor, size: int) -> Tensor:
        """``[B, T, h, w]`` -> ``[B, T, size, size]``: bilinear, over the part of the input it belongs to, 0 outside."""
        inner, left = round(size - 2 * self.margin), round(self.margin)
        right = size - inner - left
        return F.pad(
            F.interpolate(maps, size=(inner, inner), mode="bilinear"), (left, right, left, right)
        )


@torch.no_grad()
def find_target(model: TransferModel) -> Target:
    """The last neuron behind the last convolution.

    Where no neuron follows it (``Transfer_ResNet18``), the last module with a map of more than one pixel.

    Args:
        model: in evaluation mode.

    Raises:
        UserError: there is no convolution with a map of more than one pixel.
    """
    called: list[nn.Module] = []
    margin = 0.0

    def note(module: nn.Module, inputs: tuple, output) -> None:
        nonlocal margin
        if not isinstance(output, Tensor) or output.ndim != 4 or output[0, 0].numel() == 1:
            return
        called.append(module)
        if isinstance(module, nn.Conv2d):
            margin += _lost(module) * (model.event_size - 2 * margin) / inputs[0].shape[-1]

    handles = [module.register_forward_hook(note) for module in model.modules()]
    model.reset()
    model.features(next(model.parameters()).new_zeros(1, 2, model.event_size, model.event_size))
    model.reset()
    for handle in handles:
        handle.remove()
    convolutions = [i for i, module in enumerate(called) if isinstance(module, nn.Conv2d)]
    if not convolutions:
        raise UserError(
            f"{type(model).__name__} with --event-size {model.event_size} has no convolution with a map of more than "
            "one pixel, so there is nothing to show on its input. Use a convolutional model or a larger size."
        )
    behind = called[convolutions[-1] :]
    neurons = [module for module in behind if isinstance(module, BaseNode)]
    return Target((neurons or behind)[-1], margin)


def _lost(convolution: nn.Conv2d) -> float:
    """Pixels of its input that a convolution loses on each side."""
    reach, padding = (
        convolution.dilation[0] * (convolution.kernel_size[0] - 1) / 2,
        convolution.padding,
    )
    if isinstance(padding, str):
        return 0.0 if padding == "same" else reach
    return reach - padding[0]


def numbers(
    runs: Sequence[Trainer], inputs: Inputs, explained: Sequence[dict[str, Explained]]
) -> pd.DataFrame:
    """The table behind the picture, one row per run, recording and kind of input."""
    data, rows = runs[0].data, []
    for run, label, kinds in zip(runs, run_names(runs), explained, strict=True):
        for kind, seen in kinds.items():
            on_object = object_pixels(inputs.pictures(kind)).cpu()
            for b, recording in enumerate(inputs.recordings):
                rows.append(
                    {
                        "run": label,
                        "seed": run.seed,
                        "recording": data.names[recording],
                        "input": kind,
                        "head": seen.head,
                        "class": data.classes[inputs.labels[b]],
                        "predicted": data.classes[seen.predicted[b]],
                        "confidence": seen.confidence[b].item(),
                        "energy_on_object": share_inside(seen.mean[b], on_object[b]),
                        "energy_of_even_map": share_inside(seen.covered.float(), on_object[b]),
                    }
                )
    return pd.DataFrame(rows)


def object_pixels(pictures: Tensor) -> Tensor:
    """Where ``[..., H, W]`` >= 0 is above OBJECT times its largest value, bool."""
    return pictures > OBJECT * pictures.amax((-2, -1), keepdim=True)


def share_inside(heat: Tensor, mask: Tensor) -> float:
    """Share of the sum of ``heat`` (``[H, W]``, >= 0) that lies inside the mask; NaN where all of it is 0."""
    return (heat[mask].sum() / heat.sum()).item()


def common_test(runs: Sequence[Trainer]) -> np.ndarray:
    """Sorted indices of the recordings that all runs test on.

    Raises:
        UserError: there are none.
    """
    common = reduce(np.intersect1d, [run.split.test for run in runs])
    if not len(common):
        raise UserError(
            "These runs share no test recording, so nothing can be compared. Give runs of one seed, or of a data set "
            "with a test split of its own."
        )
    return common


def _scaled(maps: Tensor, dims: tuple[int, ...]) -> Tensor:
    largest = maps.amax(dims, keepdim=True)
    return maps / torch.where(largest > 0, largest, 1)


# Pictures


def _figure(
    runs: Sequence[Trainer], inputs: Inputs, explained: Sequence[dict[str, Explained]]
) -> Figure:
    """A row per class; events and maps to the left, the static image and maps to the right."""
    classes, rows = runs[0].data.classes, len(inputs.recordings)
    widths = [1] * (1 + len(runs)) + [0.15] + [1] * (1 + len(runs))
    figure = plots._figure(0.9 + CELL * sum(widths), 0.5 + (CELL + 0.22) * rows, setting(runs[0]))
    panels = figure.subplots(rows, len(widths), squeeze=False, width_ratios=widths)
    for gap in panels[:, 1 + len(runs)]:
        gap.set_axis_off()
    for kind, block in zip(
        KINDS, (panels[:, : 1 + len(runs)], panels[:, 2 + len(runs) :]), strict=True
    ):
        pictures = grey(inputs.pictures(kind))
        block[0, 0].set_title("events" if kind == "event" else "image")
        for b, axes in enumerate(block[:, 0]):
            _show(axes, pictures[b])
        for i, heading in enumerate(_headings(runs, explained, kind)):
            seen = explained[i][kind]
            block[0, i + 1].set_title(heading)
            for b, axes in enumerate(block[:, i + 1]):
                _show(axes, pictures[b], seen.mean[b], seen.covered)
                _caption(axes, seen, b, int(inputs.labels[b]), classes)
    for b, axes in enumerate(panels[:, 0]):
        name = plots._folded(classes[inputs.labels[b]].replace("_", " "))
        axes.set_ylabel(name, rotation=0, ha="right", va="center", parse_math=False)
    _heat_bar(figure, panels)
    return figure


def _steps_figure(
    runs: Sequence[Trainer], inputs: Inputs, explained: Sequence[dict[str, Explained]]
) -> Figure:
    """The first recording: a column per time-step, events and static image one above the other."""
    run, T = runs[0], runs[0].options.step
    name = run.data.classes[inputs.labels[0]].replace("_", " ")
    figure = plots._figure(
        1.3 + 0.7 * T, 0.6 + 0.7 * 2 * (1 + len(runs)), f"{setting(run)}, class {name}"
    )
    panels = figure.subplots(2 * (1 + len(runs)), T, squeeze=False)
    for kind, block in zip(KINDS, np.split(panels, 2), strict=True):
        frames = inputs.streams[kind][0].sum(1)
        frames = grey(frames / frames.amax().clamp(min=1e-12))
        maps = [[(heat, seen[kind].covered) for heat in seen[kind].steps[0]] for seen in explained]
        labels = ["events" if kind == "event" else "image", *_headings(runs, explained, kind)]
        for i, (label, row) in enumerate(zip(labels, block, strict=True)):
            row[0].set_ylabel(label, rotation=0, ha="right", va="center")
            for t, axes in enumerate(row):
                _show(axes, frames[t], *(maps[i - 1][t] if i else ()))
    for t, axes in enumerate(panels[0]):
        axes.set_title(f"t = {t + 1}")
    _heat_bar(figure, panels)
    return figure


def _headings(
    runs: Sequence[Trainer], explained: Sequence[dict[str, Explained]], kind: str
) -> list[str]:
    """The runs' names, with a remark where an image went through the event head."""
    names = [plots._folded(label) for label in run_names(runs)]
    odd = [kind == "static" and seen[kind].head == "event" for seen in explained]
    return [
        name + ("\n(event head)" if remark else "") for name, remark in zip(names, odd, strict=True)
    ]


def grey(pictures: Tensor) -> np.ndarray:
    """``[..., H, W]`` in 0..1 for the eye: a few pixels with very many events would darken the rest."""
    pictures = pictures.cpu().numpy()
    held = pictures[pictures > 0]
    return np.clip(pictures / (np.percentile(held, PERCENTILE) if held.size else 1), 0, 1)


def _show(
    axes: Axes, picture: np.ndarray, heat: Tensor | None = None, covered: Tensor | None = None
) -> None:
    """The picture in grey, with the map over the part of it that it covers."""
    rgb = np.repeat(picture[..., None], 3, axis=-1)
    if heat is not None:
        opacity = OPACITY * covered.numpy()[..., None]
        rgb = (1 - opacity) * rgb + opacity * HEAT(heat.numpy())[..., :3]
    axes.imshow(rgb, interpolation="nearest", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set(visible=True, color="0.75", linewidth=0.5)


def _caption(axes: Axes, seen: Explained, b: int, label: int, classes: Sequence[str]) -> None:
    """Predicted class and confidence, in red where wrong."""
    predicted = int(seen.predicted[b])
    name, percent = (
        classes[predicted].replace("_", " "),
        f"{100 * seen.confidence[b]:.0f}\N{NO-BREAK SPACE}%",
    )
    colour = plots.COLOURS[2] if predicted == label else plots.COLOURS[1]
    text = textwrap.fill(f"{name}, {percent}", CAPTION)
    axes.set_xlabel(text, color=colour, size=6.5, labelpad=2, parse_math=False)


def _heat_bar(figure: Figure, panels: np.ndarray) -> None:
    bar = figure.colorbar(
        ScalarMappable(cmap=HEAT), ax=panels, location="right", shrink=0.7, aspect=35, pad=0.01
    )
    bar.set_label("Grad-CAM++, share of the largest value", size=8)
    bar.ax.tick_params(labelsize=7)
