"""Evaluation: the event stream alone, by the event head, mean logits over time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import distributed
from ..data.frames import resize_frames
from ..models.exact import widen
from ..models.transfer import TransferModel


@dataclass(frozen=True)
class Metrics:
    """Over all recordings evaluated: ``top1``, ``top5`` in percent, mean cross-entropy ``loss``."""

    top1: float
    top5: float
    loss: float


class Predictions(NamedTuple):
    """What a model says of the recordings of this process.

    Attributes:
        heads: ``[n, N]`` scores of the classes: mean logits over time of the ``event`` head, by
            which all published accuracies are; where asked also of the ``static`` head on the same
            event stream, and the mean probabilities of ``both``.
        loss: ``[n]`` cross-entropy of the event head.
        labels: ``[n]`` int64.
        recordings: ``[n]`` int64.
    """

    heads: dict[str, Tensor]
    loss: Tensor
    labels: Tensor
    recordings: np.ndarray

    def metrics(self) -> Metrics:
        """Of the event head, over all processes."""
        best = self.heads["event"].topk(min(5, self.heads["event"].shape[1])).indices
        right = best == self.labels[:, None]
        return Metrics(*_means(100.0 * right[:, 0], 100.0 * right.any(1), self.loss))

    def top1(self, head: str) -> float:
        """Top-1 accuracy of a head in percent, over all processes."""
        return _means(100.0 * (self.heads[head].argmax(1) == self.labels))[0]


def _means(*columns: Tensor) -> list[float]:
    """Means of ``[n]`` columns over the recordings of all processes."""
    ones = torch.ones_like(columns[0])
    total = distributed.mean(torch.stack([column.double().sum() for column in (*columns, ones)]))
    return (total[:-1] / total[-1]).tolist()


@torch.no_grad()
def predict(
    model: TransferModel,
    frames: Tensor,
    labels: Tensor,
    recordings: np.ndarray,
    device: torch.device,
    batch_size: int = 32,
    amp: bool = False,
    between: Callable[[], None] = lambda: None,
    static_head: bool = False,
) -> Predictions:
    """What ``model`` says in evaluation mode; the mode is restored afterwards.

    Of several processes each takes a part of the recordings, and all must call it.

    Args:
        frames: ``[R, T, 2, H, W]`` counts, resized to the model's input size.
        labels: ``[R]`` int64.
        recordings: indices to evaluate, at least one.
        between: called before every batch, equally often in every process.
        static_head: whether the static head is asked too.
    """
    was_training = model.training
    model.eval()
    own = np.asarray(distributed.share(list(recordings)), dtype=np.int64)
    none = torch.zeros(0, model.num_classes, device=device)
    logits = {"event": [none], **({"static": [none]} if static_head else {})}
    for start in range(0, -(-len(recordings) // distributed.count()), batch_size):
        between()
        chunk = own[start : start + batch_size]
        if not len(chunk):
            continue
        x = resize_frames(frames[chunk], model.event_size).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            out = model(x).event
            logits["event"].append(out.logits.mean(0))
            if static_head:
                logits["static"].append(_static(model, out.spikes))
    model.train(was_training)
    y, heads = labels[own].to(device), {name: torch.cat(parts) for name, parts in logits.items()}
    if static_head:
        heads["both"] = (heads["event"].softmax(1) + heads["static"].softmax(1)) / 2
    return Predictions(heads, F.cross_entropy(heads["event"], y, reduction="none"), y, own)


def _static(model: TransferModel, spikes: Tensor) -> Tensor:
    """Mean logits ``[B, N]`` of the static head for features ``[T, B, F]``."""
    return widen(torch.stack([model.classify(spike, "static") for spike in spikes])).mean(0)


def evaluate(model: TransferModel, *where, **how) -> Metrics:
    """Accuracy by the event head; arguments as of :func:`predict`."""
    return predict(model, *where, **how).metrics()
