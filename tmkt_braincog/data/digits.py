"""Built-in data set ``ndigits``: scikit-learn's 8 x 8 digits and EMULATED recordings of them.

For trying and testing the whole program without a download. The events come from a sensor model
(:mod:`~tmkt_braincog.data.emulator`), not from a camera; results say nothing about N-MNIST.
"""

import hashlib
import logging
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from .base import DATASETS, DataSet, LoadSpec, TransferData
from .cache import Writer, cached
from .emulator import SENSOR_SIZE, SensorModel, emulate
from .events import Events
from .frames import apply_mode, narrow, to_frames
from .splits import first_portion, portion_split

log = logging.getLogger(__name__)

STREAM_VERSION = 2  # of the code: its numbers are part of the cache's key
TRAIN_PORTION = 0.5
# Events are the scarcer data: half of the training images have no training recording.
RECORDED_PORTION = 0.5
IMAGE_SIDE = 28
_CHUNK = 64  # recordings simulated together: small enough for the processor's cache


def load(spec: LoadSpec) -> TransferData:
    """1797 static digits, 28 x 28, and one emulated recording of each, 34 x 34; k shows image k.

    The first ``train_portion`` (default 0.5) of each class's images train, and the first half of
    these have a training recording too. Nothing is read from disk but the cache.
    """
    images, labels = digit_images()
    train, test = portion_split(labels, spec.portion(TRAIN_PORTION), TRAIN_PORTION)
    recorded, _ = first_portion(labels[train], RECORDED_PORTION)
    arrays = emulated_frames(images, spec.steps)
    frames = apply_mode(arrays.pop("frames"), spec.mode)
    every = np.arange(len(labels))
    return TransferData(
        source="digits",
        target="ndigits",
        classes=tuple("0123456789"),
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
        statistics=arrays,
        emulated=True,
    )


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """``[1797, 28, 28]`` uint8 images (0 background .. 255) and ``[1797]`` int64 labels.

    scikit-learn's copy of the UCI "Optical Recognition of Handwritten Digits" test set (Alpaydin
    and Kaynak 1998), 8 x 8 with values 0..16, enlarged three times and centred.
    """
    digits = load_digits()
    large = enlarge_thrice(digits.images.astype(np.int64))
    # Nine is the sum of the weights, sixteen the largest value; integers round alike everywhere.
    grey = (large * 255 * 2 + 9 * 16) // (2 * 9 * 16)
    margin = (IMAGE_SIDE - grey.shape[-1]) // 2
    images = np.pad(grey, ((0, 0), (margin, margin), (margin, margin))).astype(np.uint8)
    return images, digits.target.astype(np.int64)


def enlarge_thrice(images: np.ndarray) -> np.ndarray:
    """``[..., h, w]`` integers enlarged to ``[..., 3 h, 3 w]``, bilinear, times nine (exact)."""
    for axis in (-2, -1):
        n = images.shape[axis]
        at = np.arange(3 * n) - 1  # thirds of a source pixel, pixel centres aligned at half pixels
        low, high = np.clip(at // 3, 0, n - 1), np.clip(at // 3 + 1, 0, n - 1)
        weight = (at % 3).reshape((-1,) + (1,) * (-1 - axis))
        images = np.take(images, low, axis) * (3 - weight) + np.take(images, high, axis) * weight
    return images


def _key(images: np.ndarray) -> dict[str, Any]:
    """All that the recordings depend on."""
    pixels = hashlib.sha256(images.tobytes()).hexdigest()
    return {"images": pixels, "sensor": SensorModel().key(), "version": STREAM_VERSION}


def emulated_stream(images: np.ndarray) -> dict[str, np.ndarray]:
    """Emulated recordings of all images, one after the other, from the cache where made before.

    Returns:
        x, y ``[E]`` uint8, t ``[E]`` int32 us, p ``[E]`` uint8, and offsets ``[R + 1]`` int64:
        recording r is events ``offsets[r]:offsets[r + 1]``.
    """
    return cached("ndigits-events", _key(images), lambda out: out.add(**_record(images)))


def _record(images: np.ndarray) -> dict[str, np.ndarray]:
    log.info("ndigits: emulating %d recordings (once; some ten seconds)", len(images))
    chunks = [emulate(images[i : i + _CHUNK], i) for i in range(0, len(images), _CHUNK)]
    recordings = [recording for chunk in chunks for recording in chunk]
    events = np.concatenate(recordings)
    types = {"x": np.uint8, "y": np.uint8, "t": np.int32, "p": np.uint8}
    stream = {name: events[name].astype(kind) for name, kind in types.items()}
    return {**stream, "offsets": np.cumsum([0, *map(len, recordings)], dtype=np.int64)}


def emulated_frames(images: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """``frames`` ``[R, T, 2, 34, 34]`` uint8 of :func:`emulated_stream` and their statistics."""

    def build(out: Writer) -> None:
        stream = emulated_stream(images)
        events = (recording(stream, r) for r in range(len(images)))
        frames = [narrow(to_frames(e, steps, SENSOR_SIZE)) for e in events]
        out.add(frames=np.stack(frames), **_statistics(stream))

    return cached("ndigits-frames", {**_key(images), "steps": steps}, build)


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


NEEDS = "nothing: its events are emulated from scikit-learn's digits"
DATASETS.register("ndigits")(DataSet(load, ("digits",), "ndigits", None, (), "built in", NEEDS))
