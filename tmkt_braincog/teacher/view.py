"""What a teacher sees of a static image, or of a recording, in which time is averaged away."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import TransferData


def teacher_input(data: TransferData, on: str, which: np.ndarray, size: int) -> Tensor:
    """Images of these static images or recordings, as a teacher takes them.

    ``static``: the V channel three times. ``events``: the mean of the frames over time, in the channels OFF, ON and
    their sum, divided by the largest value of the recording.

    Args:
        which: ``[n]`` indices of images or recordings.
        size: side in pixels; bilinear, antialiased.

    Returns:
        ``[n, 3, size, size]`` float32 in [0, 1].
    """
    if on == "static":
        v = data.images[torch.from_numpy(which).to(data.images.device)]
        v = v.float() / 255 if v.dtype == torch.uint8 else v.float()
        x = v.unsqueeze(1)
    else:
        x = data.frames[torch.from_numpy(which).to(data.frames.device)].float().mean(dim=1)
        x = torch.cat([x, x.sum(dim=1, keepdim=True)], dim=1)
        x = x / x.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
    x = F.interpolate(x, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
    return x.expand(-1, 3, -1, -1)
