"""Evaluation: the event stream alone, by the event head, mean logits over time."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from timm.utils import accuracy
from torch import Tensor

from .. import distributed
from ..data.frames import resize_frames
from ..models.transfer import TransferModel


@dataclass(frozen=True)
class Metrics:
    """Over all recordings evaluated: ``top1``, ``top5`` in percent, mean cross-entropy ``loss``."""

    top1: float
    top5: float
    loss: float


@torch.no_grad()
def evaluate(
    model: TransferModel,
    frames: Tensor,
    labels: Tensor,
    recordings: np.ndarray,
    device: torch.device,
    batch_size: int = 32,
    amp: bool = False,
    between: Callable[[], None] = lambda: None,
) -> Metrics:
    """Accuracy of ``model`` in evaluation mode; the mode is restored afterwards.

    Of several processes each takes a part of the recordings, and all must call it.

    Args:
        frames: ``[R, T, 2, H, W]`` counts, resized to the model's input size.
        labels: ``[R]`` int64.
        recordings: indices to evaluate, at least one.
        between: called before every batch, equally often in every process.
    """
    was_training = model.training
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    own = np.asarray(distributed.share(list(recordings)), dtype=np.int64)
    most = -(-len(recordings) // distributed.count())
    for start in range(0, most, batch_size):
        between()
        chunk = own[start : start + batch_size]
        if not len(chunk):
            continue
        x = resize_frames(frames[chunk], model.event_size).to(device)
        y = labels[chunk].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            logits = model(x).event.logits.mean(0)
        top1, top5 = accuracy(logits, y, topk=(1, min(5, logits.shape[1])))
        sums += torch.stack([top1, top5, F.cross_entropy(logits, y)]).double() * len(chunk)
    model.train(was_training)
    total = distributed.mean(sums) * distributed.count()
    return Metrics(*(total / len(recordings)).tolist())
