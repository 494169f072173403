"""Frames of the recordings that the emulated camera makes of many images, on all cores, cached."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from .assemble import Images, fingerprint
from .base import LoadSpec, TransferData
from .cache import Writer, cached
from .camera import EventCamera
from .emulator import emulate
from .frames import apply_mode, narrow, to_frames
from .parallel import decode_files
from .preparation import Preparation
from .recordings import write_frames

PIXELS_AT_ONCE = 70_000  # simulated together: small enough for the processor's cache


def emulate_all(
    use: Callable[[Sequence[int], list[np.ndarray]], Any],
    images: np.ndarray,
    camera: EventCamera,
    what: str,
    ids: Sequence[int] | np.ndarray | None = None,
    delay: float = 1,
) -> Iterator[Any]:
    """``use(ids, recordings)`` of one batch of images after the other; arguments as those of
    :func:`~tmkt_braincog.data.emulator.emulate` and of decode_files."""
    numbers = np.arange(len(images)) if ids is None else np.asarray(ids)
    at_once = max(1, PIXELS_AT_ONCE // (camera.sensor[0] * camera.sensor[1]))

    def record(first: int) -> Any:
        part = slice(first, first + at_once)
        own = numbers[part].tolist()
        return use(own, emulate(images[part], own, camera))

    return decode_files(record, range(0, len(images), at_once), what, delay=delay)


def emulated_frames(
    images: np.ndarray,
    steps: int,
    camera: EventCamera,
    name: str,
    ids: Sequence[int] | np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """``frames`` ``[S, T, 2, H, W]``, uint8 counts (int16 where one is too large), of a recording
    of each image, and the ``[S]`` int64 statistics of a
    :class:`~tmkt_braincog.data.recordings.Recordings`.

    Args:
        images: ``[S, h, w]`` uint8.
        steps: T.
        name: what they are, for the cache folder and the progress bar.
        ids: numbers of the recordings, see :func:`~tmkt_braincog.data.emulator.emulate`.

    Raises:
        UserError: images that do not fit the camera, or more time-steps than it simulates.
    """
    if steps > camera.duration_us // camera.step_us:
        raise UserError(
            f"T = {steps} is more than the {camera.duration_us // camera.step_us} steps that the "
            "emulated camera simulates: lower --step, or the camera's step_us."
        )
    ids = np.arange(len(images)) if ids is None else np.asarray(ids)
    pixels, numbers = (hashlib.sha256(array.tobytes()).hexdigest() for array in (images, ids))
    key = {"images": pixels, "ids": numbers, "shape": images.shape, "steps": steps}
    key["camera"] = camera.key()

    def count(ids: Sequence[int], made: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        spans = [int(e["t"][-1] - e["t"][0]) if len(e) else 0 for e in made]
        statistics = [(len(e), t, *camera.sensor, 0) for e, t in zip(made, spans, strict=True)]
        return narrow(np.stack([_frames(e, steps, camera) for e in made])), np.array(statistics)

    def build(out: Writer) -> None:
        made = emulate_all(count, images, camera, f"{name}: emulating", ids, delay=20)
        write_frames(out, len(images), enumerate(made))

    return cached(f"{name}-emulated", key, build)


def _frames(events: np.ndarray, steps: int, camera: EventCamera) -> np.ndarray:
    if not len(events):  # no contrast and no noise
        return np.zeros((steps, 2, *camera.sensor[::-1]), np.int16)
    return to_frames(events, steps, camera.sensor)


def emulated_set(
    images: Images, camera: EventCamera, spec: LoadSpec, target: str, **fields: Any
) -> TransferData:
    """A data set whose recording k is emulated from image k, which is its twin.

    Args:
        fields: the other fields of the TransferData that its images do not say.
    """
    arrays = emulated_frames(images.pixels, spec.steps, camera, target)
    frames, every = apply_mode(arrays.pop("frames"), spec.mode), np.arange(len(images.labels))
    mark = fingerprint(frames, images.labels, images)
    fields["classes"] = tuple(fields["classes"])
    return TransferData(
        target=target,
        frames=torch.from_numpy(frames),
        labels=torch.from_numpy(images.labels),
        images=torch.from_numpy(images.pixels),
        image_labels=torch.from_numpy(images.labels.copy()),
        resized=images.resized,
        twins=every.copy(),
        statistics=arrays,
        emulated=True,
        preparation=Preparation(spec.steps, mode=spec.mode, sensor=camera.sensor, fingerprint=mark),
        **{"file_ids": every, **fields},
    )
