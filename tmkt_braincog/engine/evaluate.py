"""Evaluation: the event stream alone, by the event head, mean logits over time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
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
    """What a model says of recordings; on the CPU, and in every process that of all.

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
        """Of the event head."""
        best = self.heads["event"].topk(min(5, self.heads["event"].shape[1])).indices
        right = best == self.labels[:, None]
        return Metrics(_mean(100.0 * right[:, 0]), _mean(100.0 * right.any(1)), _mean(self.loss))

    def top1(self, head: str) -> float:
        """Top-1 accuracy of a head in percent."""
        return _mean(100.0 * (self.heads[head].argmax(1) == self.labels))

    def table(self, names: Sequence[str]) -> pd.DataFrame:
        """A row per recording: its name of these, its label, and the class by each head."""
        said = {head: scores.argmax(1).tolist() for head, scores in self.heads.items()}
        recordings = [names[i] for i in self.recordings]
        return pd.DataFrame({"recording": recordings, "label": self.labels.tolist(), **said})


def _mean(x: Tensor) -> float:
    return (x.double().sum() / len(x)).item()


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
                steps = [model.classify(spikes, "static") for spikes in out.spikes]
                logits["static"].append(widen(torch.stack(steps)).mean(0))
    model.train(was_training)
    seen = distributed.joined((own, {head: torch.cat(of).cpu() for head, of in logits.items()}))
    recordings = np.concatenate([part for part, _ in seen])
    heads = {head: torch.cat([said[head] for _, said in seen]) for head in logits}
    if static_head:
        heads["both"] = (heads["event"].softmax(1) + heads["static"].softmax(1)) / 2
    y = labels[recordings].cpu()
    loss = F.cross_entropy(heads["event"], y, reduction="none")
    return Predictions(heads, loss, y, recordings)


def evaluate(model: TransferModel, *where, **how) -> Metrics:
    """Accuracy by the event head; arguments as of :func:`predict`."""
    return predict(model, *where, **how).metrics()
