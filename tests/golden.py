"""Inputs and weights of the golden numbers: an exact integer hash, no random generator involved."""

import zlib

import numpy as np
import torch
from torch import nn

MASK = (1 << 64) - 1


def u01(name: str, n: int, salt: int) -> np.ndarray:
    """``n`` numbers in [0, 1), float64: splitmix64 of index, the name's CRC and salt."""
    with np.errstate(over="ignore"):
        x = (np.arange(n, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x += np.uint64((zlib.crc32(name.encode()) * 2**20 + salt) & MASK)
        x ^= x >> np.uint64(30)
        x *= np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(27)
        x *= np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) / 2.0**53


def symmetric(name: str, shape: tuple[int, ...], salt: int) -> np.ndarray:
    return 2 * u01(name, int(np.prod(shape)), salt).reshape(shape) - 1


def fill(model: nn.Module, theta: nn.Parameter, salt: int) -> None:
    """Give every parameter its golden value; ``theta[t] = 1 - 0.3 t``."""
    norms = {
        f"{name}.{kind}"
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for kind in ("weight", "bias")
    }
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            r = symmetric(name, tuple(parameter.shape), salt)
            if parameter.ndim > 1:
                r = r * np.sqrt(3 / np.prod(parameter.shape[1:]))
            elif name in norms:
                r = (1 if name.endswith("weight") else 0.3) + 0.2 * r
            else:
                r = 0.1 * r
            parameter.copy_(torch.from_numpy(r).reshape(parameter.shape))
        theta.copy_(1 - 0.3 * torch.arange(len(theta), dtype=torch.float64))


def inputs(
    B: int, T: int, size: int, classes: int, salt: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Static frames and event frames ``[B, T, 2, H, W]`` float64, labels ``[B]``."""
    b, h, w = np.meshgrid(np.arange(B), np.arange(size), np.arange(size), indexing="ij")
    v = np.round(255 * (0.5 + 0.5 * np.cos(0.37 * h + 0.23 * w * (b + 1) + b))) / 255
    static = np.broadcast_to(v[:, None, None], (B, T, 2, size, size)).copy()
    u = u01("events", B * T * 2 * size * size, salt)
    u2 = u * u
    u4 = u2 * u2
    event = np.floor(6 * u4 * u4).reshape(B, T, 2, size, size)
    keep = u01("keep", T * 2 * size * size, salt).reshape(T, 2, size, size) < 0.7
    event[2] = np.where(keep, event[0], event[2])
    static[3, ..., : 3 * size // 4, :] = static[0, ..., : 3 * size // 4, :]
    static[1] = event[1]
    labels = (3 * np.arange(B) + 1) % classes
    return torch.from_numpy(static), torch.from_numpy(event), torch.from_numpy(labels)
