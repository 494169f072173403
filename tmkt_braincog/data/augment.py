"""Augmentation of event frames, the same for all time-steps of a recording.

The recipes of He et al. (AAAI 2024): ``crop`` shifts by up to 4 pixels (N-Caltech101), ``dvs-da`` adds
a flip and a rotation (CEP-DVS).
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import functional as TF

AUGMENTATIONS = ("none", "crop", "dvs-da")
PADDING = 4
MAX_ANGLE = 15.0


def augment_events(events: Tensor, draws: np.ndarray, kind: str) -> Tensor:
    """Random crop after zero padding by 4; for ``dvs-da`` also a horizontal flip and a rotation.

    Args:
        events: ``[B, T, 2, H, W]`` float32.
        draws: ``[B, 4]`` uniform numbers in [0, 1): row shift, column shift, flip, angle.
        kind: one of ``AUGMENTATIONS``.

    Returns:
        Same shape and dtype; rotation in [-15, 15] degrees by nearest neighbour, so that counts stay counts.
    """
    if kind == "none":
        return events
    H, W = events.shape[-2:]
    padded = F.pad(events, (PADDING,) * 4)
    shifts = (draws[:, :2] * (2 * PADDING + 1)).astype(int)
    out = torch.empty_like(events)
    for b, (top, left) in enumerate(shifts):
        sample = padded[b, ..., top : top + H, left : left + W]
        if kind == "dvs-da":
            sample = sample.flip(-1) if draws[b, 2] < 0.5 else sample
            sample = TF.rotate(sample.flatten(0, 1), MAX_ANGLE * (2 * float(draws[b, 3]) - 1)).view_as(sample)
        out[b] = sample
    return out
