"""Read and check address events: (x, y, t, p), time in microseconds, polarity 1 = ON.

Events are four columns of equal length E: a dict of arrays as the readers here return it, or any
structured array with these field names, such as tonic's.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import UserError

Events = Mapping[str, np.ndarray]  # or a structured array: indexed by the same names

EVENT_DTYPE = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.int8)])

BYTES_PER_EVENT = 5
TIMER_MARK_Y = 240  # a record with this y is no event: the sensor's 13-bit timer wrapped
TIMER_PERIOD_US = 2**13
MAX_SPAN_US = 3_600_000_000  # recordings of these data sets last seconds
MAX_SIDE = 2048  # pixels of a sensor; frames of a larger one take gigabytes


def make_events(x: np.ndarray, y: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Join four ``[E]`` integer columns into one ``[E]`` array of :data:`EVENT_DTYPE`."""
    events = np.empty(len(t), EVENT_DTYPE)
    events["x"], events["y"], events["t"], events["p"] = x, y, t, p
    return events


def read_bin(path: str | Path, sensor_size: tuple[int, int] | None = None) -> Events:
    """Read one ATIS ``.bin`` recording, the format of N-MNIST and N-Caltech101.

    Five bytes per event: x, y, one bit of polarity and 23 bits of time, most significant byte first
    (Orchard et al. 2015, "Converting static image datasets to spiking neuromorphic datasets using
    saccades"). A record with y = 240 marks a timer overflow and adds 2**13 us to every later event.
    Values equal those of ``tonic.io.read_mnist_file``.

    Returns:
        Columns x, y (int16, pixels), t (int64, us), p (uint8, 0 OFF, 1 ON) of length E >= 1, in the
        file's order.

    Raises:
        UserError: missing, empty or truncated file; event outside the sensor (W, H), where given.
    """
    try:
        raw = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"No recording at {path}, or one that cannot be read: {error}.") from error
    if not raw.size or raw.size % BYTES_PER_EVENT:
        raise UserError(
            f"{path} is {'truncated' if raw.size else 'empty'}: {raw.size} bytes; 5 per event were "
            "expected. Download or copy it again."
        )
    records = raw.reshape(-1, BYTES_PER_EVENT)
    t = (records[:, 2] & 127).astype(np.int64)
    for byte in (3, 4):
        t <<= 8
        t |= records[:, byte]
    is_mark = records[:, 1] == TIMER_MARK_Y
    if is_mark.any():
        t += TIMER_PERIOD_US * np.cumsum(is_mark)
        records, t = records[~is_mark], t[~is_mark]
    if not len(t):
        raise UserError(f"{path} holds no event, only timer marks. Download the recording again.")
    x, y = (records[:, column].astype(np.int16) for column in (0, 1))
    events: Events = {"x": x, "y": y, "t": t, "p": records[:, 2] >> 7}
    if sensor_size is not None:
        _check_range(events, sensor_size, str(path))
    return events


def columns(events: np.ndarray) -> Events:
    """A structured array as a dict of its columns."""
    return {name: events[name] for name in "xytp"}


def to_bin(events: Events) -> bytes:
    """Events (x, y to 239, t to 8.3 s) as the bytes of a file that :func:`read_bin` reads."""
    x, y, t, p = (np.asarray(events[column]).astype(np.int64) for column in "xytp")
    if len(t) and (max(x.max(), y.max()) >= TIMER_MARK_Y or t.max() >= 2**23 or t.min() < 0):
        raise UserError(
            f"Events with x to {x.max()}, y to {y.max()}, t from {t.min()} to {t.max()} us do not "
            f"fit a .bin file: x, y below {TIMER_MARK_Y} and t from 0 to {2**23 - 1} are expected."
        )
    parts = (x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255)
    return np.stack(parts, 1).astype(np.uint8).tobytes()


def _check_range(events: Events, sensor_size: tuple[int, int], name: str) -> None:
    width, height = sensor_size
    if max(sensor_size) > MAX_SIDE:
        raise UserError(
            f"{name} is of a sensor of {width} x {height} pixels, or has an event far from the "
            f"others; at most {MAX_SIDE} a side were expected. Get the recording again."
        )
    x, y, p = events["x"], events["y"], events["p"]
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height) | (p < 0) | (p > 1)
    if outside.any():
        first = int(np.argmax(outside))
        raise UserError(
            f"{name}: {int(outside.sum())} of {len(p)} events lie outside the {width} x {height} "
            f"sensor; the first is event {first} with x={x[first]}, y={y[first]}, p={p[first]} (0 "
            "or 1 was expected). Check that the file belongs to this data set."
        )


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
    if not len(events["t"]):
        raise UserError(f"{name} holds no event; at least one was expected. Replace the recording.")
    _check_range(events, sensor_size, name)
    t = events["t"]
    n_unsorted = int(np.count_nonzero(t[1:] < t[:-1]))
    if n_unsorted:
        order = np.argsort(t, kind="stable")
        events = {column: events[column][order] for column in "xytp"}
    first, last = int(events["t"][0]), int(events["t"][-1])
    if last - first > MAX_SPAN_US:
        raise UserError(
            f"{name} has times from {first} to {last} us; at most an hour ({MAX_SPAN_US} us) was "
            "expected. Check that they are in microseconds, or get the recording again."
        )
    return events, n_unsorted
