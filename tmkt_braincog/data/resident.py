"""Keep a data set in the memory of the device that trains on it, where it fits."""

import logging
from dataclasses import replace

import torch

from .base import TransferData

log = logging.getLogger(__name__)

SHARE = 0.4  # of the free memory; the rest is for training


def where_it_fits(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``x`` on a GPU if it fits into 40 % of its free memory, else where it is."""
    if device.type != "cuda" or x.nbytes > SHARE * torch.cuda.mem_get_info(device)[0]:
        return x
    return x.to(device)


def to_device(data: TransferData, device: torch.device) -> TransferData:
    """The data with frames and images on a GPU if both fit into 40 % of its free memory.

    A training step then waits for no transfer. On the CPU nothing is copied: the frames are a
    memory map, which the operating system keeps in memory while there is room.
    """
    if device.type != "cuda":
        return data
    needed = (data.frames.nbytes + data.images.nbytes) / 2**30
    free = torch.cuda.mem_get_info(device)[0] / 2**30
    where = device if needed <= SHARE * free else "the host"
    log.info(
        "%s: %.2f GiB of frames and images stay on %s (%.1f GiB free on %s)",
        data.target, needed, where, free, device,
    )  # fmt: skip
    if where != device:
        return data
    return replace(data, frames=data.frames.to(device), images=data.images.to(device))
