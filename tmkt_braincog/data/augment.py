"""Augmentation of event frames, the same for all time-steps of a recording except in ``eventmix``.

The recipes of He et al. (AAAI 2024): ``crop`` shifts by up to 4 pixels (N-Caltech101), ``dvs-da``
adds a flip and a rotation (CEP-DVS). ``nda`` is neuromorphic data augmentation (Li et al., ECCV
2022) as for N-Caltech101, ``nda-wide`` as for CIFAR10-DVS: one of roll, rotation and shear for each
recording, and a flip. ``eventmix`` (Shen et al., 2023) replaces the part of a recording where a
mixture of Gaussians over time and space is largest by that of another recording; here that is one
of the same class, so that the label stays.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .resident import upload

NDA = {"nda": (3, 15.0, 15.0), "nda-wide": (5, 30.0, 30.0)}  # most of roll, rotation and shear
AUGMENTATIONS = ("none", "crop", "dvs-da", *NDA, "eventmix")
PADDING = 4
MAX_ANGLE = 15.0
GAUSSIANS = 4  # of EventMix at most, and at least 2
# Of EventMix: the other recording, the mask's share, how many Gaussians, and 7 for each.
EVENTMIX_DRAWS = 3 + 7 * GAUSSIANS


def augment_events(events: Tensor, draws: np.ndarray, kind: str) -> Tensor:
    """Random crop after zero padding by 4; for ``dvs-da`` also a horizontal flip, then a rotation.
    ``nda``: a third of the recordings each is rolled (what leaves at one side comes in at the
    other), rotated or sheared along its rows, and half of all flipped before.

    The source of every pixel is worked out per sample, then all are looked up at once, on the
    device of the events, which is not waited for. The pixels are the same on every device.

    Args:
        events: ``[B, T, 2, H, W]`` float32.
        draws: ``[B, 4]`` uniform in [0, 1), on the host: row shift, column shift, flip, angle; for
            ``nda`` row shift or angle, column shift, flip, which of the three.
        kind: one of ``AUGMENTATIONS``.

    Returns:
        Same shape and dtype; rotated and sheared to nearest neighbours: counts stay counts.
    """
    if kind in ("none", "eventmix"):  # this one needs another recording
        return events
    B, T, P, H, W = events.shape
    row = torch.arange(H, dtype=torch.float32, device=events.device)[:, None]
    column = torch.arange(W, dtype=torch.float32, device=events.device)
    shifts = np.floor(draws[:, :2] * (2 * PADDING + 1)) - PADDING
    sign = np.ones_like(shifts)
    if kind in NDA:
        row, column = _nda(row, column, draws, *NDA[kind])
        shifts = np.zeros_like(shifts)
    if kind == "dvs-da":
        row, column = _rotated(row, column, MAX_ANGLE * (2 * draws[:, 3] - 1))
    if kind != "crop":
        flipped = draws[:, 2] < 0.5
        sign[flipped, 1] = -1
        shifts[flipped, 1] += W - 1
    # Source i = sign * pixel + shift, as grid_sample counts: its centre is at (2 i + 1) / size - 1.
    # That is half a pixel away from the next one, so that rounding decides nothing.
    a, b = 2 * sign / (H, W), (2 * shifts + 1) / (H, W) - 1
    scale = np.array([a.T, b.T], np.float32)[..., None, None]
    (a_row, a_column), (b_row, b_column) = upload(scale, events.device)
    grid = torch.broadcast_tensors(column * a_column + b_column, row * a_row + b_row)
    flat = events.reshape(B, T * P, H, W)
    out = F.grid_sample(flat, torch.stack(grid, -1), mode="nearest", align_corners=False)
    return out.view(events.shape)


def _nda(
    row: Tensor, column: Tensor, draws: np.ndarray, roll: int, angle: float, shear: float
) -> tuple[Tensor, Tensor]:
    """Pixels ``[B, H, W]`` that a roll, a rotation or a shear brings to these rows and columns."""
    H, W = len(row), len(column)
    which, signed = np.floor(3 * draws[:, 3]), 2 * draws[:, 0] - 1
    row, column = _rotated(row, column, angle * signed * (which == 1))
    slope = np.tan(np.radians(shear * signed)) * (which == 2)
    shifts = np.floor(draws[:, :2] * (2 * roll + 1)) - roll
    columns = [slope, *(shifts * (which == 0)[:, None]).T, which == 0]
    stacked = np.array(columns, np.float32)[..., None, None]
    slope, down, right, rolled = upload(stacked, row.device)
    column = (column + slope * (row - (H - 1) / 2)).round_()
    row = torch.where(rolled > 0, (row - down) % H, row)
    return row, torch.where(rolled > 0, (column - right) % W, column)


def _rotated(row: Tensor, column: Tensor, degrees: np.ndarray) -> tuple[Tensor, Tensor]:
    """Pixels ``[B, H, W]`` that a rotation about the centre brings to these rows and columns.

    The roundings are those of torchvision's ``rotate``, one operation after the other: a product of
    matrices would round as the device likes.
    """
    H, W = len(row), len(column)
    radians = [math.radians(angle) for angle in degrees.tolist()]
    cos, sin = (np.array([f(r) for r in radians], np.float32) for f in (math.cos, math.sin))
    half_w, half_h = np.float32(W / 2), np.float32(H / 2)
    matrix = np.stack([cos / half_w, -sin / half_w, sin / half_h, cos / half_h])
    xx, xy, yx, yy = upload(matrix[..., None, None], row.device)
    x, y = column - (W - 1) / 2, row - (H - 1) / 2
    column = (x * xx + y * xy).add_(1).mul_(W / 2).sub_(0.5).round_()
    row = (x * yx + y * yy).add_(1).mul_(H / 2).sub_(0.5).round_()
    inside = (column.clamp(0, W - 1) == column) & (row.clamp(0, H - 1) == row)
    return torch.where(inside, row, 2 * H + PADDING), column  # no shift brings those back


def eventmix(events: Tensor, others: Tensor, draws: np.ndarray) -> Tensor:
    """``[B, T, 2, H, W]`` with a part of each recording from the other.

    Args:
        draws: ``[B, EVENTMIX_DRAWS]`` uniform in [0, 1), on the host; the first is not used here.
    """
    T, _, H, W = events.shape[1:]
    return torch.where(eventmix_mask(draws, (T, H, W), events.device)[:, :, None], others, events)


def eventmix_mask(draws: np.ndarray, shape: tuple[int, int, int], device: torch.device) -> Tensor:
    """``[B, T, H, W]`` bool: the places above the quantile that the second draw names.

    The mask is that of BrainCog's ``GMM_mask``: each Gaussian has a weight in [0, 1), a mean at any
    place, and along each axis a deviation of a twentieth to a half of its length.
    """
    n = 2 + np.floor(draws[:, 2] * (GAUSSIANS - 1))
    weight, *places = draws[:, 3:].reshape(len(draws), GAUSSIANS, 7).transpose(2, 0, 1)
    along = [(weight * (np.arange(GAUSSIANS) < n[:, None]))[..., None]]
    for size, mean, spread in zip(shape, places[:3], places[3:], strict=True):
        distance = np.arange(size) - np.floor(mean * size)[..., None]
        deviation = np.maximum(spread, 0.1)[..., None] * size / 2
        along.append(np.exp(-((distance / deviation) ** 2) / 2))
    factors = [upload(x.astype(np.float32), device) for x in along]
    density = torch.einsum("bnk,bnt,bnh,bnw->bthw", *factors)
    rank = upload((draws[:, 1] * density[0].numel()).astype(np.int64), device)
    least = density.flatten(1).sort(dim=1).values.gather(1, rank[:, None])
    return density > least[..., None, None]
