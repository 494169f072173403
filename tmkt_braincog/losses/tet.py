"""Temporal efficient training (TET): a loss at every time-step instead of one on the mean output.

Deng et al., ICLR 2022; TMKT Eq. 6; as weighted by He et al., AAAI 2024. Logits are ``[T, B, N]``,
labels ``[B]`` int64."""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy_per_step(logits: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of every time-step, averaged over the batch: ``[T]``."""
    T, B, _ = logits.shape
    losses = F.cross_entropy(
        logits.flatten(0, 1), y.repeat(T), reduction="none", label_smoothing=smoothing
    )
    return losses.view(T, B).mean(dim=1)


def mse_per_step(logits: Tensor, target: float) -> Tensor:
    """Mean squared distance of the logits to the constant ``target``, per time-step: ``[T]``."""
    return (logits - target).square().mean(dim=(1, 2))


def classification_loss(
    logits: Tensor,
    y: Tensor,
    *,
    tet: bool = True,
    lamb: float = 0.0,
    threshold: float = 0.5,
    weight: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Classification loss of one stream, a scalar.

    With ``tet``: ``mean_t w_t [(1 - lamb) CE(y[t], y) + lamb MSE(y[t], threshold)]``; without it,
    the cross-entropy of the logits averaged over time (``lamb`` and ``weight`` have no part then).

    Args:
        lamb: weight of the term that pulls the logits to the firing threshold; 1e-3 in the
            reference code of He et al., 0 in TMKT's Eq. 6.
        weight: ``[T]``, w_t; 1 where None.
        smoothing: label smoothing in [0, 1).
    """
    if not tet:
        return F.cross_entropy(logits.mean(dim=0), y, label_smoothing=smoothing)
    per_step = (1 - lamb) * cross_entropy_per_step(logits, y, smoothing)
    if lamb:
        per_step = per_step + lamb * mse_per_step(logits, threshold)
    return (per_step if weight is None else weight * per_step).mean()
