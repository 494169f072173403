"""A source encoding: from a static image to the frames of the static stream."""

from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from ...registry import Registry
from ..base import TransferData


class Encoding(ABC):
    """``encoding(values, images, draws)``: the static frames of a batch.

    Args:
        steps: T.
    """

    # Further arguments of the constructor, and the options of the command line that give them.
    options: Mapping[str, str] = {}
    draws = 0  # uniform numbers in [0, 1) that a sample takes
    like_events = True  # whether the frames are counts that are augmented as events are

    def __init__(self, steps: int):
        self.steps = steps

    def prepare(self, data: TransferData, which: np.ndarray) -> None:  # noqa: B027
        """Make, or find in the cache, what is the same in all epochs; before the first batch.

        Args:
            which: indices of the images that can be drawn.

        Raises:
            UserError: data that cannot be encoded so.
        """

    @abstractmethod
    def __call__(self, values: Tensor, images: np.ndarray, draws: np.ndarray) -> Tensor:
        """``[B, T, 2, H, W]`` float32, or ``[B, 2, H, W]`` for the same frame at every time-step.

        Args:
            values: ``[B, H, W]`` float32, V channel of HSV in [0, 1], at the size of the events.
            images: ``[B]`` int64, the images' indices in the data set, on the host.
            draws: ``[B, draws]`` uniform in [0, 1), on the host.
        """


ENCODINGS: Registry[type[Encoding]] = Registry("source encoding")


def build_encoding(options: Namespace) -> Encoding:
    """The encoding of ``--source-encoding`` with the options that it takes."""
    encoding = ENCODINGS[options.source_encoding]
    arguments = {name: getattr(options, option) for name, option in encoding.options.items()}
    return encoding(options.step, **arguments)
