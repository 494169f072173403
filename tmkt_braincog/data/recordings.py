"""Files of events to one array of frames, on all cores, cached."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError
from .cache import Writer, cached, files_digest
from .events import Events, check_events
from .frames import framed, narrow
from .parallel import decode_files

log = logging.getLogger(__name__)

FRAMES_VERSION = 1
STATISTICS = ("n_events", "duration_us", "width", "height", "n_unsorted")


@dataclass(frozen=True)
class FrameSpec:
    """How the recordings of a data set become frames: all that shapes them, and so the cache's key.

    Attributes:
        read: ``read(path)``: one (events, (W, H)) per recording in the file, in order. The
            arguments of a partial function are part of the key.
        steps: T.
        size: side in pixels after bilinear resizing; None: the sensor's, the same for all.
        mode: see :func:`~tmkt_braincog.data.frames.apply_mode`.
        crop: rows and columns to keep, (first row, end, first column, end); None: all.
        per_file: recordings in each file: one number, or a tuple with that of every file.
        version: of ``read``; raise it when its events change.
    """

    read: Callable[[Path], Iterable[tuple[Events, tuple[int, int]]]]
    steps: int
    size: int | None = None
    mode: str = "count"
    crop: tuple[int, int, int, int] | None = None
    per_file: int | tuple[int, ...] = 1
    version: int = 1

    def key(self) -> dict[str, Any]:
        """As JSON values."""
        rest, read = asdict(self), self.read
        del rest["read"]
        if isinstance(read, partial):
            rest, read = {**rest, **read.keywords}, read.func
        reader = f"{read.__module__}.{read.__qualname__}"
        return {"reader": reader, "frames_version": FRAMES_VERSION, **rest}


class Recordings(NamedTuple):
    """Of R recordings: frames ``[R, T, 2, H, W]`` and statistics, ``[R]`` int64 each by name."""

    frames: np.ndarray
    statistics: dict[str, np.ndarray]


def load_recordings(
    files: Sequence[Path], spec: FrameSpec, name: str, root: Path, also: Sequence[Path] = ()
) -> Recordings:
    """Frames of all recordings in ``files``, in order, from the cache where nothing has changed.

    Warns of timestamps that ran backwards, and of recordings that are too short for T frames.

    Args:
        files: paths under ``root``; a data set that is moved as a whole keeps its cache.
        name: the data set, for the cache folder and messages.
        also: what else ``spec.read`` reads beside them, such as tables of times.

    Returns:
        Frames, memory-mapped: uint8 counts (int16 or int32 where one is too large), channel 0 OFF,
        1 ON; float32 where resized or a frequency. Statistics: ``n_events``, ``duration_us`` (last
        minus first time), ``width`` and ``height`` of the sensor, ``n_unsorted`` events. Files that
        are missing, damaged, or have events outside the sensor are one :class:`UserError`.
    """
    key = {"files": files_digest([*files, *also], root), **spec.key()}
    ends = np.cumsum(np.broadcast_to(spec.per_file, len(files)))  # recordings up to a file's last

    def build(out: Writer) -> None:
        made = decode_files(partial(decode, spec=spec), files, f"{name}: events to frames")
        write_frames(out, int(ends[-1]), zip(files, made, strict=True))

    arrays = cached(f"{name}-frames", key, build)
    unsorted, short = arrays["n_unsorted"], arrays["duration_us"] < spec.steps
    if unsorted.any():
        n = f"{unsorted.sum()} events in {np.count_nonzero(unsorted)} recordings"
        log.warning("%s: %s were out of order in time; they were sorted.", name, n)
    if short.any():
        first = files[int(np.searchsorted(ends, np.argmax(short), "right"))]
        text = "%s: %d recordings are shorter than %d us: their %d frames are empty; see %s."
        log.warning(text, name, short.sum(), spec.steps, spec.steps, first)
    return Recordings(arrays["frames"], {s: arrays[s] for s in STATISTICS})


def write_frames(
    out: Writer, n: int, made: Iterable[tuple[Any, tuple[np.ndarray, np.ndarray]]]
) -> None:
    """Put n recordings into the cache: what some of them are of, and what :func:`decode` gives."""
    frames: np.ndarray | None = None
    start, statistics = 0, []
    for one, (part, values) in made:
        if frames is None or part.dtype.itemsize > frames.dtype.itemsize:
            narrower, frames = frames, out.create("frames", (n, *part.shape[1:]), part.dtype)
            if narrower is not None:
                frames[:start] = narrower[:start]
        if part.shape[1:] != frames.shape[1:]:
            raise UserError(
                f"{one}: frames of {part.shape[-2:]}, expected {frames.shape[-2:]} as before."
            )
        frames[start : start + len(part)] = part
        statistics.append(values)
        start += len(part)
    if start != n:
        raise ValueError(f"{start} recordings were read, and {n} expected")
    out.add(**dict(zip(STATISTICS, np.concatenate(statistics).T, strict=True)))


def decode(path: Path, spec: FrameSpec) -> tuple[np.ndarray, np.ndarray]:
    """One file's recordings, n: frames ``[n, T, 2, H, W]`` and statistics ``[n, 5]`` int64."""
    found, statistics = [], []
    for events, sensor_size in spec.read(path):
        events, n_unsorted = check_events(events, sensor_size, str(path))
        t = events["t"]
        statistics.append((len(t), int(t[-1]) - int(t[0]), *sensor_size, n_unsorted))
        found.append(framed(events, sensor_size, spec))
    return narrow(np.stack(found)), np.array(statistics, np.int64)
