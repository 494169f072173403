"""Keep a data set in the memory of the device that trains on it, where it fits."""

import logging
from dataclasses import replace

import torch

from .base import TransferData

log = logging.getLogger(__name__)

SHARE = 0.4  # of the free memory; the rest is for training


def to_device(data: TransferData, device: torch.device) -> TransferData:
    """The data with frames and images on ``device`` if both fit into 40 % of its free memory, else as they are.

    A training step then waits for no transfer. On the CPU nothing is copied: the frames are a memory map,
    which the operating system keeps in memory while there is room.
    """
    if device.type != "cuda":
        return data
    needed = data.frames.nbytes + data.images.nbytes
    free, _ = torch.cuda.mem_get_info(device)
    fits = needed <= SHARE * free
    log.info(
        "%s: %.2f GiB of frames and images %s (%.1f GiB free on %s)",
        data.target, needed / 2**30, "stay on the device" if fits else "stay in host memory", free / 2**30, device,
    )  # fmt: skip
    if not fits:
        return data
    return replace(data, frames=data.frames.to(device), images=data.images.to(device))
