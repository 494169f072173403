"""What trained networks make of test recordings beside static images of their classes.

The figures look at the same things: test recordings that the network never trained on, each with an
image of its class out of those that the run may train on (``Split.static``: under the clean
protocol
no twin of a test recording is among them). Both follow from :attr:`Request.seed` alone, so that
methods with the same split are compared on the same pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..data import TSMDataset
from ..data.base import NO_TWIN
from ..data.pairs import Pair
from ..engine.train import Trainer
from .base import Request

BATCH = 32


def as_pairs(
    run: Trainer,
    recordings: np.ndarray,
    images: np.ndarray,
    pools: Sequence[np.ndarray],
    seed: int = 0,
) -> TSMDataset:
    """Not augmented: each of the recordings ``[R]`` with the image at its place in ``images``, out
    of ``pools``."""
    data = run.data
    twins = np.full(len(data.labels), NO_TWIN)
    twins[recordings] = images
    return TSMDataset(
        data.frames,
        data.labels,
        data.images,
        data.image_labels,
        recordings=recordings,
        size=run.options.event_size,
        seed=seed,
        pools=pools,
        pairing="twin",
        twins=twins,
    )


def held_out_pairs(run: Trainer, request: Request) -> TSMDataset:
    """At most ``request.samples`` test recordings in random order, each with a static image of its
    class.

    The images of a class differ as long as it has enough; ``twins`` holds their indices.

    Raises:
        UserError: a class without images.
    """
    rng = np.random.default_rng(request.seed)
    recordings = rng.permutation(run.split.test)[: request.samples]
    labels = run.data.labels.numpy()[recordings]
    # by their own class: under he2024 the pools of some data sets hold images of others
    pools = run.data.pools(run.split.static)
    images = np.full(len(recordings), NO_TWIN)
    for c in np.unique(labels):
        images[labels == c] = np.resize(rng.permutation(pools[c]), (labels == c).sum())
    return as_pairs(run, recordings, images, pools, request.seed)


@torch.inference_mode()
def collect(
    run: Trainer, pairs: TSMDataset, look: Callable[[Pair], Sequence[Tensor]]
) -> tuple[Tensor, ...]:
    """``look(batch)``, tensors ``[B, ...]``, for all pairs in batches: tensors ``[R, ...]`` in host
    memory.

    On the run's device and in its precision, with model and heads in evaluation mode; their mode is
    restored.
    """
    modules: list[nn.Module] = [run.model, run.method]
    modes = [m.training for m in modules]
    seen = []
    try:
        for module in modules:
            module.eval()
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.amp):
            for start in range(0, len(pairs), BATCH):
                batch = pairs[range(start, min(start + BATCH, len(pairs)))].to(run.device)
                seen.append([value.cpu() for value in look(batch)])
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.train(mode)
    return tuple(torch.cat(values) for values in zip(*seen, strict=True))


def event_logits(run: Trainer, request: Request) -> tuple[Tensor, Tensor]:
    """Logits ``[R, T, N]`` of test recordings at every time-step, and their labels ``[R]``."""

    def look(batch: Pair) -> Sequence[Tensor]:
        return run.model(batch.events).event.logits.transpose(0, 1), batch.label

    logits, labels = collect(run, held_out_pairs(run, request), look)
    return logits, labels


@dataclass(frozen=True)
class PairedTaps:
    """Domain features of test recordings and of their static partners.

    Attributes:
        event, static: ``[R, T, D]`` float32, row for row of the same class.
        label: ``[R]`` int64.
        recordings, images: ``[R]``, indices into the run's data.
    """

    event: Tensor
    static: Tensor
    label: Tensor
    recordings: np.ndarray
    images: np.ndarray


def paired_taps(run: Trainer, request: Request) -> PairedTaps:
    """Taps V[t] of both streams, the static one showing the unmixed image at every time-step."""
    pairs = held_out_pairs(run, request)

    def look(batch: Pair) -> Sequence[Tensor]:
        still = batch.static.unsqueeze(1).expand_as(batch.events)
        out = run.model(batch.events, still)
        return out.event.tap.transpose(0, 1), out.static.tap.transpose(0, 1), batch.label

    event, static, label = collect(run, pairs, look)
    images = np.asarray(pairs.twins)[pairs.recordings]
    return PairedTaps(event, static, label, pairs.recordings, images)
