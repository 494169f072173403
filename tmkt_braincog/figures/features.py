"""What trained networks make of test recordings beside static images of their classes.

The images are of those that the run may train on (``Split.static``: under the clean protocol no
twin of a test recording). Methods with the same split see the same pairs.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data import NO_TWIN, Pair, TSMDataset
from ..data.encodings import build_encoding
from ..engine.train import Trainer
from ..errors import UserError
from .base import Request

BATCH = 32


def pairs_of(run: Trainer, recordings: np.ndarray, images: np.ndarray) -> TSMDataset:
    """Each of the recordings ``[R]``, not augmented, with the image at its place in ``images``."""
    data = run.data
    twins = np.full(len(data.labels), NO_TWIN)
    twins[recordings] = images
    encoding = build_encoding(run.options) if run.method.needs_images else None
    if encoding is not None:
        encoding.prepare(data, np.unique(images))
    return TSMDataset(
        *(data.frames, data.labels, data.images, data.image_labels),
        recordings=recordings,
        size=run.options.event_size,
        pools=[np.unique(images)] * len(data.classes),
        pairing="twin",
        twins=twins,
        encoding=encoding,
    )


def held_out_pairs(run: Trainer, request: Request) -> TSMDataset:
    """At most ``request.samples`` test recordings in random order, each with an image of its class.

    The images of a class differ as long as it has enough; ``twins`` holds their indices.
    """
    rng = np.random.default_rng(0)
    recordings = rng.permutation(run.split.test)[: request.samples]
    labels, images = run.data.labels.numpy()[recordings], np.zeros(len(recordings), int)
    # by their own class: under he2024 the pools of some data sets hold images of others
    pools = run.data.pools(run.split.static)
    for c in np.unique(labels):
        images[labels == c] = np.resize(rng.permutation(pools[c]), (labels == c).sum())
    return pairs_of(run, recordings, images)


@torch.inference_mode()
def collect(
    run: Trainer, pairs: TSMDataset, look: Callable[[Pair], Sequence[Tensor]]
) -> tuple[Tensor, ...]:
    """``look(batch)``, tensors ``[B, ...]``, for all pairs: tensors ``[R, ...]`` in host memory.

    On the run's device, in its precision, in evaluation mode, in which both modules are left.
    """
    run.modules.eval()
    seen = []
    with torch.autocast(run.device.type, torch.bfloat16, enabled=run.amp):
        for start in range(0, len(pairs), BATCH):
            batch = pairs[range(start, min(start + BATCH, len(pairs)))].to(run.device)
            seen.append([value.cpu() for value in look(batch)])
    return tuple(map(torch.cat, zip(*seen, strict=True)))


def event_logits(run: Trainer, request: Request) -> tuple[Tensor, Tensor]:
    """Logits ``[R, T, N]`` of test recordings at every time-step, and their labels ``[R]``."""

    def look(batch: Pair) -> Sequence[Tensor]:
        return run.model(batch.events).event.logits.transpose(0, 1), batch.label

    logits, labels = collect(run, held_out_pairs(run, request), look)
    return logits, labels


class PairedTaps(NamedTuple):
    """Taps V[t] of test recordings and of their partners, shown unmixed at every time-step.

    ``event``, ``static`` ``[R, T, D]`` float32 and ``label`` ``[R]`` int64, row for row of one
    class; ``recordings``, ``images`` ``[R]``, indices into the run's data.
    """

    event: Tensor
    static: Tensor
    label: Tensor
    recordings: np.ndarray
    images: np.ndarray


def paired_taps(run: Trainer, request: Request, least: int = 1) -> PairedTaps:
    """A UserError where there are fewer than ``least`` pairs."""
    pairs = held_out_pairs(run, request)
    if (n := len(pairs)) < least:
        what = f"{n} test recordings say nothing here: give --samples of at least {least}"
        raise UserError(f"{what}, better 300.")

    def look(batch: Pair) -> Sequence[Tensor]:
        out = run.model(batch.events, batch.static_frames())
        return out.event.tap.transpose(0, 1), out.static.tap.transpose(0, 1), batch.label

    images = np.asarray(pairs.twins)[pairs.recordings]
    event, static, label = collect(run, pairs, look)
    return PairedTaps(event, static, label, pairs.recordings, images)
