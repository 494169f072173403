"""Built-in data set ``ndigits``: scikit-learn's 8 x 8 digits and EMULATED recordings of them.

For trying and testing the whole program without a download. The events come from the sensor model of
:mod:`~tmkt_braincog.data.emulator`, not from a camera; results on them say nothing about N-MNIST.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from ..errors import UserError
from .base import DATASETS, DataSet, TransferData
from .cache import Writer, cached
from .emulator import SENSOR_SIZE, emulate
from .events import Events
from .frames import apply_mode, narrow, to_frames
from .splits import first_portion

log = logging.getLogger(__name__)

STREAM_VERSION = 1
TRAIN_PORTION = 0.5
# Events are the scarcer data: half of the training images have no training recording.
RECORDED_PORTION = 0.5
CLASSES = tuple("0123456789")
IMAGE_SIDE = 28
_CHUNK = 64  # recordings simulated together: small enough for the processor's cache


def load(
    root: str | Path | None = None,
    steps: int = 10,
    size: int | None = None,
    train_portion: float | None = None,
    use_hsv: bool = True,
    mode: str = "count",
) -> TransferData:
    """1797 static digits and one emulated recording of each.

    Args:
        root: not used; nothing is read from disk but the cache.
        steps: T.
        size: not used; frames stay at the sensor's 34 x 34 pixels.
        train_portion: portion of each class's images, in the data's order, that is for training, in
            (0, 1); default 0.5. The first half of these have a training recording too.
        use_hsv: not used; the images are grey.
        mode: what a frame holds, see :func:`~tmkt_braincog.data.frames.apply_mode`.

    Returns:
        Frames ``[1797, T, 2, 34, 34]`` uint8, images ``[1797, 28, 28]`` uint8 in 0..255; recording k
        is of image k.

    Raises:
        UserError: T < 1, or a portion that leaves one side of the split empty.
    """
    images, labels = digit_images()
    train, test = split_in_order(labels, TRAIN_PORTION if train_portion is None else train_portion)
    recorded, _ = first_portion(labels[train], RECORDED_PORTION)
    arrays = emulated_frames(images, steps)
    frames = apply_mode(arrays.pop("frames"), mode)
    log.info(
        "ndigits: %d training images, %d of them with an emulated recording, %d test recordings",
        len(train),
        len(recorded),
        len(test),
    )
    every = np.arange(len(labels))
    return TransferData(
        source="digits",
        target="ndigits",
        classes=CLASSES,
        frames=torch.from_numpy(frames),
        labels=torch.from_numpy(labels),
        names=[f"digits/{i:04d}" for i in every],
        file_ids=every,
        images=torch.from_numpy(images),
        image_labels=torch.from_numpy(labels.copy()),
        twins=every.copy(),
        train=train[recorded],
        test=test,
        static_train=train.copy(),
        static_test=test.copy(),
        statistics=arrays,
        emulated=True,
    )


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """``[1797, 28, 28]`` uint8 images (0 background .. 255) and ``[1797]`` int64 labels.

    scikit-learn's copy of the UCI "Optical Recognition of Handwritten Digits" test set (Alpaydin and
    Kaynak 1998), 8 x 8 with values 0..16, enlarged three times and centred.
    """
    digits = load_digits()
    large = enlarge_thrice(digits.images.astype(np.int64))
    # Nine is the sum of the weights, sixteen the largest value; whole numbers round alike everywhere.
    grey = (large * 255 * 2 + 9 * 16) // (2 * 9 * 16)
    margin = (IMAGE_SIDE - grey.shape[-1]) // 2
    images = np.pad(grey, ((0, 0), (margin, margin), (margin, margin))).astype(np.uint8)
    return images, digits.target.astype(np.int64)


def enlarge_thrice(images: np.ndarray) -> np.ndarray:
    """Bilinear enlargement of ``[..., h, w]`` integers to ``[..., 3 h, 3 w]``, times nine (exact)."""
    for axis in (-2, -1):
        n = images.shape[axis]
        at = np.arange(3 * n) - 1  # thirds of a source pixel, pixel centres aligned at half pixels
        low, high = np.clip(at // 3, 0, n - 1), np.clip(at // 3 + 1, 0, n - 1)
        shape = [1] * images.ndim
        shape[axis] = -1
        weight = (at % 3).reshape(shape)
        images = np.take(images, low, axis) * (3 - weight) + np.take(images, high, axis) * weight
    return images


def split_in_order(labels: np.ndarray, portion: float) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices (train, test): of each class, the first ``round(portion * n)`` are for training.

    Raises:
        UserError: a class would have no training or no test sample.
    """
    if not 0 < portion < 1:
        raise _unusable(portion)
    train, test = first_portion(labels, portion)
    if not set(np.unique(labels)) == set(labels[train]) == set(labels[test]):
        raise _unusable(portion)
    return train, test


def _unusable(portion: float) -> UserError:
    return UserError(
        f"Got a training portion of {portion}, which leaves a class without training or test samples. "
        "Choose a portion between 0 and 1, such as 0.5."
    )


def emulated_stream(images: np.ndarray) -> dict[str, np.ndarray]:
    """Emulated recordings of all images, one after the other, from the cache where made before.

    Returns:
        x, y ``[E]`` uint8, t ``[E]`` int32 us, p ``[E]`` uint8, and offsets ``[R + 1]`` int64:
        recording r is events ``offsets[r]:offsets[r + 1]``.
    """
    return cached(
        "ndigits-events", {"version": STREAM_VERSION}, lambda out: out.add(**_record(images))
    )


def _record(images: np.ndarray) -> dict[str, np.ndarray]:
    log.info("ndigits: emulating %d recordings (once; some ten seconds)", len(images))
    recordings = []
    for first in range(0, len(images), _CHUNK):
        recordings += emulate(images[first : first + _CHUNK], first)
    types = {"x": np.uint8, "y": np.uint8, "t": np.int32, "p": np.uint8}
    stream = {
        name: np.concatenate([r[name].astype(kind) for r in recordings])
        for name, kind in types.items()
    }
    stream["offsets"] = np.cumsum([0] + [len(r) for r in recordings], dtype=np.int64)
    return stream


def emulated_frames(images: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """``frames`` ``[R, T, 2, 34, 34]`` uint8 of :func:`emulated_stream` and their statistics, cached."""

    def build(out: Writer) -> None:
        stream = emulated_stream(images)
        frames = np.stack(
            [
                narrow(to_frames(recording(stream, r), steps, SENSOR_SIZE))
                for r in range(len(images))
            ]
        )
        out.add(frames=frames, **_statistics(stream))

    return cached("ndigits-frames", {"version": STREAM_VERSION, "steps": steps}, build)


def _statistics(stream: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As :class:`~tmkt_braincog.data.recordings.Recordings` has them."""
    offsets, t = stream["offsets"], stream["t"].astype(np.int64)
    n_events = np.diff(offsets)
    width, height = (np.full(len(n_events), side) for side in SENSOR_SIZE)
    return {
        "n_events": n_events,
        "duration_us": t[offsets[1:] - 1] - t[offsets[:-1]],
        "width": width,
        "height": height,
        "n_unsorted": np.zeros_like(n_events),
    }


def recording(stream: dict[str, np.ndarray], r: int) -> Events:
    """Recording r of the stream."""
    part = slice(*stream["offsets"][r : r + 2])
    return {name: stream[name][part] for name in ("x", "y", "t", "p")}


DATASETS.register("ndigits")(
    DataSet(
        load=load,
        sources=("digits",),
        recipe="ndigits",
        get="built in",
        needs="nothing: its events are emulated from scikit-learn's digits",
    )
)
