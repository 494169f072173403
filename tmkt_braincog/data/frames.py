"""Event frames: counts per time bin and polarity (paper: the T time-steps of the event stream)."""

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

    Args:
        events: made fit by :func:`~tmkt_braincog.data.events.check_events`.
        n_time_bins: T >= 1; else, or without events, a :class:`UserError`.
        sensor_size: (W, H) in pixels.

    Returns:
        ``[T, 2, H, W]`` int16 counts, channel 0 OFF, 1 ON; int32 where one exceeds 32767, where
        tonic's wrap around.
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
    return counts.astype(_integer(counts) if n > np.iinfo(np.int16).max else np.int16)


def _integer(counts: np.ndarray) -> type:
    """The smallest signed type that holds them, int16 at least."""
    return np.int16 if counts.max(initial=0) <= np.iinfo(np.int16).max else np.int32


def apply_mode(counts: np.ndarray, mode: str) -> np.ndarray:
    """Counts as a data set's publishers use them.

    Args:
        counts: ``[T, 2, H, W]``, >= 0.
        mode: ``count``: as they are; ``event``: 1 where any event fell, uint8; ``frequency``:
            divided by the largest count of their frame and polarity, float32 in [0, 1] (N-Omniglot,
            whose publishers divide by the window's length first, in half precision, with a least
            maximum of 1e-5 per us: that only leaves windows of more than 100 ms with a few events
            below 1). Another one is a :class:`UserError`.
    """
    if mode == "count":
        return counts
    if mode == "event":
        return (counts > 0).astype(np.uint8)
    if mode != "frequency":
        raise unknown_name("mode of frames", mode, MODES)
    largest = counts.max((-2, -1), keepdims=True)
    return np.divide(counts, np.maximum(largest, 1), dtype=np.float32)


def narrow(frames: np.ndarray) -> np.ndarray:
    """Counts >= 0 in the smallest of uint8, int16 and int32 that fits; floats as they are."""
    if frames.dtype.kind == "f":
        return frames
    fits = frames.max(initial=0) <= np.iinfo(np.uint8).max
    return frames.astype(np.uint8 if fits else _integer(frames))


def resize_frames(frames: Tensor, size: int) -> Tensor:
    """Resize to a square by bilinear interpolation with aligned corners, without antialiasing.

    The values are interpolated, not the counts preserved: the sum changes with the area, as in the
    BrainCog loaders that the published results were made with.

    Takes ``[..., H, W]`` of any real type; gives ``[..., size, size]`` float32, only cast where it
    has that size already.
    """
    frames = frames.to(torch.float32)
    height, width = frames.shape[-2:]
    if (height, width) == (size, size):
        return frames
    # One channel per leading index: F.interpolate takes exactly two leading dimensions.
    flat = frames.reshape(1, -1, height, width)
    flat = F.interpolate(flat, size=(size, size), mode="bilinear", align_corners=True)
    return flat.reshape(*frames.shape[:-2], size, size)
