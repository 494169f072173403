"""Small host arrays to the device that holds the data, without waiting for it."""

import numpy as np
import torch
from torch import Tensor


def upload(array: np.ndarray, device: torch.device) -> Tensor:
    """The array as a tensor of the same shape and dtype; on the CPU it shares the memory.

    To a GPU it goes through page-locked memory, in the order of the stream: a copy from other
    memory may first wait for all work before it.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
