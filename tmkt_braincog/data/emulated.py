"""Frames of the recordings that the emulated camera makes of many images, on all cores, cached."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from ..errors import UserError
from .assemble import Images, fingerprint
from .base import LoadSpec, Split, TransferData
from .cache import Writer, cached
from .camera import EventCamera
from .emulator import emulate
from .events import columns
from .frames import apply_mode, to_frames
from .parallel import decode_files
from .preparation import Preparation

PIXELS_AT_ONCE = 70_000  # simulated together: small enough for the processor's cache
STATISTICS = ("n_events", "duration_us", "width", "height", "n_unsorted")


def images_at_once(camera: EventCamera) -> int:
    """How many images are best simulated together."""
    return max(1, PIXELS_AT_ONCE // (camera.sensor[0] * camera.sensor[1]))


def emulated_frames(
    images: np.ndarray,
    steps: int,
    camera: EventCamera,
    name: str,
    ids: Sequence[int] | np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """``frames`` ``[S, T, 2, H, W]`` of one recording per image, and their statistics ``[S]``.

    Args:
        images: ``[S, h, w]`` uint8.
        steps: T.
        name: what they are, for the cache folder and the progress bar.
        ids: numbers of the recordings, see :func:`~tmkt_braincog.data.emulator.emulate`.

    Returns:
        Counts, uint8 or int16, and int64 statistics by the names of
        :class:`~tmkt_braincog.data.recordings.Recordings`.

    Raises:
        UserError: images that do not fit the camera, or more time-steps than it simulates.
    """
    if steps > camera.duration_us // camera.step_us:
        raise UserError(
            f"T = {steps} is more than the {camera.duration_us // camera.step_us} steps that the "
            "emulated camera simulates: lower --step, or the camera's step_us."
        )
    pixels = hashlib.sha256(images.tobytes()).hexdigest()
    ids = np.arange(len(images)) if ids is None else np.asarray(ids)
    numbers = hashlib.sha256(ids.tobytes()).hexdigest()
    key = {"images": pixels, "ids": numbers, "shape": images.shape, "steps": steps}
    key["camera"] = camera.key()
    what = f"{name}: emulating"
    return cached(
        f"{name}-emulated", key, lambda out: _build(out, images, ids, steps, camera, what)
    )


def emulated_set(
    images: Images,
    camera: EventCamera,
    spec: LoadSpec,
    *,
    source: str,
    target: str,
    classes: Sequence[str],
    names: list[str],
    train: np.ndarray,
    test: np.ndarray,
    static_train: np.ndarray,
    file_ids: np.ndarray | None = None,
    published: Split | None = None,
    ids: np.ndarray | None = None,
) -> TransferData:
    """A data set whose recording k is emulated from image k, which is its twin."""
    arrays = emulated_frames(images.pixels, spec.steps, camera, target, ids)
    frames, every = apply_mode(arrays.pop("frames"), spec.mode), np.arange(len(images.labels))
    return TransferData(
        source=source,
        target=target,
        classes=tuple(classes),
        frames=torch.from_numpy(frames),
        labels=torch.from_numpy(images.labels),
        names=names,
        file_ids=every if file_ids is None else file_ids,
        images=torch.from_numpy(images.pixels),
        image_labels=torch.from_numpy(images.labels.copy()),
        resized=images.resized,
        twins=every.copy(),
        train=train,
        test=test,
        static_train=static_train,
        statistics=arrays,
        published=published,
        emulated=True,
        preparation=Preparation(
            spec.steps,
            mode=spec.mode,
            sensor=camera.sensor,
            fingerprint=fingerprint(frames, images.labels, images),
        ),
    )


def _build(
    out: Writer, images: np.ndarray, ids: np.ndarray, steps: int, camera: EventCamera, what: str
) -> None:
    (width, height), S = camera.sensor, len(images)
    at_once = images_at_once(camera)
    most = camera.duration_us / camera.refractory_us  # of a pixel, but for noise
    counts = out.create(
        "frames", (S, steps, 2, height, width), np.uint8 if most < 200 else np.int16
    )
    statistics = {s: out.create(s, (S,), np.int64) for s in STATISTICS}

    def record(first: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(first, first + at_once)
        made = emulate(images[part], ids[part].tolist(), camera)
        frames = [_frames(events, steps, camera) for events in made]
        spans = [int(e["t"][-1] - e["t"][0]) if len(e) else 0 for e in made]
        return np.stack(frames).astype(counts.dtype), np.array([list(map(len, made)), spans])

    firsts = range(0, S, at_once)
    for first, (frames, values) in zip(
        firsts, decode_files(record, firsts, what, delay=20), strict=True
    ):
        part = slice(first, first + len(frames))
        counts[part] = frames
        for statistic, column in zip(STATISTICS, (*values, width, height, 0), strict=True):
            statistics[statistic][part] = column


def _frames(events: np.ndarray, steps: int, camera: EventCamera) -> np.ndarray:
    if not len(events):  # no contrast and no noise
        return np.zeros((steps, 2, *camera.sensor[::-1]), np.int16)
    return to_frames(columns(events), steps, camera.sensor)
