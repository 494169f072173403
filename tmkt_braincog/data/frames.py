"""Event frames: counts per time bin and polarity (paper: the T time-steps of the event stream)."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError, unknown_name
from .events import Events

MODES = ("count", "event", "frequency")


def to_frames(events: Events, n_time_bins: int, sensor_size: tuple[int, int]) -> np.ndarray:
    """Count events in ``n_time_bins`` windows of equal, whole-microsecond length.

    Equal, bit for bit, to tonic's ``ToFrame(sensor_size=(W, H, 2), n_time_bins=T)``: windows last
    ``(t_last - t_first) // T`` us, so the up to T - 1 us left over, with the last event, are in no
    frame; a recording shorter than T us gives frames of zeros.

    Takes events made fit by :func:`~tmkt_braincog.data.events.check_events`, T >= 1 and (W, H) in
    pixels; T < 1 or no events is a :class:`UserError`. Gives ``[T, 2, H, W]`` int16 counts, channel
    0 OFF, 1 ON; int32 where one exceeds 32767, where tonic's wrap around.
    """
    x, y, t, p = (events[column] for column in "xytp")
    if n_time_bins < 1 or not len(t):
        raise UserError(
            f"Got {n_time_bins} time-steps and {len(t)} events; at least 1 of each is needed."
        )
    width, height = sensor_size
    shape = (n_time_bins, 2, height, width)
    first = int(t[0])
    window = (int(t[-1]) - first) // n_time_bins
    if window < 1:
        return np.zeros(shape, np.int16)
    # Sorted times: the bins are slices, found without dividing every time by the window.
    edges = np.searchsorted(t, first + window * np.arange(n_time_bins + 1))
    n = edges[-1]
    index = np.repeat(np.arange(0, 2 * n_time_bins, 2), np.diff(edges))
    index += p[:n]
    for size, column in ((height, y), (width, x)):
        index *= size
        index += column[:n]
    counts = np.bincount(index, minlength=np.prod(shape)).reshape(shape)
    return _smallest(counts, np.int16, np.int32)


def _smallest(counts: np.ndarray, *types: Any) -> np.ndarray:
    """In the first of these types that holds them."""
    top = counts.max(initial=0)
    return counts.astype(next(t for t in types if top <= np.iinfo(t).max))


def apply_mode(counts: np.ndarray, mode: str) -> np.ndarray:
    """Counts ``[T, 2, H, W]`` as a data set's publishers use them; unknown modes: a UserError.

    ``count``: as they are; ``event``: 1 where any event fell, uint8; ``frequency``: divided by the
    largest count of their frame and polarity, float32 in [0, 1] (N-Omniglot, whose publishers
    divide by the window's length first, in half precision, with a least maximum of 1e-5 per us:
    that only leaves windows of more than 100 ms with a few events below 1).
    """
    if mode not in MODES:
        raise unknown_name("mode of frames", mode, MODES)
    if mode == "count":
        return counts
    if mode == "event":
        return (counts > 0).astype(np.uint8)
    largest = counts.max((-2, -1), keepdims=True)
    return np.divide(counts, np.maximum(largest, 1), dtype=np.float32)


def narrow(frames: np.ndarray) -> np.ndarray:
    """Counts >= 0 in the smallest of uint8, int16 and int32 that fits; floats as they are."""
    return frames if frames.dtype.kind == "f" else _smallest(frames, np.uint8, np.int16, np.int32)


def resize_frames(frames: Tensor, size: int) -> Tensor:
    """``[..., H, W]`` of any real type to ``[..., size, size]`` float32, bilinear, aligned corners.

    Without antialiasing: values are interpolated, counts are not preserved (their sum changes with
    the area), as in the BrainCog loaders that the published results were made with.
    """
    frames = frames.to(torch.float32)
    *leading, height, width = frames.shape
    if (height, width) == (size, size):
        return frames
    # One channel per leading index: F.interpolate takes exactly two leading dimensions.
    flat = frames.reshape(1, -1, height, width)
    flat = F.interpolate(flat, size=(size, size), mode="bilinear", align_corners=True)
    return flat.reshape(*leading, size, size)


def framed(events: Events, sensor_size: tuple[int, int], how: Any) -> np.ndarray:
    """Frames ``[T, 2, H, W]`` of checked events; mode, crop and size in this order, as published.

    ``how``: a FrameSpec or a Preparation, which name these fields alike.
    """
    frames = apply_mode(to_frames(events, how.steps, sensor_size), how.mode)
    if how.crop is not None:
        top, bottom, left, right = how.crop
        frames = frames[..., top:bottom, left:right]
    if how.size is not None:
        frames = resize_frames(torch.from_numpy(frames), how.size).numpy()
    return frames
