"""Losses that draw a spiking network to the embeddings of a vision-language model, in float32 at
least: our reading of VL2Spike's abstract (arXiv 2606.15898), whose equations are not public."""

import torch
from torch import Tensor

from .distillation import wide

# A square below this counts as silence: nothing of length 1 is made of it, and the gradient stays
# within 1 / sqrt of it.
SILENT = 1e-4


def unit(x: Tensor) -> Tensor:
    """``x / sqrt(|x|^2 + 1e-4)`` over the last dimension: of length 1, of 0 where x is silent."""
    x = wide(x)
    return x / (x.square().sum(dim=-1, keepdim=True) + SILENT).sqrt()


def contrastive_loss(x: Tensor, anchors: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of ``softmax_m(cos(x_n, a_m) / tau)`` with the target (InfoNCE): ``[n]``.

    Lengths are those of :func:`unit`.

    Args:
        x: ``[n, P]``.
        anchors: ``[m, P]``.
        target: ``[n, m]``, rows that sum to 1.
        temperature: tau > 0.
    """
    with torch.autocast(x.device.type, enabled=False):
        likeness = unit(x) @ unit(anchors).mT
    return -(target * (likeness / temperature).log_softmax(dim=-1)).sum(dim=-1)


def membrane_consistency(membranes: Tensor) -> Tensor:
    """``1 - cos(V[t], V[t - 1])``, the mean over ``t >= 1`` and the batch of ``[T, B, D]``."""
    v = unit(membranes)
    return (1 - (v[1:] * v[:-1]).sum(dim=-1)).mean()


def rate_consistency(spikes: Tensor) -> Tensor:
    """``(F_t - mean_t F_t)^2``, the mean over everything of ``[T, B, F]``."""
    f = wide(spikes)
    return (f - f.mean(dim=0)).square().mean()


def word_targets(text: Tensor, temperature: float) -> Tensor:
    """``softmax_m(cos(w_n, w_m) / tau)`` of the class names' embeddings ``[N, E]``: ``[N, N]``."""
    words = unit(text)
    return (words @ words.mT / temperature).softmax(dim=-1)
