"""Read and check address events: x, y in pixels, t in microseconds, p = 1 for ON.

Readers give columns of equal length E >= 1 in the file's order: x, y (int16), t (int64), p (uint8);
all else takes any structured array with these field names as well, such as tonic's. For a file that
is missing, damaged or of another format they raise a :class:`UserError` that names it.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import aedat
import numpy as np
from scipy.io import loadmat

from ..errors import UserError

Events = Mapping[str, np.ndarray]  # or a structured array: indexed by the same names

EVENT_DTYPE = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.int8)])
COLUMNS = {"x": np.int16, "y": np.int16, "t": np.int64, "p": np.uint8}

MAX_SPAN_US = 3_600_000_000  # recordings of these data sets last seconds
MAX_SIDE = 2048  # pixels of a sensor; frames of a larger one take gigabytes
MAT_RANGES = {"x": (0, 2**15 - 1), "y": (0, 2**15 - 1), "ts": (-(2**62), 2**62), "p": (-1, 1)}

MARK_Y = 240  # of a .bin file: a record with this y is no event, the 13-bit timer wrapped


def make_events(x: np.ndarray, y: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Join four ``[E]`` integer columns into one ``[E]`` array of :data:`EVENT_DTYPE`."""
    events = np.empty(len(t), EVENT_DTYPE)
    events["x"], events["y"], events["t"], events["p"] = x, y, t, p
    return events


def read_bin(path: str | Path) -> Events:
    """One ATIS ``.bin`` recording, the format of N-MNIST and N-Caltech101.

    Five bytes per event: x, y, one bit of polarity and 23 bits of time, most significant byte first
    (Orchard et al. 2015, "Converting static image datasets to spiking neuromorphic datasets using
    saccades"). A record with y = 240 marks a timer overflow and adds 2**13 us to every later event.
    Values equal those of ``tonic.io.read_mnist_file``.
    """
    try:
        raw = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"No recording at {path}, or one that cannot be read: {error}.") from error
    if raw.size % 5:
        raise UserError(f"{path} is truncated: {raw.size} bytes, not 5 per event. Get it again.")
    records = raw.reshape(-1, 5)
    t = (records[:, 2] & 127).astype(np.int64)
    for byte in (3, 4):
        t <<= 8
        t |= records[:, byte]
    is_mark = records[:, 1] == MARK_Y
    if is_mark.any():
        t += 2**13 * np.cumsum(is_mark)
        records, t = records[~is_mark], t[~is_mark]
    if not len(t):
        raise UserError(f"{path} is empty, or holds only timer marks. Get it again.")
    x, y = (records[:, column].astype(np.int16) for column in (0, 1))
    return {"x": x, "y": y, "t": t, "p": records[:, 2] >> 7}


def columns(events: np.ndarray) -> Events:
    """A structured array as a dict of its columns."""
    return {name: events[name] for name in "xytp"}


def to_bin(events: Events) -> bytes:
    """Events (x, y to 239, t to 8.3 s) as the bytes of a file that :func:`read_bin` reads."""
    x, y, t, p = (np.asarray(events[column]).astype(np.int64) for column in "xytp")
    if len(t) and (max(x.max(), y.max()) >= MARK_Y or t.max() >= 2**23 or t.min() < 0):
        raise UserError(
            f"Events with x to {x.max()}, y to {y.max()}, t from {t.min()} to {t.max()} us do not "
            f"fit a .bin file: x, y below {MARK_Y} and t from 0 to {2**23 - 1} are expected."
        )
    parts = (x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255)
    return np.stack(parts, 1).astype(np.uint8).tobytes()


def read_mat(path: str | Path) -> Events:
    """The variables ``x``, ``y``, ``ts`` (us) and ``p`` of a MATLAB file of version 4 to 7.

    Each a row or column of whole numbers of any type; p in {0, 1} or {-1, 1}, where -1 becomes 0.
    """
    try:
        with warnings.catch_warnings(action="error"):
            found = loadmat(str(path), appendmat=False, variable_names=list(MAT_RANGES))
    except Exception as error:  # damaged files fail in many ways
        raise UserError(
            f"Cannot read {path}: {error}. A MATLAB file of version 4 to 7 was expected. Get it "
            "again; one of version 7.3 save with save(FILE, 'x', 'y', 'ts', 'p', '-v7')."
        ) from error
    columns = []
    for name, (low, high) in MAT_RANGES.items():
        array = found.get(name)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            raise UserError(f"{path} holds no numbers called {name}; x, y, ts, p expected.")
        with np.errstate(invalid="ignore"):
            wrong = ~((array >= low) & (array <= high) & (array % 1 == 0))
        if wrong.any() or not array.size or array.size != max(array.shape):
            raise UserError(
                f"{path} holds {name} of shape {array.shape} with {int(wrong.sum())} values such "
                f"as {array[wrong][:1]}; a column of whole numbers in {low}..{high} was expected."
            )
        columns.append(array.reshape(-1))
    lengths, polarities = [len(column) for column in columns], np.unique(columns[3])
    if len(set(lengths)) > 1 or {-1, 0} <= set(polarities):
        raise UserError(
            f"{path} holds {lengths} x, y, ts and p, of the polarities {polarities.tolist()}; one "
            "of each per event, and 0, 1 or -1, 1 were expected."
        )
    columns[3] = columns[3] > 0
    return {n: c.astype(dtype) for (n, dtype), c in zip(COLUMNS.items(), columns, strict=True)}


def read_aedat4(path: str | Path) -> tuple[Events, tuple[int, int]]:
    """The lowest-numbered stream of events of an AEDAT4 file, and the sensor's (W, H) by the file.

    Format: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-4.0.html.
    Nothing tells that a file that was not closed, and so has no table, was cut after a packet.
    """
    try:
        decoder = aedat.Decoder(str(path))
        streams = {i: s for i, s in decoder.id_to_stream().items() if s["type"] == "events"}
        first = min(streams, default=None)
        parts = [p["events"] for p in decoder if p["stream_id"] == first and len(p["events"])]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the decoder is not an Exception
        raise UserError(
            f"Cannot read {path}: {error}. It is missing, truncated or damaged; get it again."
        ) from None
    if first is None or not parts:
        raise UserError(f"{path} holds no event. Check that it belongs to this data set.")
    names = zip(COLUMNS.items(), ("x", "y", "t", "on"), strict=True)
    events = {n: np.concatenate([p[of].astype(dtype) for p in parts]) for (n, dtype), of in names}
    return events, (streams[first]["width"], streams[first]["height"])


def shift_to_origin(events: Events) -> tuple[Events, tuple[int, int]]:
    """The events (E >= 1) moved to x, y >= 0, and the (W, H) that they then span.

    Recordings that are of the sizes of their images are each their own sensor, as in BrainCog.
    """
    x, y = (events[axis] - events[axis].min() for axis in ("x", "y"))
    return {**{c: events[c] for c in "tp"}, "x": x, "y": y}, (int(x.max()) + 1, int(y.max()) + 1)


def check_events(events: Events, sensor_size: tuple[int, int], name: str) -> tuple[Events, int]:
    """Events of any reader (sensor of (W, H) pixels), stably sorted by time, and how many were not.

    Raises:
        UserError: no events in recording ``name``, one outside the sensor, or more than an hour.
    """
    x, y, t, p = (events[column] for column in "xytp")
    width, height = sensor_size
    if not len(t):
        raise UserError(f"{name} holds no event. Replace the recording.")
    if max(sensor_size) > MAX_SIDE:
        raise UserError(
            f"{name} is of a sensor of {width} x {height} pixels, or has an event far from the "
            f"others; at most {MAX_SIDE} a side were expected. Get the recording again."
        )
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height) | (p < 0) | (p > 1)
    if outside.any():
        i = int(np.argmax(outside))
        raise UserError(
            f"{name}: {int(outside.sum())} of {len(p)} events lie outside the {width} x {height} "
            f"sensor: seen were x from {x.min()} to {x.max()} and y from {y.min()} to {y.max()}, "
            f"expected 0 to {width - 1} and 0 to {height - 1}; the first is event {i} with "
            f"x={x[i]}, y={y[i]}, p={p[i]} (0 or 1 was expected). Check that the file belongs to "
            "this data set, or give the (W, H) of the sensor that recorded it."
        )
    n_unsorted = int(np.count_nonzero(t[1:] < t[:-1]))
    if n_unsorted:
        order = np.argsort(t, kind="stable")
        events = {column: events[column][order] for column in "xytp"}
    first, last = int(t.min()), int(t.max())
    if last - first > MAX_SPAN_US:
        raise UserError(
            f"{name} has times from {first} to {last} us; at most an hour ({MAX_SPAN_US} us) was "
            "expected. Check that they are in microseconds, or get the recording again."
        )
    return events, n_unsorted
