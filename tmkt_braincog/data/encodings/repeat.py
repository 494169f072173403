"""The encoding ``repeat`` of both papers: the image at every time-step and in both polarities."""

import numpy as np
from torch import Tensor

from .base import ENCODINGS, Encoding


@ENCODINGS.register("repeat")
class Repeat(Encoding):
    """Of both papers: V channel of HSV, in [0, 1], the same in all T frames and both channels."""

    like_events = False

    def __call__(self, values: Tensor, images: np.ndarray, draws: np.ndarray) -> Tensor:
        return values.unsqueeze(1).expand(-1, 2, -1, -1)
