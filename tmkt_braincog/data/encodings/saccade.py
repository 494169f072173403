"""The encoding ``saccade``: recordings of the images by an emulated event camera."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..base import TransferData
from ..camera import CORNERS, EventCamera
from ..emulated import emulated_frames
from ..frames import resize_frames
from ..resident import on_device, upload
from .base import ENCODINGS, Encoding

# Sensor sides that the default path fits: N-MNIST's; and that at which a photograph of 64 pixels
# gives as many events per pixel and second as its real recording (benchmarks/likeness.py).
DIGIT_SIDE, PHOTOGRAPH_SIDE = 34, 55


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


@ENCODINGS.register("saccade")
class Saccade(Encoding):
    """One emulated recording of each image (Orchard et al. 2015; ESIM; v2e), made once and cached.

    Args:
        camera: numbers of the camera to change, ``NAME=VALUE`` each.
    """

    options = {"camera": "camera"}

    def __init__(self, steps: int, camera: Sequence[str] = ()):
        super().__init__(steps)
        self.words = tuple(camera or ())
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
