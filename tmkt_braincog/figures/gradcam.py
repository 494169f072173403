"""Where on its input a spiking network finds its class (Figure 3 of TMKT)."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from ..data import NO_TWIN
from ..engine.train import Trainer
from ..methods.event_only import EventOnly
from ..plots import COLOURS
from .base import FIGURES, Request, bare
from .cam import Explained, class_maps
from .features import as_pairs

CLASSES = 5  # most classes shown, one recording of each
OBJECT = 0.1  # pixels of the object: those above this share of their picture's largest value
# Hues, so that brightness is left for the picture, without turbo's dark ends.
HEAT = ListedColormap(colormaps["turbo"](np.linspace(0.08, 0.9, 256)), name="heat")
OPACITY = 0.7  # of a map over its picture
PERCENTILE = 99  # of the events per pixel: what is drawn as white
KINDS = {"event": "events", "static": "image"}


@dataclass(frozen=True)
class Inputs:
    """A few test recordings, one per class, with their static images.

    Attributes:
        recordings, labels: ``[B]`` int64.
        streams: by kind ``[B, T, 2, H, W]`` float32: counts, or one image in [0, 1] repeated.
    """

    recordings: np.ndarray
    labels: Tensor
    streams: dict[str, Tensor]

    def pictures(self, kind: str) -> Tensor:
        """``[B, H, W]`` in 0..1, what is shown: events summed over time and polarity, or the static
        image."""
        return scaled(self.streams[kind].sum((1, 2)), (-2, -1))


@FIGURES.register("gradcam")
def draw(request: Request) -> list[Path]:
    """Grad-CAM++ on events and on static images, the runs beside each other.

    Of up to five classes one test recording each, and for every run the map of the true class, the
    mean
    over time of one map per time-step (Chattopadhyay et al., WACV 2018, through the package
    ``grad-cam``). The static image, repeated over T, is the recording's twin, or where there is
    none a
    training image of its class; it goes through the static head, which ``event-only`` has never
    trained: there through the event head. Evaluation mode, float32. Convolutions without padding
    leave
    a margin without a map; stretched over the whole input it would be out of place.

    ``gradcam_steps`` shows the first recording step by step. ``gradcam.csv``: per run, recording
    and kind
    the prediction, its confidence, the share of the map's sum on the object, and that of an even
    map.
    The object is where there are events, or where the image is bright: a rough measure for
    photographs,
    and the background for dark drawings on white paper (``N-OMNIGLOT``).

    Raises:
        UserError: the package is not installed, the runs share no test recording, or the model has
        no feature map.
    """
    inputs = choose(request)
    seen = [{kind: explain(run, inputs, kind) for kind in KINDS} for run in request.runs]
    kinds = dict(zip(request.runs, seen, strict=True))
    table = request.table(lambda run: numbers(run, inputs, kinds[run]))
    pictures = {
        "gradcam": lambda: _figure(request, inputs, seen),
        "gradcam_steps": lambda: _steps_figure(request, inputs, seen),
    }
    about = (
        "Maps of the true class over its input; below each the predicted class, red where wrong."
    )
    return request.publish("gradcam", pictures, table, about, digits=None)


def choose(request: Request) -> Inputs:
    """One test recording for each of up to five classes, and its static image.

    Raises:
        UserError: the runs share no test recording.
    """
    run, rng = request.runs[0], np.random.default_rng(request.seed)
    test, labels = request.common_test(), run.data.labels.numpy()
    classes = rng.permutation(np.unique(labels[test]))[: min(CLASSES, request.samples)]
    chosen = np.array([rng.choice(test[labels[test] == c]) for c in np.sort(classes)])
    images, pools = run.data.twins[chosen].copy(), run.data.pools(run.split.static)
    for i in np.flatnonzero(images == NO_TWIN):
        images[i] = rng.choice(pools[labels[chosen[i]]])
    pairs = as_pairs(run, chosen, images, [np.unique(images)] * len(run.data.classes))
    batch = pairs[range(len(chosen))]
    static = batch.static[:, None].expand(-1, batch.events.shape[1], -1, -1, -1)
    return Inputs(chosen, batch.label.cpu(), {"event": batch.events, "static": static})


def explain(run: Trainer, inputs: Inputs, kind: str) -> Explained:
    """The maps of the true classes on the inputs of this kind."""
    head = "static" if kind == "static" and not isinstance(run.method, EventOnly) else "event"
    x = inputs.streams[kind].to(run.device)
    return class_maps(run.model, x, inputs.labels.tolist(), head)


def numbers(run: Trainer, inputs: Inputs, kinds: dict[str, Explained]) -> pd.DataFrame:
    """The table behind the picture, one row per kind of input and recording."""
    data, rows = run.data, []
    for kind, seen in kinds.items():
        on_object = object_pixels(inputs.pictures(kind)).cpu()
        heat, (confidence, predicted) = _mean(seen), seen.logits.softmax(1).max(1)
        for b, recording in enumerate(inputs.recordings):
            row = {"seed": run.seed, "recording": data.names[recording], "input": kind}
            row |= {"head": seen.head, "class": data.classes[inputs.labels[b]]}
            row |= {"predicted": data.classes[predicted[b]], "confidence": confidence[b].item()}
            row["energy_on_object"] = share_inside(heat[b], on_object[b])
            row["energy_of_even_map"] = share_inside(seen.covered.float(), on_object[b])
            rows.append(row)
    return pd.DataFrame(rows)


def object_pixels(pictures: Tensor) -> Tensor:
    """Where ``[..., H, W]`` >= 0 is above OBJECT times its largest value, bool."""
    return pictures > OBJECT * pictures.amax((-2, -1), keepdim=True)


def share_inside(heat: Tensor, mask: Tensor) -> float:
    """Share of the sum of ``heat`` (``[H, W]``, >= 0) that lies inside the mask; NaN where all of
    it is 0."""
    return (heat[mask].sum() / heat.sum()).item()


def scaled(maps: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Over their largest value along these dimensions; zeros stay."""
    largest = maps.amax(dims, keepdim=True)
    return maps / torch.where(largest > 0, largest, 1)


def _mean(seen: Explained) -> Tensor:
    """``[B, H, W]``, the mean over time, at most 1."""
    return scaled(seen.maps.mean(1), (1, 2))


def _figure(request: Request, inputs: Inputs, seen: Sequence[dict[str, Explained]]) -> Figure:
    """A row per class; events and maps to the left, the static image and maps to the right."""
    classes, rows, n = request.runs[0].data.classes, len(inputs.labels), 1 + len(seen)
    widths = [1] * n + [0.15] + [1] * n
    figure = request.canvas(0.9 + 0.85 * sum(widths), 0.6 + 1.07 * rows)
    panels = figure.subplots(rows, len(widths), squeeze=False, width_ratios=widths)
    for gap in panels[:, n]:
        gap.set_axis_off()
    for kind, block in zip(KINDS, (panels[:, :n], panels[:, n + 1 :]), strict=True):
        pictures = grey(inputs.pictures(kind))
        for axes, heading in zip(block[0], _headings(request, seen, kind), strict=True):
            axes.set_title(heading, size=8)
        for b, (axes, *others) in enumerate(block):
            _show(axes, pictures[b])
            for one, on in zip(seen, others, strict=True):
                _show(on, pictures[b], _mean(one[kind])[b], one[kind].covered)
                _say(on, one[kind].logits[b], int(inputs.labels[b]), classes)
    for label, axes in zip(inputs.labels, panels[:, 0], strict=True):
        _name(axes, textwrap.fill(classes[label].replace("_", " "), 14))
    _heat_bar(figure, panels)
    return figure


def _steps_figure(request: Request, inputs: Inputs, seen: Sequence[dict[str, Explained]]) -> Figure:
    """The first recording: a column per time-step, events and static image one above the other."""
    T, rows = request.runs[0].options.step, 2 * (1 + len(seen))
    figure = request.canvas(1.3 + 0.7 * T, 0.6 + 0.7 * rows)
    panels = figure.subplots(rows, T, squeeze=False)
    for kind, block in zip(KINDS, np.split(panels, 2), strict=True):
        frames = grey(scaled(inputs.streams[kind][0].sum(1), (0, 1, 2)))
        for row, label in zip(block, _headings(request, seen, kind), strict=True):
            _name(row[0], label)
        for t, (axes, *others) in enumerate(block.T):
            _show(axes, frames[t])
            for one, on in zip(seen, others, strict=True):
                _show(on, frames[t], scaled(one[kind].maps[0], (0, 1, 2))[t], one[kind].covered)
    for t, axes in enumerate(panels[0]):
        axes.set_title(f"t = {t + 1}")
    _heat_bar(figure, panels)
    return figure


def _headings(request: Request, seen: Sequence[dict[str, Explained]], kind: str) -> list[str]:
    """The input, then the runs, with a remark where an image went through the event head."""
    names = [textwrap.fill(name, 14) for name in request.names]
    remarks = ["" if one[kind].head == kind else "\n(event head)" for one in seen]
    return [KINDS[kind], *(name + remark for name, remark in zip(names, remarks, strict=True))]


def _name(axes: Axes, text: str) -> None:
    axes.set_ylabel(text, rotation=0, ha="right", va="center", parse_math=False)


def grey(pictures: Tensor) -> np.ndarray:
    """``[..., H, W]`` in 0..1 for the eye: a few pixels with very many events would darken the
    rest."""
    shown = pictures.cpu().numpy()
    held = shown[shown > 0]
    return np.clip(shown / (np.percentile(held, PERCENTILE) if held.size else 1), 0, 1)


def _show(
    axes: Axes, picture: np.ndarray, heat: Tensor | None = None, covered: Tensor | None = None
) -> None:
    """The picture in grey, with the map over the part of it that it covers."""
    rgb = np.repeat(picture[..., None], 3, axis=-1)
    if heat is not None and covered is not None:
        opacity = OPACITY * covered.numpy()[..., None]
        rgb = (1 - opacity) * rgb + opacity * HEAT(heat.numpy())[..., :3]
    axes.imshow(rgb, interpolation="nearest", vmin=0, vmax=1)
    bare(axes)


def _say(axes: Axes, logits: Tensor, label: int, classes: Sequence[str]) -> None:
    """Predicted class and confidence, in red where wrong."""
    sure, predicted = logits.softmax(0).max(0)
    name = classes[int(predicted)].replace("_", " ")
    text = textwrap.fill(f"{name}, {100 * sure:.0f}\N{NO-BREAK SPACE}%", 14)
    colour = COLOURS[2] if predicted == label else COLOURS[1]
    axes.set_xlabel(text, color=colour, size=6.5, labelpad=2, parse_math=False)


def _heat_bar(figure: Figure, panels: np.ndarray) -> None:
    bar = figure.colorbar(ScalarMappable(cmap=HEAT), ax=panels, shrink=0.7, aspect=35, pad=0.01)
    bar.set_label("Grad-CAM++, share of the largest value", size=8)
    bar.ax.tick_params(labelsize=7)
