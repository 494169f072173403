"""The encoding ``i2e``: differences of the image and itself, shifted (Ma et al., AAAI 2026)."""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import UserError
from ..resident import upload
from .base import ENCODINGS, Encoding

# Micro-saccades (arXiv 2511.08065): row and column in a 3 x 3 window of what is subtracted and of
# what is added; the time-steps of a fixed sequence go through them in this order.
MOVEMENTS = (
    *(((2, 2), (1, 0)), ((1, 0), (0, 2)), ((0, 2), (2, 1)), ((2, 1), (0, 0))),
    *(((1, 1), (1, 2)), ((1, 1), (0, 1)), ((1, 1), (0, 2)), ((1, 1), (0, 0))),
)
ORDER = (4, 5, 6, 7, 0, 1, 2, 3)


@cache
def movement_kernels(device: torch.device) -> Tensor:
    """``[8, 1, 3, 3]`` float32, one -1 and one +1 each; made once for a device."""
    kernels = torch.zeros(len(MOVEMENTS), 1, 3, 3)
    for kernel, (old, new) in zip(kernels, MOVEMENTS, strict=True):
        kernel[0][old], kernel[0][new] = -1, 1
    return kernels.to(device)


def i2e(values: Tensor, directions: Tensor, ratio: float) -> Tensor:
    """Events of an image that moves by a pixel or two in every time-step.

    ON where the difference of the shifted images is at least ``ratio (max V - min V)``, OFF where
    it is at most the negative of that; no events without contrast.

    Args:
        values: ``[B, H, W]`` float32, V = max(R, G, B), of any scale.
        directions: ``[B, T]`` int64, indices of :data:`MOVEMENTS`.
        ratio: sensitivity in (0, 1); published: 0.07 (CIFAR), 0.12 (224 pixels), 0.14
            (CIFAR10-DVS).

    Returns:
        ``[B, T, 2, H, W]`` float32, 0 or 1, channel 0 OFF, 1 ON.
    """
    padded = F.pad(values.unsqueeze(1), (1, 1, 1, 1), mode="replicate")
    all_moves = F.conv2d(padded, movement_kernels(values.device))
    index = directions[:, :, None, None].expand(-1, -1, *values.shape[1:])
    moved = all_moves.gather(1, index)
    contrast = values.amax((1, 2)) - values.amin((1, 2))
    least = (ratio * contrast).clamp(min=torch.finfo(values.dtype).tiny)[:, None, None, None]
    return torch.stack([moved <= -least, moved >= least], 2).to(values.dtype)


@ENCODINGS.register("i2e")
class I2E(Encoding):
    """A random micro-saccade in every time-step, drawn anew for every sample and epoch.

    Args:
        ratio: see :func:`i2e`.
    """

    options = {"ratio": "i2e_ratio"}

    def __init__(self, steps: int, ratio: float = 0.12):
        super().__init__(steps)
        if not 0 < ratio < 1:
            raise UserError(f"--i2e-ratio {ratio:g} is outside (0, 1).")
        self.ratio, self.draws = ratio, steps

    def __call__(self, values: Tensor, images: np.ndarray, draws: np.ndarray) -> Tensor:
        directions = (draws * len(MOVEMENTS)).astype(np.int64)
        return i2e(values, upload(directions, values.device), self.ratio)
