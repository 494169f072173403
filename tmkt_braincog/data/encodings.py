"""Source encodings, by name: what the frames of the static stream are made of."""

from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..registry import Registry
from .base import TransferData
from .camera import CORNERS, EventCamera
from .emulated import emulated_frames
from .frames import resize_frames
from .resident import on_device
from .upload import upload

# Micro-saccades (arXiv 2511.08065): row and column in a 3 x 3 window of what is subtracted and of
# what is added.
MOVEMENTS = (
    *(((2, 2), (1, 0)), ((1, 0), (0, 2)), ((0, 2), (2, 1)), ((2, 1), (0, 0))),
    *(((1, 1), (1, 2)), ((1, 1), (0, 1)), ((1, 1), (0, 2)), ((1, 1), (0, 0))),
)
# Sensor sides that the default path fits: N-MNIST's; and that at which a photograph of 64 pixels
# gives as many events per pixel and second as its real recording (benchmarks/likeness.py).
DIGIT_SIDE, PHOTOGRAPH_SIDE = 34, 55


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


@ENCODINGS.register("repeat")
class Repeat(Encoding):
    """Of both papers: V channel of HSV, in [0, 1], the same in all T frames and both channels."""

    like_events = False

    def __call__(self, values: Tensor, images: np.ndarray, draws: np.ndarray) -> Tensor:
        return values.unsqueeze(1).expand(-1, 2, -1, -1)


@ENCODINGS.register("i2e")
class I2E(Encoding):
    """A random micro-saccade in every time-step, drawn anew for every sample and epoch.

    Args:
        ratio: see :func:`i2e`.
    """

    options = {"ratio": "i2e_ratio"}

    def __init__(self, steps: int, ratio: float = 0.12):
        super().__init__(steps)
        if not 0 < ratio < 1:
            raise UserError(f"--i2e-ratio {ratio:g} is outside (0, 1).")
        self.ratio, self.draws = ratio, steps

    def __call__(self, values: Tensor, images: np.ndarray, draws: np.ndarray) -> Tensor:
        directions = (draws * len(MOVEMENTS)).astype(np.int64)
        return i2e(values, upload(directions, values.device), self.ratio)


def i2e(values: Tensor, directions: Tensor, ratio: float) -> Tensor:
    """Events of an image that moves by a pixel or two in every time-step (Ma et al., AAAI 2026).

    ON where the difference of the shifted images is at least ``ratio (max V - min V)``, OFF where
    it is at most the negative of that; no events without contrast.

    Args:
        values: ``[B, H, W]`` float32, V = max(R, G, B), of any scale.
        directions: ``[B, T]`` int64, indices of :data:`MOVEMENTS`.
        ratio: sensitivity in (0, 1); published: 0.07 (CIFAR), 0.12 (224 pixels), 0.14
            (CIFAR10-DVS).

    Returns:
        ``[B, T, 2, H, W]`` float32, 0 or 1, channel 0 OFF, 1 ON.
    """
    padded = F.pad(values.unsqueeze(1), (1, 1, 1, 1), mode="replicate")
    all_moves = F.conv2d(padded, movement_kernels(values.device))
    index = directions[:, :, None, None].expand(-1, -1, *values.shape[1:])
    moved = all_moves.gather(1, index)
    contrast = values.amax((1, 2)) - values.amin((1, 2))
    least = (ratio * contrast).clamp(min=torch.finfo(values.dtype).tiny)[:, None, None, None]
    return torch.stack([moved <= -least, moved >= least], 2).to(values.dtype)


@cache
def movement_kernels(device: torch.device) -> Tensor:
    """``[8, 1, 3, 3]`` float32, one -1 and one +1 each; made once for a device."""
    kernels = torch.zeros(len(MOVEMENTS), 1, 3, 3)
    for kernel, (old, new) in zip(kernels, MOVEMENTS, strict=True):
        kernel[0][old], kernel[0][new] = -1, 1
    return kernels.to(device)


@ENCODINGS.register("saccade")
class Saccade(Encoding):
    """One emulated recording of each image (Orchard et al. 2015; ESIM; v2e), made once and cached.

    Args:
        camera: numbers of the camera to change, ``NAME=VALUE`` each.
    """

    options = {"camera": "camera"}

    def __init__(self, steps: int, camera: Sequence[str] | None = None):
        super().__init__(steps)
        self.words = camera or ()
        EventCamera().changed(self.words)  # a mistake shows before the data are loaded
        self.frames: Tensor | None = None

    def prepare(self, data: TransferData, which: np.ndarray) -> None:
        if 2 * len(which) > len(data.images):  # then one cache serves all splits
            which = np.arange(len(data.images))
        sides = max(data.images.shape[-2:]), max(data.frames.shape[-2:])
        camera = source_camera(*sides, self.words)
        images = data.images.cpu().numpy()[which]
        made = emulated_frames(images, self.steps, camera, data.source, which)
        frames, what = torch.from_numpy(made["frames"]), f"{data.source}: emulated frames"
        (self.frames,) = on_device(data.frames.device, what, frames)
        self.row_of = np.full(len(data.images), -1)
        self.row_of[which] = np.arange(len(which))

    def __call__(self, values: Tensor, images: np.ndarray, draws: np.ndarray) -> Tensor:
        if self.frames is None:
            raise RuntimeError("prepare() comes before the first batch")
        rows = upload(self.row_of[images], self.frames.device)
        frames = self.frames.index_select(0, rows).to(values.device, non_blocking=True)
        return resize_frames(frames, values.shape[-1])


def source_camera(image_side: int, frame_side: int, words: Sequence[str] = ()) -> EventCamera:
    """The camera for images of this side where the recordings' frames have ``frame_side`` pixels.

    A sensor larger than the image sees it on a dark ground, as in N-MNIST; else both are of one
    size and the image's edge goes on. The path is N-MNIST's triangle, scaled with the sensor.

    Args:
        words: numbers of the camera to change, see :meth:`EventCamera.changed`.
    """
    side = max(image_side, frame_side)
    inside = image_side < side
    scale, border = side / (DIGIT_SIDE if inside else PHOTOGRAPH_SIDE), "dark" if inside else "edge"
    corners = tuple((x * scale, y * scale) for x, y in CORNERS)
    return EventCamera((side, side), corners, border=border).changed(words)
