"""Where data lie: a data set in the memory of the device that trains on it, where it fits."""

import logging
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .base import TransferData

log = logging.getLogger(__name__)

SHARE = 0.4  # of the free memory; the rest is for training


def on_device(device: torch.device, what: str, *tensors: Tensor) -> list[Tensor]:
    """The tensors on a GPU if all fit into 40 % of its free memory, else where they are.

    A training step then waits for no transfer. On the CPU nothing is copied: a memory map is kept
    in memory by the operating system while there is room.
    """
    if device.type != "cuda":
        return [*tensors]
    needed = sum(x.nbytes for x in tensors) / 2**30
    free = torch.cuda.mem_get_info(device)[0] / 2**30
    where = device if needed <= SHARE * free else "the host"
    text = "%s: %.2f GiB stay on %s (%.1f GiB free on %s)"
    log.info(text, what, needed, where, free, device)
    return [x.to(device) for x in tensors] if where == device else [*tensors]


def to_device(data: TransferData, device: torch.device) -> TransferData:
    """The data with frames and images where :func:`on_device` leaves them."""
    what = f"{data.target}: frames and images"
    frames, images = on_device(device, what, data.frames, data.images)
    moved = frames is not data.frames
    return replace(data, frames=frames, images=images) if moved else data


def upload(array: np.ndarray, device: torch.device) -> Tensor:
    """A small host array as a tensor; the device that holds the data is not waited for.

    On the CPU it shares the memory. To a GPU it goes through page-locked memory, in the order of
    the stream: a copy from other memory may first wait for all work before it.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
