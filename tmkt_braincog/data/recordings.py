"""Turn many ``.bin`` recordings into one array of frames, cached."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import UserError
from .cache import cached
from .events import check_events, read_bin, warn_unsorted
from .frames import narrow, to_frames

DECODE_VERSION = 1
PROGRESS_FROM = 2000  # files; below it decoding takes about a second


def load_recordings(
    files: Sequence[Path], steps: int, sensor_size: tuple[int, int], name: str = "recordings"
) -> np.ndarray:
    """Frames of ATIS ``.bin`` files, in the files' order, from the cache where nothing has changed.

    Logs one warning if timestamps ran backwards.

    Args:
        files: R paths.
        steps: T.
        sensor_size: (W, H) in pixels.
        name: the data set, for the cache folder and messages.

    Returns:
        ``[R, T, 2, H, W]`` uint8 counts (int16 where one exceeds 255), channel 0 OFF, 1 ON.

    Raises:
        UserError: a file is missing, empty, truncated or has events outside the sensor.
    """
    digest = files_digest(files)
    key = {"files": digest, "steps": steps, "sensor": list(sensor_size), "version": DECODE_VERSION}
    arrays = cached(f"{name}-frames", key, lambda: decode_recordings(files, steps, sensor_size, name))
    warn_unsorted(int(arrays["n_unsorted"].sum()), int(np.count_nonzero(arrays["n_unsorted"])), name)
    return arrays["frames"]


def decode_recordings(
    files: Sequence[Path], steps: int, sensor_size: tuple[int, int], name: str
) -> dict[str, np.ndarray]:
    """``frames`` as :func:`load_recordings` returns them and ``n_unsorted``, ``[R]`` int64 per file."""
    width, height = sensor_size
    frames = np.zeros((len(files), steps, 2, height, width), np.uint8)
    n_unsorted = np.zeros(len(files), np.int64)
    progress = tqdm(files, desc=f"{name}: events to frames", disable=len(files) <= PROGRESS_FROM)
    for i, path in enumerate(progress):
        events, n_unsorted[i] = check_events(read_bin(path), sensor_size, str(path))
        one = narrow(to_frames(events, steps, sensor_size))
        if one.dtype.itemsize > frames.dtype.itemsize:
            frames = frames.astype(one.dtype)
        frames[i] = one
    return {"frames": frames, "n_unsorted": n_unsorted}


def files_digest(files: Sequence[Path]) -> str:
    """SHA-256 over path, size and modification time of each file, in order."""
    digest = hashlib.sha256()
    for path in files:
        try:
            stat = path.stat()
        except OSError as error:
            raise UserError(
                f"Cannot find {path} ({error}). Check the folder, or download it again."
            ) from None
        digest.update(f"{path.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
