"""EventMix (Shen et al., 2023): a part of a recording is that of another one.

The part is where a mixture of Gaussians over time and space is largest. The other recording is of
the same class here, so that the label stays; the mask is that of BrainCog's ``GMM_mask``.
"""

import numpy as np
import torch
from torch import Tensor

from .upload import upload

MOST = 4  # Gaussians, 2 at least
DRAWS = 3 + 7 * MOST  # the other recording, the mask's share, how many Gaussians, and 7 for each


def mixed(events: Tensor, others: Tensor, draws: np.ndarray) -> Tensor:
    """``[B, T, 2, H, W]`` with a part of each recording from the other.

    Args:
        draws: ``[B, DRAWS]`` uniform in [0, 1), on the host; the first one is not used here.
    """
    T, _, H, W = events.shape[1:]
    return torch.where(mask(draws, (T, H, W), events.device)[:, :, None], others, events)


def mask(draws: np.ndarray, shape: tuple[int, int, int], device: torch.device) -> Tensor:
    """``[B, T, H, W]`` bool: the places above the quantile that the second draw names.

    Each Gaussian has a weight in [0, 1), a mean at any place, and along each axis a deviation of a
    twentieth to a half of its length.
    """
    n = 2 + np.floor(draws[:, 2] * (MOST - 1))
    weight, *places = draws[:, 3:].reshape(len(draws), MOST, 7).transpose(2, 0, 1)
    along = [(weight * (np.arange(MOST) < n[:, None]))[..., None]]
    for size, mean, spread in zip(shape, places[:3], places[3:], strict=True):
        distance = np.arange(size) - np.floor(mean * size)[..., None]
        deviation = np.maximum(spread, 0.1)[..., None] * size / 2
        along.append(np.exp(-((distance / deviation) ** 2) / 2))
    factors = [upload(x.astype(np.float32), device) for x in along]
    density = torch.einsum("bnk,bnt,bnh,bnw->bthw", *factors)
    rank = upload((draws[:, 1] * density[0].numel()).astype(np.int64), device)
    least = density.flatten(1).sort(dim=1).values.gather(1, rank[:, None])
    return density > least[..., None, None]
