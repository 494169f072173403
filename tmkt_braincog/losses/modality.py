"""Losses of the two modality-aware heads on the mixed stream (TMKT Eq. 13-16)."""

import torch.nn.functional as F
from torch import Tensor


def mag_loss(logits: Tensor, y_s: Tensor) -> Tensor:
    """``L_MAG = 1/T sum_t CE(g_s(F_t), y_s[t])``, mean over the batch (Eq. 15).

    Args:
        logits: ``[T, B, 2]``, the MAG head's output.
        y_s: ``[B, T]`` int64, 0 event frame, 1 appearance frame.
    """
    return F.cross_entropy(logits.flatten(0, 1), y_s.transpose(0, 1).flatten())


def mrp_loss(ratio: Tensor, y_m: Tensor) -> Tensor:
    """``L_MRP = MSE(1/T sum_t g_m(F_t), y_m)`` (Eq. 16).

    Args:
        ratio: ``[T, B]``, the MRP head's linear output.
        y_m: ``[B]`` float in [0, 1], share of appearance frames.
    """
    return F.mse_loss(ratio.mean(dim=0), y_m.to(ratio.dtype))
